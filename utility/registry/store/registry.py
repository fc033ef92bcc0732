"""Reads and changes of the registry: revision, snapshot, numbers of controllers, removed meters."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select, union

from commonwatt.model.ids import unsigned64
from commonwatt.model.units import ControllerId, MicrogridId, Quarter
from commonwatt.model.validation import limits_of
from utility.database.checks import sound_rows
from utility.database.database import read_setting, save_setting, upsert
from utility.registry.accounts import Holding
from utility.registry.snapshot import MeterEntry, RegistrySnapshot
from utility.registry.tables import collector, controller, holding, installed, may_manage, meter

# Setting that each change of the registry increments, so that a running service loads it again.
REVISION = "registry_revision"
NOBODY = 0  # number of an unregistered or unknown controller; registered controllers' numbers begin at 1


def registry_revision(connection: Connection) -> int:
    """Return the number of changes of the registry."""
    return int(read_setting(connection, REVISION) or 0)


def registry_changed(connection: Connection) -> None:
    """Increment the registry's revision."""
    save_setting(connection, REVISION, str(registry_revision(connection) + 1))


def load_snapshot(connection: Connection) -> RegistrySnapshot:
    """Read the registry.

    Raises:
        DamagedError: A row of a meter or a holding is damaged.
    """
    holdings = load_holdings(connection)
    controllers = connection.execute(select(controller.c.id, controller.c.number, controller.c.kind)).all()
    stores = stores_of(connection)
    return RegistrySnapshot(
        revision=registry_revision(connection),
        controllers={row.id: row.number for row in controllers},
        public=frozenset(row.id for row in controllers if row.kind == "public"),
        meters={
            unsigned64(row.id): MeterEntry(
                no=row.no,
                microgrid=row.microgrid,
                record_types=frozenset(map(int, row.record_types.split(","))),
                holdings=tuple(holdings.get(row.id, ())),
                limits=limits_of(row.service_amps, row.battery_capacity),
                backups=stores.get(row.microgrid, frozenset()) - {row.microgrid},
            )
            for row in sound_rows(connection, meter)
        },
        closed=closed_microgrids(connection),
    )


def stores_of(connection: Connection, only: MicrogridId | None = None) -> dict[MicrogridId, frozenset[ControllerId]]:
    """Return the controllers that may have the data of each microgrid, or of one, if they are more than its own."""
    found: dict[MicrogridId, frozenset[ControllerId]] = {}
    for row in connection.execute(_STORES if only is None else _STORES_OF_ONE, {} if only is None else {"only": only}):
        found[row.microgrid] = found.get(row.microgrid, frozenset({row.microgrid})) | {row.controller}
    return found


_TABLES = (may_manage, collector)
_STORES = union(*(select(each.c.microgrid, each.c.controller) for each in _TABLES))
_STORES_OF_ONE = union(
    *(select(each.c.microgrid, each.c.controller).where(each.c.microgrid == bindparam("only")) for each in _TABLES)
)


def load_holdings(connection: Connection, which: ColumnElement[bool] | None = None) -> dict[int, list[Holding]]:
    """Return which accounts had each meter when, in order of time, by the meter's signed id.

    Args:
        which: The condition of the rows of ``holding``; ``None``: all.
    """
    found: dict[int, list[Holding]] = {}
    for row in sound_rows(connection, holding, which):
        found.setdefault(row.meter, []).append(Holding(account=row.account, start=row.since, end=row.until))
    return found


def controller_numbers(connection: Connection) -> dict[str, int]:
    """Return the number of each controller, by its id."""
    return {row.id: row.number for row in connection.execute(select(controller.c.id, controller.c.number))}


def keep_places(connection: Connection, table: Table, orders: Mapping[MicrogridId, Sequence[ControllerId]]) -> int:
    """Store the places of controllers in the order of each microgrid; return how many rows changed.

    A controller that is in no order any more has no place, and may still relay what it has.

    Args:
        table: ``may_manage`` or ``collector``.
        orders: The controllers of each microgrid, the first one first.
    """
    wanted = {(microgrid, name): place for microgrid, order in orders.items() for place, name in enumerate(order)}
    there = {(row.microgrid, row.controller): row.place for row in connection.execute(select(table))}
    changed = {key: wanted.get(key) for key in there | wanted if there.get(key, -1) != wanted.get(key)}
    if changed:
        rows = [{"microgrid": m, "controller": c, "place": place} for (m, c), place in changed.items()]
        connection.execute(upsert(connection, table, "place"), rows)
    return len(changed)


_IS_REMOVED = installed.c.until.is_not(None)
_NUMBERS = select(meter.c.id, meter.c.no).where(meter.c.id.in_(select(installed.c.meter).where(_IS_REMOVED)))


def removed_meters(connection: Connection) -> dict[int, Quarter]:
    """Return the first quarter without the meter, by the number of each meter with a date of removal.

    Raises:
        DamagedError: A row is damaged; with a wrong date, missing readings would not be requested.
    """
    numbers = {row.id: row.no for row in connection.execute(_NUMBERS)}
    found = sound_rows(connection, installed, _IS_REMOVED)
    return {numbers[row.meter]: row.until for row in found if row.meter in numbers}


def closed_microgrids(connection: Connection) -> dict[MicrogridId, Quarter]:
    """Return the first quarter without any meter, by each microgrid whose meters all have a date of removal."""
    rows = connection.execute(
        select(meter.c.microgrid, func.max(installed.c.until).label("until"))
        .outerjoin(installed, installed.c.meter == meter.c.id)
        .group_by(meter.c.microgrid)
        .having(func.count(installed.c.until) == func.count())
    )
    return {row.microgrid: row.until for row in rows}
