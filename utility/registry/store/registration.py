"""Fills the registry in the database from a town file (T8).

A second registration, after entries were appended to the town file, adds the new ones. Nothing is deleted: the readings
of a removed meter remain under its id.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, MeterId, signed64, unsigned64
from commonwatt.town.town import Function, Meter, Town, average_w
from utility.database.checks import row_crc
from utility.database.database import read_setting, save_setting
from utility.database.engines import Lock, take
from utility.database.town_zone import TOWN
from utility.registry.store.accounts import add_town, rename_places
from utility.registry.store.registry import keep_places, registry_changed
from utility.registry.tables import collector, controller, holding, meter


@dataclass(frozen=True, kw_only=True)
class RegisteredCounts:
    """Counts of the rows that a registration added or changed."""

    new_controllers: int
    new_meters: int
    changed: int


def fill_registry(connection: Connection, town: Town, now: EpochSeconds = 0) -> RegisteredCounts:
    """Add the town's controllers and meters to the database, and update the columns that may change.

    The accounts of a new town have their meters from the beginning; those of meters added later, from ``now`` on.

    Raises:
        ConfigError: The town file moves a registered controller or meter, or changes a column that must not change.
    """
    take(connection, Lock.REGISTRY)
    controllers = [
        {"id": m.id, "number": m.number, "kind": m.kind, "address": m.address} for m in town.microgrids.values()
    ]
    new_controllers, changed = _fill(connection, controller, controllers, "id", ("number", "kind"))
    meters = [_meter_row(m) for m in town.meters]
    registered, places = _accounts_of_meters(connection), _places_of_meters(connection)
    _refuse_undated(connection, town, registered)
    fixed = ("microgrid", "function", "direction")
    new_meters, changed_meters = _fill(connection, meter, meters, "label", fixed)
    add_town(connection, town, now, registered)
    rename_places(connection, {m.id: (places[m.id], m.location) for m in town.meters if m.id in places}, now)
    figures = json.dumps(_figures(town))
    changed += keep_places(connection, collector, town.collectors)
    if new_controllers or new_meters or changed or changed_meters or read_setting(connection, TOWN) != figures:
        save_setting(connection, TOWN, figures)
        registry_changed(connection)
    return RegisteredCounts(new_controllers=new_controllers, new_meters=new_meters, changed=changed + changed_meters)


def _fill(
    connection: Connection, table: Table, rows: Sequence[dict[str, Any]], key: str, fixed: Sequence[str]
) -> tuple[int, int]:
    """Insert the new rows and update the changed ones; return how many of each."""
    known = {row[key]: row for row in connection.execute(select(table)).mappings()}
    new = [row for row in rows if row[key] not in known]
    changed = [row for row in rows if row[key] in known and any(known[row[key]][c] != row[c] for c in row)]
    for row in changed:
        for column in fixed:
            refuse_change(f"{table.name} {row[key]}", column, known[row[key]][column], row[column])
    if new:
        connection.execute(table.insert(), new)
    if changed:
        statement = table.update().where(table.c[key] == bindparam("which"))
        connection.execute(statement, [row | {"which": row[key]} for row in changed])
    return len(new), len(changed)


def _accounts_of_meters(connection: Connection) -> dict[MeterId, AccountNumber]:
    rows = connection.execute(select(meter.c.id, meter.c.account))
    return {unsigned64(row.id): row.account for row in rows}


def _places_of_meters(connection: Connection) -> dict[MeterId, str]:
    return {unsigned64(row.id): row.location for row in connection.execute(select(meter.c.id, meter.c.location))}


def _refuse_undated(connection: Connection, town: Town, registered: Mapping[MeterId, AccountNumber]) -> None:
    """Refuse another account of a registered meter, unless the dated registry has it."""
    changed = [m for m in town.meters if registered.get(m.id, m.account) != m.account]
    if not changed:
        return
    held = connection.execute(select(holding.c.meter, holding.c.account)).all()
    dated = {(unsigned64(row.meter), row.account) for row in held}
    for entry in changed:
        if (entry.id, entry.account) not in dated:
            refuse_change(f"meter {entry.id}", "account", registered[entry.id], entry.account)


def refuse_change(what: str, of: str, was: object, now: object) -> None:
    """Refuse the change of a value that must stay as registered."""
    if was == now:
        return
    told = f"{what} is registered with {of} {was}, and the town file now says {now}; "
    if of == "account":
        told += "a move is dated with `commonwatt accounts import`; else "
    raise ConfigError(
        f"{told}entries may be appended, never moved, changed or removed: restore the file and append at its end"
    )


def _meter_row(entry: Meter) -> dict[str, Any]:
    same = ("microgrid", "address", "location", "account", "service_amps", "push")
    row = {name: getattr(entry, name) for name in same} | {
        "id": signed64(entry.id),
        "label": str(entry.id),
        "function": entry.function.value,
        "direction": entry.direction.value,
        "record_types": ",".join(str(int(kind)) for kind in entry.record_types),
        "battery_capacity": entry.battery.capacity if entry.battery else None,
        "minimum_percent": entry.battery.minimum_percent if entry.battery else None,
    }
    return row | {"crc": row_crc(meter, row)}


def _figures(town: Town) -> dict[str, object]:
    """Return the town's figures, for people and the demonstration; ``meters`` does not count boundary meters."""
    installed = town.installed
    counted = [m for m in installed if m.function is not Function.BOUNDARY]
    return {
        "name": town.table.name,
        "timezone": town.table.timezone,
        "language": town.table.language or "",
        "currency": town.table.currency,
        "controllers": len(town.microgrids),
        "street": next(iter(town.microgrids)) if len(town.microgrids) == 1 else "",
        "meters": len(counted),
        "boundary_meters": len(installed) - len(counted),
        "batteries": sum(m.battery is not None for m in counted),
        "accounts": town.accounts,
        "average_w": town.average_w,
        "battery_capacity_mwh": town.battery_capacity,
        "peak_start_hour": town.table.peak_start_hour,
        "peak_end_hour": town.table.peak_end_hour,
        "peak_factor": town.table.peak_factor,
        "charging_loss_permille": town.table.charging_loss_permille,
        "average_w_of": {f.value: average_w(town.table, f) for f in Function if average_w(town.table, f)},
    }
