"""``commonwatt enroll``: certificates for brokers and devices, from the operator's own authority (P8).

It works in the folder that ``commonwatt utility register --out`` wrote.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.care.labels import refresh_joins
from commonwatt.cli.options import Commands, JsonOption
from commonwatt.cli.tables import show
from commonwatt.identity.authority import (
    BROKER_DAYS,
    BROKER_FILE,
    DEVICE_DAYS,
    DEVICE_FILE,
    FOLDER,
    Authority,
    Issued,
    Wanted,
)
from commonwatt.identity.certificates import Kind
from commonwatt.identity.devices import load_devices
from commonwatt.identity.enrolment import (
    METERS_FOLDER,
    Revoked,
    all_devices,
    alone,
    readmit_devices,
    revoke_devices,
    wanted,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from commonwatt.network.addresses import host_fault
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import machine_s
from commonwatt.town.revocation import write_revoked_list

DAY_S = 86_400

app = Commands(
    no_args_is_help=True, help="Certificates for TLS: an authority of your own, for brokers, gateways and meters."
)

OutOption = Annotated[Path, typer.Option("--out", help="The folder that `commonwatt utility register` wrote.")]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=3650, help="Days for which the certificates are valid.")]


@app.command("authority")
def make_authority(
    out: OutOption,
    name: Annotated[str, typer.Option(help="The authority's name in its certificates.")] = "Commonwatt",
) -> None:
    """Make the certificate authority, once, in OUT/authority; it is valid for ten years.

    OUT/authority/ca-key.pem can sign certificates that all devices accept: keep OUT where only you can read
    it, and copy to each machine only that machine's folder.
    """
    with alone(out):
        made = Authority.create(out, name, machine_s())
        typer.echo(f"{out / FOLDER}: authority {name}, valid until {_day(made.expires)}")


@app.command("broker")
def enroll_broker(
    place: Annotated[str, typer.Argument(help="The broker's folder in OUT: `head-end`, or a microgrid's id.")],
    out: OutOption,
    address: Annotated[list[str], typer.Option("--address", help="A host name or IP address for the certificate.")],
    days: DaysOption = BROKER_DAYS,
) -> None:
    """Make a broker's certificate, OUT/PLACE/broker.pem, and the files to verify the certificates of devices.

    Name every address to which gateways or meters connect: they reject any other address.
    """
    with alone(out):
        _check_place(out, place)
        for one in address:
            if fault := host_fault(one):
                raise ConfigError(f"--address {one!r}: {fault}")
        new = Wanted(
            kind=Kind.BROKER,
            name=place,
            file=f"{place}/{BROKER_FILE}",
            lifetime_s=days * DAY_S,
            addresses=tuple(address),
        )
        _told(Authority.load(out).issue([new], machine_s()))


@app.command("device")
def enroll_device(
    out: OutOption,
    identities: Annotated[
        list[str] | None, typer.Argument(help="Gateways (a microgrid's id), meters (their id), or `utility`.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Every gateway, and the utility.")] = False,
    days: DaysOption = DEVICE_DAYS,
) -> None:
    """Make certificates of registered devices: OUT/r001/gateway.pem, OUT/utility/utility.pem, or a meter's.

    A broker requires them if its file has clients_ca. A new certificate replaces the previous one; devices load the
    new file without a restart.
    """
    with alone(out):
        devices = all_devices(out)
        if all_ == bool(identities):
            raise ConfigError("name the devices, or give --all, not both")
        names = identities or [d.identity for d in devices.values() if d.role in DEVICE_FILE and not d.revoked]
        new = [wanted(out, devices, name, days * DAY_S) for name in names]
        _told(Authority.load(out).issue(new, machine_s()))


@app.command()
def renew(
    out: OutOption,
    within: Annotated[int, typer.Option(min=0, max=3650, help="Renew certificates that expire so soon, in days.")] = 30,
) -> None:
    """Renew every certificate that expires soon or has expired, for the same lifetime; running parts load it.

    A certificate that is not in its file, since a renewal was interrupted or the file was lost, is renewed too.

    Call it every day: 0 4 * * * commonwatt enroll renew --out /srv/commonwatt
    """
    with alone(out):
        revoked = {d.identity for d in all_devices(out).values() if d.revoked}
        _told(Authority.load(out).renew(machine_s(), within * DAY_S, revoked))


WithMetersOption = Annotated[
    bool, typer.Option("--with-meters", help="With a gateway: also revoke all meters of its microgrid.")
]


@app.command()
def revoke(
    identity: Annotated[str, typer.Argument(help="A gateway (a microgrid's id), a meter, `utility`, or `enrolment`.")],
    out: OutOption,
    reason: Annotated[str, typer.Option(help="The reason, for the log and for `list`.")],
    with_meters: WithMetersOption = False,
    broker: Annotated[
        bool,
        typer.Option("--broker", help="Revoke the certificate of this folder's broker instead, such as `head-end`."),
    ] = False,
) -> None:
    """Revoke a device's credentials: its certificates and its token.

    Brokers disconnect it within seconds after they get the printed files: revoked.pem and devices.json. Its entry in
    the town and its readings stay. `commonwatt enroll readmit` admits it again, with a new token.

    Clients whose file names revoked.pem reject a revoked broker (--broker) once they have the new list.

    `enrolment` is the enrolment authority at the utility: all that it issued ends, and `site init` makes another.

    If a controller is stolen, revoke its broker's certificate too, with --broker. If the meters' secrets were on it,
    revoke them with --with-meters.
    """
    with alone(out):
        if broker:
            _check_place(out, identity)
            authority = Authority.load(out)
            certificates = authority.revoke(identity, reason, machine_s(), Kind.BROKER)
            clients = _clients_of(out, identity)
            lists = [path for path in authority.lists() if path.parent in clients] if certificates else []
            done = Revoked(certificates=certificates, devices_files=[], lists=lists)
        elif identity == Kind.ENROLMENT:
            authority = Authority.load(out)
            serials = {entry.serial for entry in authority.issued if entry.kind is Kind.ENROLMENT}
            gone = authority.revoke_these(serials, reason, machine_s())
            done = Revoked(certificates=gone, devices_files=[], lists=authority.lists())
        else:
            done = revoke_devices(out, identity, reason, machine_s(), with_meters=with_meters)
        count, files = len(done.certificates), len(done.devices_files)
        typer.echo(f"{identity}: {count} certificates revoked, marked in {files} devices files")
        for path in [*done.devices_files, *done.lists, *write_revoked_list(out, machine_s())]:
            typer.echo(f"  {path}")
    refresh_joins(out, machine_s())


@app.command()
def readmit(
    identity: Annotated[str, typer.Argument(help="A gateway, meter, or `utility`, that was revoked.")],
    out: OutOption,
    with_meters: WithMetersOption = False,
) -> None:
    """Admit a revoked device again, with a new token; the old token and certificates stay invalid."""
    with alone(out):
        tokens, changed = readmit_devices(out, identity, with_meters=with_meters)
        for path, count in tokens.items():
            typer.echo(f"  {path}: new tokens of {count}")
        for path in [*changed, *write_revoked_list(out, machine_s())]:
            typer.echo(f"  {path}")
        typer.echo(f"{identity}: in again; for a certificate: commonwatt enroll device {identity} --out {out}")


@app.command("list")
def list_issued(
    out: OutOption,
    as_json: JsonOption = False,
) -> None:
    """List every certificate: holder, expiry and revocation."""
    authority = Authority.load(out)
    rows = [_row(entry, machine_s()) for entry in authority.issued]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    typer.echo(f"the authority is valid until {_day(authority.expires)}")
    show("certificates", rows, ("name", "kind", "expires", "state", "reason", "number", "file"))


def _check_place(out: Path, place: str) -> None:
    """Raise an error unless ``place`` is the plain name of a broker's folder."""
    places = sorted(path.parent.name for path in out.glob("*/devices.json"))
    if place not in places:
        raise ConfigError(f"{out / place}: no broker's folder in {out}; there are {', '.join(places[:10]) or 'none'}")


def _clients_of(out: Path, place: str) -> set[Path]:
    """Return the folders of the clients of ``place``'s broker, and its own."""
    folders = {out / (d.microgrid or UTILITY) for d in load_devices(out / place / "devices.json").values()}
    return {out / place, *folders, *(folder / METERS_FOLDER for folder in folders if folder.name == place)}


def _told(issued: Sequence[Issued]) -> None:
    for entry in issued:
        typer.echo(f"{entry.file}: {entry.kind} {entry.name}, valid until {_day(entry.expires)}")
    typer.echo(f"{len(issued)} certificates made")


def _row(entry: Issued, now: int) -> dict[str, object]:
    state = "revoked" if entry.revoked is not None else "expired" if entry.expires <= now else "valid"
    return {
        "name": entry.name,
        "kind": entry.kind.value,
        "expires": iso(entry.expires),
        "state": state,
        "reason": entry.reason,
        "number": f"{entry.serial:x}",
        "file": entry.file,
    }


def _day(time: int) -> str:
    return iso(time)[:10]
