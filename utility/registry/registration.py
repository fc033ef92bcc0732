"""Fills the registry from a town file, and enrols every device (T8, design 9).

Doing it again after entries were appended to the town file adds what is new and changes no token. Nothing is deleted:
the readings of a meter that is gone stay its readings.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select

from commonwatt.identity.devices import (
    AUTHORITY_FOLDER,
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
from commonwatt.model.units import signed64
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.service import only_one
from commonwatt.town.registry import load_registry, registry_of, save_registry
from commonwatt.town.town import Function, Meter, Microgrid, Town
from utility.store.checks import row_crc
from utility.store.database import read_setting, save_setting
from utility.store.registry import registry_changed
from utility.store.tables import controller, meter

TOWN = "town"
"""Setting that holds the town's own figures, JSON."""


HEAD_END = "head-end"
"""Folder of the head-end broker's file."""


@dataclass(frozen=True, kw_only=True)
class Registered:
    """What a registration added to the database."""

    new_controllers: int
    new_meters: int
    changed: int


def fill_registry(connection: Connection, town: Town) -> Registered:
    """Add the town's controllers and meters to the database, and take over changes of what may change.

    Raises:
        ConfigError: The town file gives another place to a controller or a meter that is registered.
    """
    controllers = [
        {"id": m.id, "number": m.number, "kind": m.kind, "address": m.address} for m in town.microgrids.values()
    ]
    new_controllers, changed = _fill(connection, controller, controllers, "id", ("number", "kind"))
    meters = [_meter_row(m) for m in town.meters]
    fixed = ("microgrid", "function", "direction", "account")
    new_meters, changed_meters = _fill(connection, meter, meters, "label", fixed)
    figures = json.dumps(_figures(town))
    if new_controllers or new_meters or changed or changed_meters or read_setting(connection, TOWN) != figures:
        save_setting(connection, TOWN, figures)
        registry_changed(connection)
    return Registered(new_controllers=new_controllers, new_meters=new_meters, changed=changed + changed_meters)


def _fill(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], key: str, fixed: Sequence[str]
) -> tuple[int, int]:
    """Insert the new rows and update the changed ones; return how many of each."""
    known = {row[key]: row for row in connection.execute(select(table)).mappings()}
    new = [row for row in rows if row[key] not in known]
    changed = [row for row in rows if row[key] in known and any(known[row[key]][c] != row[c] for c in row)]
    for row in changed:
        for column in fixed:
            _refuse_change(f"{table.name} {row[key]}", column, known[row[key]][column], row[column])
    if new:
        connection.execute(table.insert(), new)
    if changed:
        statement = table.update().where(table.c[key] == bindparam("which"))
        connection.execute(statement, [row | {"which": row[key]} for row in changed])
    return len(new), len(changed)


def refuse_moved(town: Town, out: Path) -> None:
    """Refuse a town file that gives another place to what is registered by the files below ``out``.

    Raises:
        ConfigError: As it says; or a file there can't be read, so that nobody knows.
    """
    meters = {entry.id: entry for entry in town.meters}
    for path in sorted(out.glob("*/registry.json")):
        try:
            registered = load_registry(path)
        except ConfigError as error:
            text = f"{error}\n{path}: put a good one there from your copy, or delete it, and register again"
            raise ConfigError(text) from error
        for known in registered.meters:
            if (entry := meters.get(known.id)) is not None:
                what = f"{path}: meter {entry.id}"
                _refuse_change(what, "microgrid", registered.microgrid, entry.microgrid)
                _refuse_change(what, "function", known.function.value, entry.function.value)
                _refuse_change(what, "direction", known.direction.value, entry.direction.value)
                _refuse_change(what, "account", known.account, entry.account)
        if (microgrid := town.microgrids.get(registered.microgrid)) is not None:
            _refuse_change(f"{path}: controller {microgrid.id}", "number", registered.number, microgrid.number)


def _refuse_change(what: str, of: str, was: object, now: object) -> None:
    if was == now:
        return
    told = f"{what} is registered with {of} {was}, and the town file now says {now}; "
    if of == "account":
        told += f"its records name {of} {was}, those still at the meter too, and would be refused: "
    raise ConfigError(
        f"{told}entries may be appended, never moved, changed or taken out: put the file back as it was and add at its "
        "end"
    )


def _meter_row(entry: Meter) -> dict[str, Any]:
    row = {
        "id": signed64(entry.id),
        "label": str(entry.id),
        "microgrid": entry.microgrid,
        "address": entry.address,
        "location": entry.location,
        "function": entry.function.value,
        "direction": entry.direction.value,
        "account": entry.account,
        "record_types": ",".join(str(int(kind)) for kind in entry.record_types),
        "service_amps": entry.service_amps,
        "battery_capacity": entry.battery.capacity if entry.battery else None,
        "minimum_percent": entry.battery.minimum_percent if entry.battery else None,
        "push": entry.push,
    }
    return row | {"crc": row_crc(meter, row)}


def _figures(town: Town) -> dict[str, object]:
    """Return the town's own figures, for people and the demonstration; boundary meters are not among its meters."""
    counted = [m for m in town.meters if m.function is not Function.BOUNDARY]
    return {
        "name": town.table.name,
        "timezone": town.table.timezone,
        "controllers": len(town.microgrids),
        "meters": len(counted),
        "boundary_meters": len(town.meters) - len(counted),
        "batteries": sum(m.battery is not None for m in counted),
        "accounts": town.accounts,
        "average_w": town.average_w,
        "battery_capacity_mwh": town.battery_capacity,
        "peak_start_hour": town.table.peak_start_hour,
        "peak_end_hour": town.table.peak_end_hour,
        "peak_factor": town.table.peak_factor,
    }


def enrol(town: Town, out: Path, track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]] = iter) -> int:
    """Write every device's token and every broker's devices below ``out``; return how many tokens are new.

    Args:
        town: The town.
        out: The folder; tokens found in it stay as they are.
        track: Shows a person how far it is.

    Raises:
        ConfigError: A token file that is there can't be read, the town file moves what is registered there, or
            another command works in the folder.
    """
    if taken := {UTILITY, HEAD_END, AUTHORITY_FOLDER} & town.microgrids.keys():
        raise ConfigError(f"microgrid {min(taken)} has the name of a folder of the utility; give it another id")
    # Who is revoked meanwhile must not be taken in again by what was read before.
    with only_one(out / AUTHORITY_FOLDER, "another enrolment"):
        refuse_moved(town, out)
        return _enrol(town, out, track)


def _enrol(town: Town, out: Path, track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]]) -> int:
    gateways: dict[str, str] = {}
    made = 0
    for microgrid in track(list(town.microgrids.values())):
        gateways[microgrid.id], new = _enrol_microgrid(microgrid, _folder(out / microgrid.id))
        made += new
    own, new = _tokens(_folder(out / UTILITY) / "utility-tokens.json", [UTILITY])
    devices = [_device(identity, Role.GATEWAY, identity, token) for identity, token in gateways.items()]
    devices.append(_device(UTILITY, Role.UTILITY, "", own[UTILITY]))
    _save(_folder(out / HEAD_END) / "devices.json", devices)
    return made + new


def _enrol_microgrid(microgrid: Microgrid, folder: Path) -> tuple[str, int]:
    """Write the files of one microgrid; return its gateway's token and how many tokens are new."""
    meters, new_meters = _tokens(folder / "meter-tokens.json", [str(m.id) for m in microgrid.meters])
    gateway, new_gateway = _tokens(folder / "gateway-tokens.json", [microgrid.id])
    # The tokens are on disk before a broker asks for them.
    devices = [_device(str(m.id), Role.METER, microgrid.id, meters[str(m.id)]) for m in microgrid.meters]
    devices.append(_device(microgrid.id, Role.GATEWAY, microgrid.id, gateway[microgrid.id]))
    _save(folder / "devices.json", devices)
    save_registry(folder / "registry.json", registry_of(microgrid))
    return gateway[microgrid.id], new_meters + new_gateway


def _tokens(path: Path, identities: Sequence[str]) -> tuple[dict[str, str], int]:
    """Return the tokens in ``path``, with one made and written for each identity that had none."""
    tokens = load_tokens(path) if path.exists() else {}
    new = [identity for identity in identities if identity not in tokens]
    if new:
        tokens |= {identity: new_token() for identity in new}
        save_tokens(path, tokens)
    return tokens, len(new)


def _device(identity: str, role: Role, microgrid: str, token: str) -> Device:
    secret = token.encode()
    return Device(
        identity=identity,
        role=role,
        microgrid=microgrid,
        token_sha256=digest(secret),
        mosquitto=mosquitto_digest(secret),
    )


def _save(path: Path, devices: Sequence[Device]) -> None:
    """Write a devices file; who was revoked stays so (``commonwatt enroll readmit`` ends that)."""
    known = load_devices(path) if path.exists() else {}
    save_devices(path, [replace(d, revoked=known[d.identity].revoked if d.identity in known else "") for d in devices])


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
