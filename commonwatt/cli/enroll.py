"""``commonwatt enroll``: certificates for brokers and devices, from the operator's own authority (P8).

It works in the folder that ``commonwatt utility register --out`` wrote.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from commonwatt.identity.authority import (
    BROKER_DAYS,
    BROKER_FILE,
    DEVICE_DAYS,
    DEVICE_FILE,
    FOLDER,
    ISSUED_FILE,
    Authority,
    Issued,
    Wanted,
)
from commonwatt.identity.certificates import Kind
from commonwatt.identity.devices import (
    Device,
    Role,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import host_fault
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.clock import wall_clock
from commonwatt.runtime.service import errors_reported, flowing, only_one

DAY_S = 86_400

METERS_FOLDER = "meter-certificates"

app = typer.Typer(
    no_args_is_help=True, help="Certificates for TLS: an authority of your own, for brokers, gateways and meters."
)

OutOption = Annotated[Path, typer.Option("--out", help="The folder that `commonwatt utility register` wrote.")]
DaysOption = Annotated[int, typer.Option("--days", min=1, max=3650, help="Days for which the certificates are valid.")]


@app.command("authority")
@flowing
def make_authority(
    out: OutOption,
    name: Annotated[str, typer.Option(help="The authority's name in its certificates.")] = "Commonwatt",
) -> None:
    """Make the certificate authority, once, in OUT/authority; it is valid for ten years.

    OUT/authority/ca-key.pem can sign certificates that all devices accept: keep OUT where only you can read
    it, and copy to each machine only that machine's folder.
    """
    with errors_reported(), _alone(out):
        made = Authority.create(out, name, _now())
        typer.echo(f"{out / FOLDER}: authority {name}, valid until {_day(made.expires)}")


@app.command("broker")
@flowing
def enroll_broker(
    place: Annotated[str, typer.Argument(help="The broker's folder in OUT: `head-end`, or a microgrid's id.")],
    out: OutOption,
    address: Annotated[list[str], typer.Option("--address", help="A host name or IP address for the certificate.")],
    days: DaysOption = BROKER_DAYS,
) -> None:
    """Make a broker's certificate, OUT/PLACE/broker.pem, and the files to verify the certificates of devices.

    Name every address to which gateways or meters connect: they reject any other address.
    """
    with errors_reported(), _alone(out):
        _check_place(out, place)
        for one in address:
            if fault := host_fault(one):
                raise ConfigError(f"--address {one!r}: {fault}")
        wanted = Wanted(
            kind=Kind.BROKER,
            name=place,
            file=f"{place}/{BROKER_FILE}",
            lifetime_s=days * DAY_S,
            addresses=tuple(address),
        )
        _told(Authority.load(out).issue([wanted], _now()))


@app.command("device")
@flowing
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
    with errors_reported(), _alone(out):
        devices = _devices(out)
        if all_ == bool(identities):
            raise ConfigError("name the devices, or give --all, not both")
        names = identities or [d.identity for d in devices.values() if d.role in DEVICE_FILE and not d.revoked]
        wanted = [_wanted(out, devices, name, days * DAY_S) for name in names]
        _told(Authority.load(out).issue(wanted, _now()))


@app.command()
@flowing
def renew(
    out: OutOption,
    within: Annotated[int, typer.Option(min=0, max=3650, help="Renew certificates that expire so soon, in days.")] = 30,
) -> None:
    """Renew every certificate that expires soon or has expired, for the same lifetime; running parts load it.

    Call it every day: 0 4 * * * commonwatt enroll renew --out /srv/commonwatt
    """
    with errors_reported(), _alone(out):
        revoked = {d.identity for d in _devices(out).values() if d.revoked}
        _told(Authority.load(out).renew(_now(), within * DAY_S, revoked))


WithMetersOption = Annotated[
    bool, typer.Option("--with-meters", help="With a gateway: also revoke all meters of its microgrid.")
]


@app.command()
@flowing
def revoke(
    identity: Annotated[str, typer.Argument(help="A gateway (a microgrid's id), a meter, or `utility`.")],
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

    If a controller is stolen, revoke its broker's certificate too, with --broker. If the meters' secrets were on it,
    revoke them with --with-meters.
    """
    with errors_reported(), _alone(out):
        authority = Authority.load(out) if broker or (out / FOLDER / ISSUED_FILE).exists() else None
        if broker:
            _check_place(out, identity)
            kind, names, changed = Kind.BROKER, [identity], []
        else:
            kind, names = Kind.DEVICE, _names(_devices(out), identity, with_meters=with_meters)
            changed = _mark(out, names, lambda device: replace(device, revoked=device.revoked or reason))
        revoked = [entry for name in names if authority for entry in authority.revoke(name, reason, _now(), kind)]
        typer.echo(f"{identity}: {len(revoked)} certificates revoked, marked in {len(changed)} devices files")
        read_by = {path.parent for path in changed} if kind is Kind.DEVICE else _clients_of(out, identity)
        lists = [path for path in authority.lists() if path.parent in read_by] if authority and revoked else []
        for path in [*changed, *lists]:
            typer.echo(f"  {path}")


@app.command()
@flowing
def readmit(
    identity: Annotated[str, typer.Argument(help="A gateway, meter, or `utility`, that was revoked.")],
    out: OutOption,
    with_meters: WithMetersOption = False,
) -> None:
    """Admit a revoked device again, with a new token; the old token and certificates stay invalid."""
    with errors_reported(), _alone(out):
        devices = _devices(out)
        names = [name for name in _names(devices, identity, with_meters=with_meters) if devices[name].revoked]
        if not names:
            raise ConfigError(f"{identity} is not revoked")
        tokens = {name: new_token() for name in names}
        files = {path: load_tokens(path) for path in sorted(out.glob("*/*-tokens.json"))}
        if lost := [name for name in names if not any(name in held for held in files.values())]:
            raise ConfigError(f"{lost[0]} has no token in {out}; first: commonwatt utility register")
        for path, held in files.items():
            if new := {name: token for name, token in tokens.items() if name in held}:
                save_tokens(path, held | new)
                typer.echo(f"  {path}: new tokens of {len(new)}")
        for path in _mark(out, names, lambda device: _taken_in(device, tokens[device.identity].encode())):
            typer.echo(f"  {path}")
        typer.echo(f"{identity}: in again; for a certificate: commonwatt enroll device {identity} --out {out}")


def _taken_in(device: Device, token: bytes) -> Device:
    return replace(device, revoked="", token_sha256=digest(token), mosquitto=mosquitto_digest(token))


@app.command("list")
@flowing
def list_issued(
    out: OutOption, as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False
) -> None:
    """List every certificate: holder, expiry and revocation."""
    with errors_reported():
        authority = Authority.load(out)
        rows = [_row(entry, _now()) for entry in authority.issued]
        if as_json:
            typer.echo(json.dumps(rows, indent=1))
            return
        title = f"the authority is valid until {_day(authority.expires)}"
        table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
        for column in ("name", "kind", "expires", "state", "number", "file"):
            table.add_column(column, overflow="fold", no_wrap=column in ("name", "expires"))
        for row in rows:
            state = str(row["state"]) + (f": {row['reason']}" if row["reason"] else "")
            table.add_row(row["name"], row["kind"], row["expires"][:10], state, row["number"][:8], row["file"])
        Console().print(table)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Lock ``out``: a scheduled renewal and a person's command must not run at the same time."""
    if not out.is_dir():
        raise ConfigError(f"{out}: no such folder; make it with: commonwatt utility register --out {out}")
    with only_one(out / FOLDER, "another enrolment"):
        yield


def _devices(out: Path) -> dict[str, Device]:
    """Return every device of every broker in ``out``."""
    return {i: d for path in sorted(out.glob("*/devices.json")) for i, d in load_devices(path).items()}


def _check_place(out: Path, place: str) -> None:
    """Raise an error unless ``place`` is the plain name of a broker's folder."""
    places = sorted(path.parent.name for path in out.glob("*/devices.json"))
    if place not in places:
        raise ConfigError(f"{out / place}: no broker's folder in {out}; there are {', '.join(places[:10]) or 'none'}")


def _clients_of(out: Path, place: str) -> set[Path]:
    """Return the folders of the clients of ``place``'s broker, and its own."""
    folders = {out / (d.microgrid or UTILITY) for d in load_devices(out / place / "devices.json").values()}
    return {out / place, *folders, *(folder / METERS_FOLDER for folder in folders if folder.name == place)}


def _names(devices: dict[str, Device], identity: str, *, with_meters: bool) -> list[str]:
    """Return ``identity``, and with ``with_meters`` the meters of its microgrid."""
    if identity not in devices:
        raise ConfigError(f"{identity} is no device; of a broker's certificate say so with --broker")
    meters = [d.identity for d in devices.values() if d.role is Role.METER and d.microgrid == identity]
    return [identity, *(meters if with_meters else ())]


def _wanted(out: Path, devices: dict[str, Device], identity: str, lifetime_s: int) -> Wanted:
    device = devices.get(identity)
    if device is None:
        raise ConfigError(f"{identity} is not registered in {out}; see: commonwatt utility register")
    if device.revoked:
        raise ConfigError(f"{identity} was revoked ({device.revoked}); first: commonwatt enroll readmit {identity}")
    file = f"{device.microgrid or UTILITY}/{DEVICE_FILE.get(device.role) or f'{METERS_FOLDER}/{identity}.pem'}"
    return Wanted(kind=Kind.DEVICE, name=identity, file=file, lifetime_s=lifetime_s)


def _mark(out: Path, names: Sequence[str], change: Callable[[Device], Device]) -> list[Path]:
    """Change devices in every devices file that contains one of them; return the changed files."""
    changed = []
    for path in sorted(out.glob("*/devices.json")):
        devices = load_devices(path)
        if here := devices.keys() & set(names):
            save_devices(path, [change(d) if d.identity in here else d for d in devices.values()])
            changed.append(path)
    return changed


def _told(issued: Sequence[Issued]) -> None:
    for entry in issued:
        typer.echo(f"{entry.file}: {entry.kind} {entry.name}, valid until {_day(entry.expires)}")
    typer.echo(f"{len(issued)} certificates made")


def _row(entry: Issued, now: int) -> dict[str, str]:
    state = "revoked" if entry.revoked is not None else "expired" if entry.expires <= now else "valid"
    return {
        "name": entry.name,
        "kind": entry.kind.value,
        "expires": _moment(entry.expires),
        "state": state,
        "reason": entry.reason,
        "number": f"{entry.serial:x}",
        "file": entry.file,
    }


def _now() -> int:
    return int(wall_clock().now())


def _day(time: int) -> str:
    return _moment(time)[:10]


def _moment(time: int) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
