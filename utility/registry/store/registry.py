"""The registry: revision, snapshot, numbers of controllers, removed meters; and what meters reported (T6)."""

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Table,
    bindparam,
    delete,
    exists,
    func,
    insert,
    select,
    union,
)

from commonwatt.model.units import ControllerId, EpochSeconds, MeterId, MicrogridId, Quarter, signed64, unsigned64
from commonwatt.model.validation import limits_of
from utility.database.checks import sound_rows
from utility.database.database import count_rows, read_setting, save_setting, upsert
from utility.outbox.changes import ToldAccount
from utility.registry.accounts import Holding
from utility.registry.columns import Differing
from utility.registry.snapshot import MeterEntry, RegistrySnapshot
from utility.registry.tables import (
    account_difference,
    collector,
    controller,
    declared_minimum,
    holding,
    installed,
    may_manage,
    meter,
    present_minimum,
)

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


def controllers(connection: Connection) -> list[ControllerId]:
    """Return the names of all controllers, in the order of their numbers."""
    return list(connection.execute(select(controller.c.id).order_by(controller.c.number)).scalars())


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


_SAID, _NOW, _PERCENT = (bindparam(name, type_=BigInteger) for name in ("when", "now", "what"))
_NUMBER = select(meter.c.no).where(meter.c.label == bindparam("who")).scalar_subquery()
_ITS_MINIMUM = declared_minimum.c.meter_no == _NUMBER
# A report from a time to come was made by a meter whose clock was ahead.
_DROP_MINIMA_AHEAD = delete(declared_minimum).where(_ITS_MINIMUM, declared_minimum.c.said > _NOW)
# A report of the same minimum, or one older than the last, adds nothing.
_ADD_MINIMUM = insert(declared_minimum).from_select(
    ["meter_no", "percent", "said"],
    select(meter.c.no, _PERCENT, _SAID)
    .where(meter.c.label == bindparam("who"))
    .where(~exists().where(declared_minimum.c.meter_no == meter.c.no, declared_minimum.c.said >= _SAID))
    .where(~exists().where(present_minimum.c.meter_no == meter.c.no, present_minimum.c.percent == _PERCENT)),
)


def declare_minima(connection: Connection, reports: Sequence[tuple[EpochSeconds, MeterId, int, EpochSeconds]]) -> None:
    """Keep reported minima: each the present time, the meter, its minimum in percent, and when it reported it."""
    rows = [
        {"now": now, "who": str(meter_id), "what": percent, "when": said} for now, meter_id, percent, said in reports
    ]
    if rows:
        connection.execute(_DROP_MINIMA_AHEAD, rows)
        connection.execute(_ADD_MINIMUM, rows)


MOST_OF_A_METER = 10  # accounts that are listed for one meter; further ones are counted in one row
OTHERS = -1  # the account of the row for all further ones


def count_differences(connection: Connection, found: Sequence[ToldAccount]) -> None:
    """Count records whose account differs from the registered one."""
    if not found:
        return
    which = account_difference.c.meter.in_({signed64(one.meter) for one in found})
    rows = connection.execute(select(account_difference).where(which)).mappings()
    listed: dict[int, dict[int, dict[str, int]]] = {}
    for row in rows:
        listed.setdefault(row["meter"], {})[row["told"]] = dict(row)
    for one in found:
        known = listed.setdefault(signed64(one.meter), {})
        told = one.told if one.told in known or len(known.keys() - {OTHERS}) < MOST_OF_A_METER else OTHERS
        same = {"meter": signed64(one.meter), "told": told}
        counts = known.setdefault(told, same | {"first": one.time, "last": one.time, "reports": 0})
        counts["registered"] = one.registered
        counts["first"], counts["last"] = min(counts["first"], one.time), max(counts["last"], one.time)
        counts["reports"] += 1
    statement = upsert(connection, account_difference, "registered", "first", "last", "reports")
    connection.execute(statement, [counts for known in listed.values() for counts in known.values()])


def count_of_differences(connection: Connection) -> int:
    """Return how many differences are listed."""
    return count_rows(connection, account_difference)


def account_differences(connection: Connection, limit: int, skipped: int = 0) -> list[Differing]:
    """Return at most ``limit`` differences after the first ``skipped``, newest first."""
    statement = select(account_difference).order_by(account_difference.c.last.desc(), account_difference.c.meter)
    return [
        Differing(
            **dict(row)
            | {"meter": str(unsigned64(row["meter"])), "told": "others" if row["told"] == OTHERS else row["told"]}
        )
        for row in connection.execute(statement.limit(limit).offset(skipped)).mappings()
    ]
