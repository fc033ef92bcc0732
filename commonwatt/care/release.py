"""A release file: a package that the town's offline authority signed; and one that root installs by hand.

``NAME.release`` is a line of JSON, the manifest; a line with its signature, hexadecimal; and the Debian package.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from pydantic import Field, ValidationError

from commonwatt.care.installing import FOLDER, NEW, RESULT, Installing, Outside, alone, machine, read_state
from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.files import replace_file, replacing
from commonwatt.site.machine import fields_of

if TYPE_CHECKING:
    from commonwatt.identity.authority import Authority

PURPOSE = "release"
MOST_BYTES = 1 << 28  # most bytes of a package
_HEADER_BYTES = 8 * 1024  # most bytes of the two lines


class ReleaseManifest(Settings):
    """What the authority signs of a release."""

    package: str = Field(pattern="^commonwatt-(controller|utility)$")  # the package's name
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.+~-]{0,23}$")  # its version, as Debian writes it
    architecture: str = Field(pattern="^[a-z0-9]{1,16}$")  # the processor that it is for
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # the package's checksum
    size_bytes: int = Field(gt=0, le=MOST_BYTES)  # its bytes


@dataclass(frozen=True, kw_only=True)
class ReleaseFile:
    """A release file that was read; its signature is not checked yet."""

    text: str  # the manifest's line
    signature: str  # its signature, hexadecimal
    manifest: ReleaseManifest  # the manifest
    begin: int  # where the package begins in the file, bytes


def sign(package: Path, authority: "Authority") -> Path:
    """Write the release file of a package into this folder; return its path.

    Raises:
        ConfigError: It is no package of ours, or too large.
    """
    (name, number, architecture), content = fields_of(package), package.read_bytes()
    try:
        manifest = ReleaseManifest(
            package=name,
            version=number,
            architecture=architecture,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
        )
    except ValidationError as error:
        raise ConfigError(f"{package}: is no package of Commonwatt: {error.errors()[0]['msg']}") from error
    text = manifest.model_dump_json()
    path = Path(f"{package.name.removesuffix('.deb')}.release")
    with replacing(path, mode=0o644) as file:
        file.write(f"{text}\n{authority.signature(PURPOSE, text.encode()).hex()}\n".encode())
        file.write(content)
    return path


def read(path: Path) -> ReleaseFile:
    """Read the head of a release file.

    Raises:
        ConfigError: It is missing or none.
    """
    try:
        with path.open("rb") as file:
            text, signature, _ = file.read(_HEADER_BYTES).split(b"\n", 2)
        manifest = ReleaseManifest.model_validate_json(text)
        begin = len(text) + len(signature) + 2
        return ReleaseFile(text=text.decode(), signature=signature.decode("ascii"), manifest=manifest, begin=begin)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no release file; make it at the office with: commonwatt site sign") from error


def check(text: str, signature: str, authority: bytes) -> ReleaseManifest:
    """Return a manifest after a check that the authority (PEM) signed it.

    Raises:
        ConfigError: It did not, or the text is none.
    """
    try:
        # Loaded with the first release: the library takes 15 MiB.
        from commonwatt.identity.certificates import check_signed

        check_signed(authority, PURPOSE, text.encode(), bytes.fromhex(signature))
        return ReleaseManifest.model_validate_json(text)
    except ValueError as error:
        raise ConfigError("the release has no readable manifest or signature") from error


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
