"""Installs a controller's package that root names on its own machine, with the verdict and the way back of the unit."""

from collections.abc import Callable
from pathlib import Path
from secrets import token_hex

from commonwatt.care.installing import FOLDER, NEW, RESULT, Installing, Outside, alone, machine, read_state
from commonwatt.model.exceptions import CommonwattError
from commonwatt.runtime.files import replace_file


def install_by_hand(
    package: Path, version: str, say: Callable[[str], None], folder: Path = FOLDER, outside: Outside | None = None
) -> None:
    """Install a package that was not fetched: root vouches for it, in place of a signature.

    Args:
        version: The package's version.
        say: Takes lines for the technician.
        folder: Root's folder of upgrades.
        outside: The machine; ``None``: this one.

    Raises:
        CommonwattError: Another upgrade lasts, or it was not installed, or went back; the text says why.
    """
    installing = Installing(folder=folder, outside=outside or machine())
    with alone(folder):
        if (state := read_state(folder)) is not None:
            raise CommonwattError(f"the upgrade to {state['version']} lasts; see: journalctl -u upgrade-commonwatt")
        replace_file(folder / NEW, package.read_bytes(), mode=0o644)
        before = installing.outside.installed()
        installing.begin({"id": f"by hand {token_hex(8)}", "version": version, "before": before})
        say("  installing; its gateway gives a verdict within ten minutes")
        installing.go_on()
        result = read_state(folder, RESULT) or {}
    if result.get("result") != "done":
        raise CommonwattError(f"{result.get('result')}: {result.get('why')}; data waits, nothing is lost")
    say("  done")
