"""Queries for people and programs, and the town as it was; a read transaction gives each one state."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from commonwatt.model.blocks import Blocks, join
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import EventRecord, RecordType
from commonwatt.model.units import (
    QUARTER_S,
    EpochSeconds,
    MeterId,
    MicrogridId,
    Quarter,
    quarter_of,
    signed64,
    unsigned64,
)
from commonwatt.protocol.controller_commands import PERIODS
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.town.town import WITHOUT, Battery, Direction, Function, Meter, Microgrid, Town, TownTable
from utility.database.database import Database, count_rows, read_setting
from utility.database.town_zone import TOWN
from utility.outbox.tables import command
from utility.readings.store.gaps import event_of, reasons_of, sound_events
from utility.readings.store.gateways import last_heartbeats
from utility.readings.store.parts import QUARTERS_AT_A_TIME, chunks, reading, select_parts
from utility.readings.tables import compacted, event, gap, gateway_seen, tally
from utility.registry.accounts import weight_at
from utility.registry.store.accounts import load_dated_registry
from utility.registry.store.registry import controllers
from utility.registry.tables import controller, holding, meter, present_minimum

# Built once: building a statement takes longer than executing it.
_READINGS = select_parts(
    lambda c: (
        c.quarter.in_(bindparam("quarters", expanding=True))
        & (c.meter_no == bindparam("number"))
        & (c.record_type == bindparam("type"))
    )
)
_WITHIN = select_parts(lambda c: c.quarter.between(bindparam("first"), bindparam("last")))


def town(connection: Connection) -> dict[str, object]:
    """Return the town's figures; empty before a registration."""
    return dict(json.loads(read_setting(connection, TOWN) or "{}"))


def meter_number(connection: Connection, meter_id: MeterId) -> int | None:
    """Return the number of a registered meter, or ``None``."""
    return connection.execute(select(meter.c.no).where(meter.c.label == str(meter_id))).scalar()


def numbers_of(connection: Connection, ids: Sequence[MeterId]) -> dict[MeterId, int]:
    """Return the numbers of registered meters, by their ids."""
    found: dict[MeterId, int] = {}
    for some in chunks(ids):
        statement = select(meter.c.id, meter.c.no).where(meter.c.id.in_([signed64(i) for i in some]))
        found |= {unsigned64(row.id): row.no for row in connection.execute(statement)}
    return found


def meter_rows(
    connection: Connection, microgrid: MicrogridId | None, after: int, limit: int, now: EpochSeconds
) -> list[dict[str, object]]:
    """Return at most ``limit`` registered meters with numbers above ``after``, in the order of their numbers.

    Each has the account that has it now; 0: nobody.
    """
    quarter = quarter_of(now)
    holds = (holding.c.since <= quarter) & (holding.c.until.is_(None) | (holding.c.until > quarter))
    held = (holding.c.meter == meter.c.id) & holds
    c, minimum = meter.c, present_minimum.c
    columns = (
        *(c.no, c.label.label("id"), c.microgrid, c.address, c.location, c.function, c.direction),
        *(func.coalesce(holding.c.account, 0).label("account"), c.record_types, c.service_amps),
        c.battery_capacity.label("battery_capacity_mwh"),
        func.coalesce(minimum.percent, c.minimum_percent).label("minimum_percent"),
        minimum.said.label("minimum_said"),
    )
    statement = select(*columns).select_from(meter).outerjoin(present_minimum).outerjoin(holding, held)
    statement = statement.where(meter.c.no > after).order_by(meter.c.no).limit(limit)
    if microgrid is not None:
        statement = statement.where(meter.c.microgrid == microgrid)
    return [
        {
            **row,
            "record_types": [int(kind) for kind in row["record_types"].split(",")],
            "without": list(WITHOUT) if row["function"] == Function.ADAPTED else [],
        }
        for row in connection.execute(statement).mappings()
    ]


def readings(database: Database, number: int, record_type: int, first: Quarter, last: Quarter) -> Blocks:
    """Return the joined blocks of one meter and record type, quarters ``first`` to ``last``."""
    with reading(database) as (connection, reader):
        found = [
            reader.read(
                connection,
                _READINGS,
                {"number": number, "type": record_type, "quarters": some},
                quarters=some,
                meters=[number],
            )
            for some in chunks(range(first, last + 1), QUARTERS_AT_A_TIME)
        ]
    return join(found)


def events(connection: Connection, number: int, meter_id: MeterId, limit: int) -> list[dict[str, object]]:
    """Return the newest events of a meter, newest first."""
    statement = select(event).where(event.c.meter_no == number).order_by(event.c.time.desc(), event.c.record_id.desc())
    return [
        {
            "meter": str(meter_id),
            "generation": row.generation,
            "id": str(unsigned64(row.record_id)),
            "time": row.time,
            "previous_state": row.previous_state,
            "new_state": row.new_state,
            "sender": row.sender,
        }
        for row in sound_events(connection.execute(statement.limit(limit)))
    ]


def gaps(connection: Connection, limit: int) -> list[dict[str, object]]:
    """Return the oldest open gaps; ``not_at``: by controller, why its store is known not to have slots of it."""
    statement = select(gap, meter.c.label, meter.c.microgrid).join(meter, meter.c.no == gap.c.meter_no)
    statement = statement.where(gap.c.is_open).order_by(gap.c.quarter, gap.c.meter_no).limit(limit)
    rows = connection.execute(statement).all()
    reasons = reasons_of(connection, [(row.meter_no, row.record_type, row.quarter) for row in rows])
    return [
        {
            "microgrid": row.microgrid,
            "meter": row.label,
            "type": row.record_type,
            "start": row.quarter * 900,
            "slots": (row.mask & ~row.absent).bit_count(),
            "absent": row.absent.bit_count(),
            "asked": row.asked,
            "next_time": row.next_time,
            "not_at": reasons.get((row.meter_no, row.record_type, row.quarter), {}),
        }
        for row in rows
    ]


def commands(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest commands to gateways, newest first."""
    columns = command.c["id", "controller", "message", "created", "until", "state", "outcome"]
    statement = select(*columns).order_by(command.c.created.desc(), command.c.id.desc()).limit(limit)
    return [
        {**row, "message": json.loads(row["message"]), "outcome": json.loads(row["outcome"] or "null")}
        for row in connection.execute(statement).mappings()
    ]


def count_open_gaps(connection: Connection) -> int:
    """Return how many blocks have slots that are still being requested."""
    return count_rows(connection, gap, gap.c.is_open)


def is_controller(connection: Connection, name: str) -> bool:
    """Return whether a controller is registered."""
    return connection.execute(select(controller.c.id).where(controller.c.id == name)).first() is not None


def count_conflicts(connection: Connection) -> int:
    """Return how many slots of compacted blocks have more than one value."""
    total = select(func.coalesce(func.sum(compacted.c.conflicts), 0)).where(compacted.c.conflicts > 0)
    return int(connection.execute(total).scalar_one())


def status(connection: Connection) -> dict[str, dict[str, object]]:
    """Return the counts and the last heartbeat of each microgrid; cheap, since it reads running counts."""
    open_gaps: dict[str, int] = dict(
        connection.execute(
            select(meter.c.microgrid, func.count())
            .join(gap, meter.c.no == gap.c.meter_no)
            .where(gap.c.is_open)
            .group_by(meter.c.microgrid)
        ).all()
    )
    conflicting: dict[str, int] = dict(
        connection.execute(
            select(controller.c.id, func.sum(compacted.c.conflicts))
            .join(compacted, compacted.c.owner_no == controller.c.number)
            .where(compacted.c.conflicts > 0)
            .group_by(controller.c.id)
        ).all()
    )
    tallies = {row.controller: row for row in connection.execute(select(tally))}
    seen = {row.controller: row for row in connection.execute(select(gateway_seen))}
    ids = controllers(connection)
    return {i: _status_of(tallies.get(i), seen.get(i), open_gaps.get(i, 0), conflicting.get(i, 0)) for i in ids}


def _status_of(counts: Any, seen: Any, open_gaps: int, conflicting: int) -> dict[str, object]:
    return {
        **{f"received_{name}": getattr(counts, name, 0) for name in ("batches", "blocks", "slots")},
        **{name: getattr(counts, name, 0) for name in ("events", "dead_letters")},
        "conflicts": int(conflicting) + getattr(counts, "event_conflicts", 0),
        "last_batch": (counts.last_batch or None) if counts else None,
        "last_seen": seen.time if seen else None,
        "heartbeat": _json_of(seen.heartbeat) if seen else None,
        "gaps_open": open_gaps,
    }


def _json_of(kept: str) -> object:
    """Return a stored heartbeat; ``None`` if it is damaged: the next arrives within a minute."""
    try:
        return json.loads(kept)
    except ValueError:
        return None


def schedules(connection: Connection) -> list[dict[str, object]]:
    """Return each gateway's periods in force, as its last heartbeat reports them; ``None`` without a heartbeat."""
    return [_schedule(*said) for said in _said(connection)]


def _said(connection: Connection) -> Iterator[tuple[MicrogridId, EpochSeconds | None, Heartbeat | None]]:
    """Yield the time and the content of each gateway's last heartbeat; ``None`` without any."""
    seen = last_heartbeats(connection)
    for name in controllers(connection):
        time, heartbeat = seen.get(name, (None, None))
        yield name, time, heartbeat


def _schedule(microgrid: MicrogridId, time: EpochSeconds | None, heartbeat: Heartbeat | None) -> dict[str, object]:
    periods = {} if heartbeat is None else heartbeat.periods
    return {
        "microgrid": microgrid,
        **{name: periods.get(name) for name in PERIODS},
        "tuned": None if heartbeat is None else heartbeat.tuned,
        "time": time,
    }


def lines(connection: Connection) -> list[dict[str, Any]]:
    """Return the month's figures of each controller's LTE line, as its gateway last reported; ``None`` without any."""
    return [_line(*said) for said in _said(connection)]


def _line(microgrid: MicrogridId, time: EpochSeconds | None, heartbeat: Heartbeat | None) -> dict[str, Any]:
    month = None if heartbeat is None else heartbeat.lte
    used, expected = (None, None) if month is None else (month.used, month.expected)
    return {
        "microgrid": microgrid,
        "level": "unknown" if month is None else month.level,
        "used_up": used and used[0],
        "used_down": used and used[1],
        "expected_up": expected and expected[0],
        "expected_down": expected and expected[1],
        "allowance": month and month.allowance,
        "time": time,
    }


def all_blocks(database: Database, first: Quarter, last: Quarter) -> Iterator[Blocks]:
    """Yield all joined blocks of quarters ``first`` to ``last``, in chunks."""
    with reading(database) as (connection, reader):
        values = {"first": first, "last": last}
        yield from reader.stream(connection, _WITHIN, values, quarters=range(first, last + 1))


def all_events(database: Database, start: EpochSeconds, end: EpochSeconds) -> Iterator[tuple[int, EventRecord]]:
    """Yield all events of ``[start, end)``."""
    statement = (
        select(event, meter.c.id)
        .join(meter, meter.c.no == event.c.meter_no)
        .where(event.c.time >= start, event.c.time < end)
        .order_by(event.c.meter_no, event.c.generation, event.c.time)
    )
    with database.reads.begin() as connection:
        for row in sound_events(connection.execute(statement, execution_options={"yield_per": 1_000})):
            yield row.generation, event_of(row, unsigned64(row.id))


_FIGURES = ("name", "timezone", "peak_start_hour", "peak_end_hour", "peak_factor", "charging_loss_permille")
_SAME = ("microgrid", "address", "location", "account", "service_amps")
_MOST = 10**6  # most meters of a town


def stored_town(connection: Connection, first: Quarter, until: Quarter) -> Town:
    """Return the town with its ``stored_microgrids``.

    Raises:
        ConfigError: No town is registered, or it has no meters.
    """
    figures: dict[str, Any] = town(connection)
    microgrids = stored_microgrids(connection, first, until)
    if not figures or not microgrids:
        raise ConfigError("no town with meters is registered")
    table = {name: figures[name] for name in _FIGURES if name in figures}
    table |= {f"{name}_average_w": watts for name, watts in figures["average_w_of"].items()}
    table["battery_hours"] = figures["battery_capacity_mwh"] / (1000 * max(figures["average_w"], 1))
    return Town(table=TownTable.model_validate(table), microgrids=microgrids)


def stored_microgrids(connection: Connection, first: Quarter, until: Quarter) -> dict[MicrogridId, Microgrid]:
    """Return the microgrids by number, with the meters that are there within some quarters.

    Accounts and weights are those of the first quarter; a meter of another maker is at a house.
    """
    registry, meters = load_dated_registry(connection), dict[MicrogridId, list[Meter]]()
    rows: list[dict[str, Any]] = meter_rows(connection, None, 0, _MOST, first * QUARTER_S)
    for row in rows:
        its = registry.meters.get(int(row["id"]))
        if its is None or not range(*its.within(first, until)):
            continue
        account, battery, function = registry.accounts.get(row["account"]), None, Function(row["function"])
        if capacity := row["battery_capacity_mwh"]:
            weight = 1 if account is None else int(weight_at(account, first))
            battery = Battery(capacity=capacity, minimum_percent=row["minimum_percent"] or 0, weight=weight)
        meter = Meter(
            id=its.id,
            function=Function.HOUSE if function in (Function.FOREIGN, Function.ADAPTED) else function,
            direction=Direction(row["direction"]),
            record_types=tuple(map(RecordType, row["record_types"])),
            battery=battery,
            **{name: row[name] for name in _SAME},
        )
        meters.setdefault(meter.microgrid, []).append(meter)
    found = connection.execute(select(controller).order_by(controller.c.number))
    return {row.id: Microgrid(meters=tuple(meters[row.id]), **row._asdict()) for row in found if row.id in meters}
