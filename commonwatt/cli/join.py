"""``commonwatt join``: this controller joins its town by the code on its label."""

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.care.connection import PORT, CareRefused
from commonwatt.care.joining import KEYS_FILE, join
from commonwatt.care.words import Invitation
from commonwatt.cli.site import install
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import host_fault
from commonwatt.runtime.clock import machine_s
from commonwatt.site.machine import Machine

FILE = "commonwatt-join.txt"  # the label's text, on the boot partition
_BOOT = ("/boot/firmware", "/boot")


def join_command(
    words: Annotated[
        list[str] | None, typer.Argument(help="The eight words of the label, or the text of its QR code.")
    ] = None,
    utility: Annotated[str | None, typer.Option(help="The utility's address on the label: HOST or HOST:PORT.")] = None,
    file: Annotated[
        Path | None, typer.Option(help="A file with the label's text; it is deleted after joining.")
    ] = None,
    root: Annotated[
        Path, typer.Option(help="Install below this folder, such as a mounted card, and start nothing.")
    ] = Path("/"),
) -> None:
    """Join the town by the label's one-time code: get certificates, settings and tokens, and start the services.

    The keys are made on this machine and never leave it. Without words and --file, the file commonwatt-join.txt on the
    boot partition is read. The utility is refused if it is not the one of the label. If the answer is lost, the
    same command works again within an hour; after that the office makes a new label.
    """
    machine = Machine.at(root)
    there = [found for folder in _BOOT if (found := machine.path(folder) / FILE).exists()]
    path = file or (there[0] if there and not words else None)
    if path is None and not words:
        raise ConfigError(f"give the eight words of the label, or put its text into {_BOOT[0]}/{FILE}")
    try:
        invitation = Invitation.parse(" ".join(words or ()) if path is None else path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if utility is not None or not invitation.addresses:
        address = _address(utility or typer.prompt("The utility's address on the label"))
        invitation = replace(invitation, addresses=(address,))
    try:
        unpacking = join(invitation, machine, version("commonwatt"), machine_s())
    except CareRefused as error:
        # Another exit code than of a broken line, after which the unit tries again.
        raise ConfigError(f"refused: {error}") from error
    install(machine, unpacking)
    (machine.state / KEYS_FILE).unlink()
    if path is not None:
        path.unlink()
    typer.echo(f"{unpacking.place} has joined {unpacking.bundle.manifest.town}. The label's code is used; destroy it.")


def _address(text: str) -> str:
    """Return an address with its port."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal():
        host, port = text.strip(), str(PORT)
    if fault := host_fault(host.strip("[]")):
        raise ConfigError(f"--utility {text!r}: {fault}")
    return f"{host}:{port}"
