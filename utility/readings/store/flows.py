"""The one query of energy flows, over the sums that compacted blocks have."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import BigInteger, Connection, and_, bindparam, case, cast, func, literal_column, or_, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS, MicrogridId
from commonwatt.town.town import Direction, Function
from utility.readings.flows import LINES, EnergyLine, Flags, GridFlows, Measured, Numbers, measured_of
from utility.readings.store.parts import chunks
from utility.readings.tables import compacted
from utility.registry.tables import controller, installed, meter

_QUARTERS_AT_A_TIME = 100
_WAYS = {"taken": Direction.INCOMING, "given": Direction.OUTGOING}
_KINDS = {"sun": RecordType.GENERATION, "level": RecordType.STORED, "charge": RecordType.STORED}
_ONE: Any = literal_column("1")


def _by_kind(*, of_some: bool) -> Any:
    """Return the select of the sums of each microgrid's meters of a kind, at its boundary and at its places."""
    c, earlier, place = compacted.c, compacted.alias("earlier"), installed.c
    is_stored, slots = c.record_type == int(RecordType.STORED), c.exact + c.averaged
    was_there = or_(place.since.is_(None), place.since < c.quarter)
    # What is asked for is named again: a server would read all blocks of those quarters, or of other months.
    level_before = and_(
        earlier.c.quarter.in_(bindparam("quarters_before", expanding=True)),
        *(earlier.c.quarter == c.quarter - 1, earlier.c.meter_no == c.meter_no),
        *(earlier.c.record_type == int(RecordType.STORED), is_stored, was_there),
    )
    is_there = or_(was_there, place.since == c.quarter) & or_(place.until.is_(None), place.until > c.quarter)
    both_whole = (slots == SLOTS) & (earlier.c.exact + earlier.c.averaged == SLOTS)
    is_boundary = meter.c.function == literal_column(f"'{Function.BOUNDARY.value}'")
    key = (c.owner_no, c.quarter, is_boundary.label("is_boundary"), meter.c.direction, c.record_type)
    rows = compacted.join(meter, meter.c.no == c.meter_no).outerjoin(installed, place.meter == meter.c.id)
    statement = select(
        *key,
        func.sum(case((is_stored, c.last_reading), else_=c.total)).label("energy"),
        func.sum(case((is_stored, case((slots == SLOTS, _ONE))), else_=slots)).label("slots"),
        func.sum(c.last_reading - earlier.c.last_reading).label("charge"),
        func.sum(case((both_whole, _ONE))).label("charge_slots"),
        func.count().label("blocks"),
    )
    those = c.quarter.in_(bindparam("quarters", expanding=True)) & is_there
    if of_some:
        numbers: Any = bindparam("numbers", expanding=True)
        those, level_before = those & c.meter_no.in_(numbers), level_before & earlier.c.meter_no.in_(numbers)
    statement = statement.select_from(rows.outerjoin(earlier, level_before))
    return statement.where(those).group_by(*key)


@cache
def _statement(*, of_some: bool) -> Any:
    """Return the select of the sums by quarter; made once, since making it takes longer than executing it.

    A microgrid takes what the meters of its boundary say, of which both must be there, or else those of its places.
    """
    c = _by_kind(of_some=of_some).subquery().c
    columns = {name: func.sum(c[name]) for name in ("charge", "charge_slots", "blocks")}
    parts = {
        f"{side}_{way}": (c.record_type == int(RecordType.THROUGH)) & is_side & (c.direction == direction.value)
        for side, is_side in (("boundary", c.is_boundary), ("places", ~c.is_boundary))
        for way, direction in _WAYS.items()
    }
    parts |= {name: c.record_type == int(_KINDS[name]) for name in ("sun", "level")}
    for name, those in parts.items():
        columns |= {name: func.sum(case((those, c.energy))), f"{name}_slots": func.sum(case((those, c.slots)))}
    labelled = [each.label(name) for name, each in columns.items()]
    c = select(c.owner_no, c.quarter, *labelled).group_by(c.owner_no, c.quarter).subquery().c

    has_boundary = c.boundary_taken.is_not(None) & c.boundary_given.is_not(None)
    sums: dict[str, Any] = {name: c[name] for each in _KINDS for name in (each, f"{each}_slots")} | {"blocks": c.blocks}
    for name in (each + part for each in _WAYS for part in ("", "_slots")):
        sums[name] = case((has_boundary, c[f"boundary_{name}"]), else_=c[f"places_{name}"])
    # Their places are neighbours with batteries of their own; a building's battery is everybody's.
    between = c.places_taken - c.boundary_taken
    sums["between"] = case((has_boundary & (controller.c.kind == "residential") & (between > 0), between))
    sums["boundaries"] = case((has_boundary, _ONE))
    # The database adds up: the sums of each microgrid would take the time of other threads.
    # A server's sum of long numbers is no whole number.
    whole = (cast(func.coalesce(func.sum(each), 0), BigInteger).label(name) for name, each in sums.items())
    return select(c.quarter, *whole).join(controller, controller.c.number == c.owner_no).group_by(c.quarter)


def flows(connection: Connection, quarters: range, only: MicrogridId | None = None) -> GridFlows:
    """Return the energies of the town in some quarters, or of one microgrid, of meters that were in their places."""
    members = [] if only is None else _members(connection, only)
    values = {} if only is None else {"numbers": [each.no for each in members]}
    names = [*LINES, *(f"{name}_slots" for name in LINES), "between", "blocks", "boundaries"]
    sums = dict(zip(names, np.zeros((len(names), len(quarters)), np.int64), strict=True))
    for some in chunks(quarters, _QUARTERS_AT_A_TIME):
        those = {"quarters": list(some), "quarters_before": [quarter - 1 for quarter in some]}
        for row in connection.execute(_statement(of_some=only is not None), values | those):
            for name in names:
                sums[name][row.quarter - quarters.start] = getattr(row, name)
    expected = _expected(members, quarters, sums["boundaries"] > 0)
    lines = {
        name: EnergyLine(energy=sums[name], slots=sums[f"{name}_slots"], expected=expected[name]) for name in LINES
    }
    return GridFlows(first=quarters.start, between=sums["between"], blocks=sums["blocks"], **lines)


def measured(connection: Connection, numbers: Sequence[int], quarters: range) -> dict[tuple[int, int], Measured]:
    """Return the quarter-hours of some meters, by meter's number and record type."""
    c = compacted.c
    readings = (func.coalesce(each, 0) for each in (c.min_reading, c.max_reading, c.last_reading))
    columns = (c.meter_no, c.record_type, c.quarter, func.coalesce(c.total, 0), c.exact + c.averaged, *readings)
    # Each quarter is named: the key begins with it, so that only these meters' blocks are looked at.
    rows = [
        tuple(row)
        for some in chunks(numbers)
        for row in connection.execute(select(*columns).where(c.quarter.in_(list(quarters)), c.meter_no.in_(some)))
    ]
    return measured_of(np.array(rows, np.int64).reshape(-1, len(columns)), quarters.start, len(quarters))


def _members(connection: Connection, microgrid: MicrogridId) -> list[Any]:
    """Return the meters of a microgrid, each with the time in which it is in its place."""
    c = meter.c
    statement = select(c.no, c.function, c.direction, c.record_types, installed.c.since, installed.c.until)
    statement = statement.outerjoin(installed, installed.c.meter == c.id).where(c.microgrid == microgrid)
    return list(connection.execute(statement))


def _expected(members: list[Any], quarters: range, has_boundary: Flags) -> dict[str, Numbers]:
    """Return how many slots each line should have; of levels and charges how many batteries there are."""
    at, found = np.arange(quarters.start, quarters.stop), {name: np.zeros(len(quarters), np.int64) for name in LINES}
    for each in members:
        there = (at >= (each.since or 0)) & (at < (quarters.stop if each.until is None else each.until))
        kinds = {int(kind) for kind in each.record_types.split(",")}
        counts = there & (has_boundary == (each.function == Function.BOUNDARY))
        for name, direction in _WAYS.items():
            if int(RecordType.THROUGH) in kinds and each.direction == direction.value:
                found[name] += SLOTS * counts
        for name, kind in _KINDS.items():
            if int(kind) in kinds:
                found[name] += there * (SLOTS if kind.is_flow else 1)
    return found
