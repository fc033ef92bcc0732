"""``commonwatt enroll``: revokes and readmits devices, and lists the certificates of the operator's own authority (P8).

It works in the folder of ``commonwatt site init``, which makes the authority and its certificates.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.care.labels import refresh_joins
from commonwatt.cli.options import Commands, JsonOption, show
from commonwatt.clique.revocation import write_revoked_list
from commonwatt.identity.authority import Authority, Issued
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import load_devices
from commonwatt.identity.enrolment import (
    METERS_FOLDER,
    Revocation,
    all_devices,
    alone,
    readmit_devices,
    revoke_devices,
    wanted,
)
from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import machine_s

app = Commands(no_args_is_help=True, help="Devices' certificates: revoke, readmit, list, and meters' own.")

OutOption = Annotated[Path, typer.Option("--out", help="The folder of `commonwatt site init`.")]


@app.command("device")
def enroll_device(
    out: OutOption,
    identities: Annotated[list[str], typer.Argument(help="Meters (their id), gateways (a microgrid's id), `utility`.")],
) -> None:
    """Make certificates of single devices, such as meters that need one: OUT/r001/meter-certificates/10001.pem.

    `commonwatt site init` makes and renews those of controllers and of the utility. A broker requires certificates if
    its file has clients_ca. A new certificate replaces the previous one; devices load the new file without a restart.
    """
    with alone(out):
        devices = all_devices(out)
        issued = Authority.load(out).issue([wanted(out, devices, name) for name in identities], machine_s())
        for entry in issued:
            typer.echo(f"{entry.file}: {entry.kind} {entry.name}, valid until {_day(entry.expires)}")


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

    Clients whose file names revoked.pem reject a revoked broker (--broker) once they have the new list. `site init`
    makes it another certificate.

    `enrolment` is the enrolment authority at the utility: all that it issued ends, and `site init` makes another.

    If a controller is stolen, revoke its broker's certificate too, with --broker. If the meters' secrets were on it,
    revoke them with --with-meters.
    """
    with alone(out):
        if broker:
            _check_place(out, identity)
            authority = Authority.load(out)
            certificates = authority.revoke(identity, reason, machine_s(), Purpose.BROKER)
            clients = _clients_of(out, identity)
            lists = [path for path in authority.lists() if path.parent in clients] if certificates else []
            done = Revocation(certificates=certificates, devices_files=[], lists=lists)
        elif identity == Purpose.ENROLMENT:
            authority = Authority.load(out)
            serials = {entry.serial for entry in authority.issued if entry.kind is Purpose.ENROLMENT}
            gone = authority.revoke_these(serials, reason, machine_s())
            done = Revocation(certificates=gone, devices_files=[], lists=authority.lists())
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
