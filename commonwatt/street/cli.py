"""The command ``commonwatt street``."""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.service import lock_file
from commonwatt.site.machine import Machine
from commonwatt.street.folder import PARTS_FILE, link_of, pages_of, prepare

UNIT = "commonwatt-street.service"  # it is in the package of Debian
UNIT_FOLDER = Path("/var/lib/commonwatt-street/site")  # its folder
_UNITS = "/usr/lib/systemd/system"


def street(
    site: Annotated[
        Path, typer.Option("--site", help="The street's folder, with all of its files and secrets.")
    ] = Path("site"),
    lan: Annotated[
        bool, typer.Option("--lan", help="Serve the pages, and a broker of our own, to the home network in plain text.")
    ] = False,
    link: Annotated[bool, typer.Option("--link", help="Print where the pages are, and start nothing.")] = False,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="First make the folder from this backup of a street; asks for its passphrase."),
    ] = None,
    service: Annotated[
        bool, typer.Option("--service", help="Have systemd run it, now and at each start of the machine (root).")
    ] = False,
) -> None:
    """Run your own street on this machine: brokers, gateway, adapter and utility; the rest is done in the browser.

    It prints a link that opens the pages. Ctrl-C ends all; the same command starts again where it was.
    """
    if service:
        _start_service()
        return
    if link:
        if not (site / PARTS_FILE).exists():
            raise ConfigError(f"{site}: no street is there; start it by the same command without --link")
        typer.echo(link_of(site))
        return
    if from_ is not None:
        from commonwatt.street.backup import check_backup, restore  # It loads much.

        check_backup(from_)
    is_new = not site.exists()
    try:
        site.mkdir(parents=True, exist_ok=True)
        lock = lock_file(site / "street", shared=False)
    except BlockingIOError as error:
        where = f"commonwatt street --link --site {shlex.quote(str(site))}"
        raise ConfigError(f"{site}: this street runs already; where its pages are: {where}") from error
    except OSError as error:
        raise ConfigError(f"{site}: {error.strerror}; give the street another folder: --site PATH") from error
    if from_ is not None:
        try:
            restore(site, from_, typer.prompt("Passphrase of the backup", hide_input=True))
        except BaseException:
            lock.close()
            if is_new:
                shutil.rmtree(site)
            raise
        typer.echo("The street that was backed up must not run any more: both would command the same batteries.")
    prepare(site, lan=lan, say=print)
    # A small process takes this one's place, and its lock.
    os.set_inheritable(lock.fileno(), True)
    sys.stdout.flush()
    command = [sys.executable, "-m", "commonwatt.street.keeper", str(site.resolve()), pages_of(site)]
    os.execv(sys.executable, command)  # noqa: S606 - our own command


def _start_service() -> None:
    """Enable and start the package's unit, and print the link when the pages answer."""
    machine = Machine.at(Path("/"))
    if not machine.runs or not machine.path(f"{_UNITS}/{UNIT}").exists():
        raise ConfigError("systemd and the package commonwatt-utility bring the service; without: commonwatt street")
    if subprocess.run(["systemctl", "enable", "--now", UNIT], check=False).returncode:
        raise CommonwattError("the service does not start; it says why: journalctl -u commonwatt-street -n 20")
    typer.echo(link_of(UNIT_FOLDER))
