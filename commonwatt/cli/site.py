"""``commonwatt site``: a town's files and bundles from its site file; ``commonwatt join``: a controller joins."""

import shlex
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.care.code import Invitation
from commonwatt.care.connection import PORT, CareRefused
from commonwatt.care.joining import join, keep
from commonwatt.care.labels import SHEET, end_label, make_labels, refresh_joins
from commonwatt.care.placed import take
from commonwatt.care.release import install_by_hand
from commonwatt.care.release import sign as sign_release
from commonwatt.cli.options import Commands
from commonwatt.identity.authority import Authority
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import EpochSeconds
from commonwatt.network.addresses import host_fault
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import machine_s
from commonwatt.site import upgrade as upgrades
from commonwatt.site.bundle import pack as packed
from commonwatt.site.bundle import read_bundle, write_bundle
from commonwatt.site.machine import AUTHORITY, STATE, Machine
from commonwatt.site.office import certify, make_site
from commonwatt.site.places import FILE, address_of, load_site, places_of
from commonwatt.site.unpack import Unpacking, installed_on, prepare
from commonwatt.town.town import Town

app = Commands(no_args_is_help=True, help="Set up a town: all of its files, a bundle for each machine, its start.")

SiteOption = Annotated[Path, typer.Option("--site", help="The office's folder with all files and secrets of the town.")]

_SHOWN = 12  # most machines that are listed


@app.command()
def init(site: SiteOption = Path("site")) -> None:
    """Make every file of a town from SITE/site.toml: town file, authority, certificates, tokens, services' settings.

    `commonwatt config example site` prints an example of that file. Again, it makes what is missing: append a microgrid
    or a meter there, or change a key, and run it again. Ids and tokens that are there stay, and so do certificates,
    unless they expire within 30 days: those are renewed. Run it every week: 0 4 * * 1 commonwatt site init.
    """
    path = site / FILE
    if not path.exists():
        raise ConfigError(f"{path}: is missing; write it; an example: commonwatt config example site")
    site.chmod(0o700)
    town, issued = make_site(site, machine_s())
    counts = [counted(len(town.microgrids), "microgrid"), counted(len(town.meters), "meter")]
    typer.echo(", ".join([f"{site}: {counts[0]}", counts[1], counted(issued, "new certificate")]))
    _list_machines(path, town)


@app.command()
def pack(
    places: Annotated[
        list[str], typer.Argument(help="A microgrid's id for its controller, `utility`, or `utility-2`.")
    ],
    site: SiteOption = Path("site"),
) -> None:
    """Write one file, PLACE.bundle, with everything that the machine of a place needs.

    It contains secrets (keys and tokens of that machine, but no tokens of its meters): only you can read it. Carry it
    by ssh or on a USB stick, and delete it when it is installed.
    """
    for place in places:
        write_packed(site, place, machine_s())


@app.command()
def unpack(
    bundle: Annotated[
        Path | None,
        typer.Argument(help="The file that `commonwatt site pack` wrote; without it: what gateways fetched."),
    ] = None,
    authority: Annotated[
        str | None,
        typer.Option(help="The fingerprint of the town's authority, as `site pack` printed it; for a first unpack."),
    ] = None,
    root: Annotated[
        Path, typer.Option(help="Install below this folder, such as a mounted card, and start nothing.")
    ] = Path("/"),
) -> None:
    """Install a bundle on its machine: files, user, systemd units; check all, then start the services.

    Unpacking a newer bundle again replaces what changed, restarts what does not load it by itself, and keeps stores
    and data. A damaged bundle, or one of another machine, another town, another authority or a newer version is
    refused, and nothing is written. The first time it shows the fingerprint of the authority that signed the bundle,
    and wants it as --authority. Where systemd does not run, the commands that start the services are printed.
    """
    machine = Machine.at(root)
    if bundle is None:
        take(machine, partial(_unpack_fetched, machine))
        return
    now, program = machine_s(), version("commonwatt")
    unpacking = prepare(read_bundle(bundle), machine, program, now, authority=authority)
    install(machine, unpacking)
    typer.echo(f"Delete what you carried, it contains secrets: rm {shlex.quote(str(bundle))}")


def _unpack_fetched(machine: Machine, file: Path) -> None:
    """Install a bundle that root's own copy of the authority, and no file of the services, stands behind."""
    bundle, before = read_bundle(file), installed_on(machine)
    if before is not None and before.manifest.made >= bundle.manifest.made and before.manifest.says_as(bundle.manifest):
        return  # A label, or a person, brought the same.
    own = digest(machine.path(AUTHORITY).read_bytes())
    install(machine, prepare(bundle, machine, version("commonwatt"), machine_s(), authority=own))


@app.command()
def labels(
    places: Annotated[
        list[str] | None, typer.Argument(help="Controllers that get a new code; without any, those that never had one.")
    ] = None,
    site: SiteOption = Path("site"),
    revoke: Annotated[
        str | None, typer.Option("--revoke", help="End this controller's code, such as of a lost label.")
    ] = None,
) -> None:
    """Make one-time codes with which controllers join, and SITE/labels.html, a sheet with a label of each to print.

    A code works once, for 30 days. Unless the utility runs out of this folder, carry its new bundle to it before the
    first controller joins: it has what codes are checked by, and for each controller a bundle that only its code opens.
    """
    if revoke is not None:
        end_label(site, revoke, machine_s())
        typer.echo(f"{revoke}: its code has ended")
    else:
        made = make_labels(site, places or (), machine_s())
        typer.echo(f"{site / SHEET}: {counted(len(made), 'new label')}, valid 30 days. It contains secrets; print it.")
    if "site" not in load_site(site / FILE)[0].utility:  # Else it runs out of this folder.
        typer.echo(f"Next: commonwatt site pack utility{option_of(site)}, and unpack it on the utility's machine")


def install(machine: Machine, unpacking: Unpacking) -> None:
    """Install a checked bundle on its machine, start its services, and say how to see their state."""
    run_or_print(machine, unpacking.install(typer.echo), "To start the services:")
    unpacking.finish()
    parts = [UTILITY] if unpacking.place == UTILITY else ["gateway", *(["adapter"] * unpacking.has_adapter)]
    for part in parts:
        typer.echo(f"State: sudo -u commonwatt commonwatt status --config {STATE}/{unpacking.place}/{part}.toml")
    for command in () if machine.runs else unpacking.by_hand():
        typer.echo(f"Without systemd, as the files' owner: {command}")


@app.command()
def upgrade(
    package: Annotated[Path, typer.Argument(help="The package of the new version, from the office.")],
    root: Annotated[Path, typer.Option(help="The folder of another machine's files; nothing is started.")] = Path("/"),
    yes: Annotated[bool, typer.Option("--yes", help="Ask nothing.")] = False,
) -> None:
    """Upgrade this machine by a package, and wait until its service works; a controller goes back by itself otherwise.

    The utility first, then the controllers. It checks package and disk, shows the state of the service, makes a backup
    of the utility's database, and installs the package, which restarts the services. A controller's new gateway judges
    itself for up to ten minutes; after a bad verdict or none the installed release comes back, with all data. Unpack
    the new bundle afterwards. `commonwatt do fleet/rollouts` does this from the utility; docs/guides/upgrade.md.
    """
    machine = Machine.at(root)
    ready = upgrades.prepare(machine, package)
    typer.echo(f"{ready.place}: from version {ready.before} to {ready.version}")
    if machine.runs:
        typer.echo(f"  {upgrades.state_of(upgrades.status(ready))[0]}")
        if not yes:
            typer.confirm("Install it now? Only the utility before its controllers.", abort=True)
    if machine.runs and ready.place != UTILITY:
        install_by_hand(package, ready.version, typer.echo)
    else:
        run_or_print(machine, ready.commands(), "To upgrade:")
        if machine.runs:
            upgrades.wait(lambda: upgrades.status(ready), typer.echo)
    typer.echo(f"Next: sudo commonwatt site unpack {ready.place}.bundle, packed by the new version at the office")


@app.command()
def sign(
    package: Annotated[Path, typer.Argument(help="The package, as `make deb` wrote it.")],
    site: SiteOption = Path("site"),
) -> None:
    """Sign a controller's package by the town's authority: write NAME.release, for `commonwatt fleet publish`.

    Controllers install no package from afar that was not signed here.
    """
    path = sign_release(package, Authority.load(site))
    typer.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB. At the utility: commonwatt fleet publish {path}")


def write_packed(site: Path, place: str, now: EpochSeconds) -> str:
    """Write the bundle of a place into this folder, and print what it is; return the authority's fingerprint."""
    refresh_joins(site, now) if place.startswith(UTILITY) else certify(site, place, now)
    authority = Authority.load(site)
    expiries = {entry.file: entry.expires for entry in authority.current()}
    bundle = packed(site, place, now)
    path = Path(f"{place}.bundle")
    write_bundle(bundle, path, authority)
    ends = [moment(expiries[name])[:10] for name in bundle.files if name in expiries]
    typer.echo(
        f"{path}: {counted(len(bundle.files), 'file')}, version {bundle.manifest.version}, certificates until "
        f"{min(ends, default='none')}. It contains secrets of {place} (mode 0600)."
    )
    typer.echo(f"For the first unpack: --authority {bundle.manifest.authority}")
    return bundle.manifest.authority


def run_or_print(machine: Machine, commands: Iterable[list[str]], purpose: str) -> None:
    """Print a machine's commands and run them, or only print them where systemd does not run."""
    if not machine.runs:
        typer.echo(f"systemd does not run here. {purpose}")
    for command in commands:
        typer.echo(f"  {shlex.join(command)}")
        if machine.runs:
            machine.run(command)


def _list_machines(path: Path, town: Town) -> None:
    file, _ = load_site(path)
    places = places_of(file, town)
    for place in places[:_SHOWN]:
        typer.echo(f"  the machine of {place} must have the address {address_of(file, town, place)}")
    if len(places) > _SHOWN:
        typer.echo(f"  and {len(places) - _SHOWN} more")
    todo = "labels" if file.site.care is not None else f"pack {' '.join(places[:2])}"
    typer.echo(f"Next: commonwatt site {todo}{option_of(path.parent)}")


def option_of(site: Path) -> str:
    """Return the option that names the office's folder, for a command that is printed; empty for the default."""
    return "" if site == Path("site") else f" --site {shlex.quote(str(site))}"


_JOIN_FILE = "commonwatt-join.txt"  # the label's text, on the boot partition
_BOOT = ("/boot/firmware", "/boot")


def join_command(
    words: Annotated[
        list[str] | None, typer.Argument(help="The eight words of the label, or the text of its QR code.")
    ] = None,
    utility: Annotated[str | None, typer.Option(help="The utility's address on the label: HOST or HOST:PORT.")] = None,
    root: Annotated[
        Path, typer.Option(help="Install below this folder, such as a mounted card, and start nothing.")
    ] = Path("/"),
) -> None:
    """Join the town by the label's one-time code: get certificates, settings and tokens, and start the services.

    The keys are made on this machine and never leave it. Without words the file commonwatt-join.txt on the boot
    partition is read. The utility is refused if it is not the one of the label. If the answer is lost, the
    same command works again within an hour; after that the office makes a new label.
    """
    machine = Machine.at(root)
    there = [found for folder in _BOOT if (found := machine.path(folder) / _JOIN_FILE).exists()]
    path = there[0] if there and not words else None
    if path is None and not words:
        raise ConfigError(f"give the eight words of the label, or put its text into {_BOOT[0]}/{_JOIN_FILE}")
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
    if not machine.runs:
        option = "" if machine.is_own else f" --root {shlex.quote(str(root))}"
        typer.echo(f"Without systemd, what pages place for it later waits for: sudo commonwatt site unpack{option}")
    if path is not None:
        path.unlink()
    keep(invitation, machine, {})
    typer.echo(f"{unpacking.place} has joined {unpacking.bundle.manifest.town}. The label's code is used; destroy it.")


def _address(text: str) -> str:
    """Return an address with its port."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or not port.isdecimal():
        host, port = text.strip(), str(PORT)
    if fault := host_fault(host.strip("[]")):
        raise ConfigError(f"--utility {text!r}: {fault}")
    return f"{host}:{port}"
