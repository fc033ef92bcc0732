"""What the projection reads of the registry, the statistics and readings, and the scores of islands."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from sqlalchemy import Connection, Integer, bindparam, case, func, select

from commonwatt.energy.lasting import Floats
from commonwatt.model.records import RecordType
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, quarter_of
from commonwatt.town.town import Direction, Function
from utility.database.database import read_setting, save_setting
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.lasting.rules import DAYS, Alike, Score, blocks_of, class_usual
from utility.readings.store.parts import chunks
from utility.readings.store.reads import stored_microgrids
from utility.readings.tables import compacted
from utility.registry.tables import meter
from utility.statistics.months import month_at
from utility.statistics.packed import unpacked
from utility.statistics.series import ClassDay
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.tables import usage_day, usage_month

SCORES = "island_scores"  # setting with the scores of islands, JSON
QUARTERS_AT_ONCE = 500  # of readings
LEAST_PERCENT = 98  # meters with readings with which the use of a microgrid is known
MOST_SCORES = 2_000  # islands that are kept: the newest

_MONTH = bindparam("month", type_=Integer)
_CLASS_DAYS = select(usage_day).where(usage_day.c.day >= bindparam("first"))
_c = usage_month.c
_USED = (
    select(_c.subject, func.sum(_c.used), func.sum(_c.settled))
    .where(_c.scope == Scope.ACCOUNT, _c.month.between(_MONTH - 1, _MONTH), _c.used.is_not(None), _c.settled > 0)
    .group_by(_c.subject)
)


_r = compacted.c
_IS_SENT = (_r.record_type == int(RecordType.THROUGH)) & (meter.c.direction == Direction.OUTGOING.value)
_LEVEL = case((_r.record_type == int(RecordType.STORED), _r.last_reading), else_=0)
_PASSED = case((_IS_SENT, -_r.total), else_=_r.total)  # of levels NULL
# Each quarter is named, since the key begins with it.
_READINGS = (
    select(_r.quarter, func.sum(_PASSED), func.sum(_LEVEL), func.count())
    .join(meter, meter.c.no == _r.meter_no)
    .where(_r.quarter.in_(bindparam("quarters", expanding=True)), _r.meter_no.in_(bindparam("of", expanding=True)))
    .group_by(_r.quarter)
)


def load_blocks(connection: Connection, now: EpochSeconds) -> list[Alike]:
    """Return the microgrids as they are installed now, with what is usual there."""
    quarter, zone = quarter_of(now), zone_of(connection)
    microgrids, capacity = stored_microgrids(connection, quarter, quarter + 1), Counter[str]()
    meters, places = Counter[AccountNumber](), Counter[AccountNumber]()
    for one in microgrids.values():
        capacity[one.kind] += sum(each.battery.capacity for each in one.meters if each.battery)
        meters.update(each.account for each in one.meters)
        places.update(each.account for each in one.meters if each.direction is Direction.INCOMING)
    days: dict[str, dict[int, ClassDay]] = {kind: {} for kind in CLASSES}
    for day, class_no, payload in connection.execute(_CLASS_DAYS, {"first": quarter // QUARTERS_A_DAY - DAYS}):
        days[CLASSES[class_no - 1]][day] = unpacked(payload, f"usage of day {day}, class {class_no}")
    # The settled quarter-hours of each of its meters are counted.
    watts = {
        account: max(0, int(energy)) * 4 / 1000 / int(quarters) * meters[account] / max(places[account], 1)
        for account, energy, quarters in connection.execute(_USED, {"month": month_at(quarter, zone)})
    }
    return blocks_of(microgrids, watts, {kind: class_usual(of, capacity[kind], zone) for kind, of in days.items()})


def load_used(connection: Connection, name: MicrogridId, hour: int) -> Floats:
    """Return what a microgrid's places used in each of the hours of ``DAYS`` before one, mWh; NaN: not known.

    Args:
        hour: The hour, epoch seconds // 3600.
    """
    of = select(meter.c.no).where(meter.c.microgrid == name, meter.c.function != Function.BOUNDARY.value)
    numbers, quarters = connection.scalars(of).all(), range(4 * (hour - 24 * DAYS) - 1, 4 * hour)
    passed, level, blocks = np.zeros((3, len(quarters)), np.int64)
    for some in chunks(quarters, QUARTERS_AT_ONCE):
        values = {"quarters": list(some), "of": numbers}
        for quarter, *its in connection.execute(_READINGS, values):
            at = quarter - quarters.start
            passed[at], level[at], blocks[at] = (int(each or 0) for each in its)
    known = 100 * blocks >= max(LEAST_PERCENT * int(blocks.max()), 1)
    used = np.where(known[1:] & known[:-1], np.maximum(passed[1:] - np.diff(level), 0), np.nan)
    return np.asarray(used.reshape(-1, 4).sum(axis=1))


def read_scores(connection: Connection) -> list[Score]:
    """Return the scores of islands, in the order in which they began."""
    return [Score(**each) for each in json.loads(read_setting(connection, SCORES) or "[]")]


def save_scores(connection: Connection, found: Sequence[Score]) -> None:
    """Store the scores of the newest islands."""
    save_setting(connection, SCORES, json.dumps([asdict(each) for each in found[-MOST_SCORES:]]))
