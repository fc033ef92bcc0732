"""What the projection reads of the registry and of the statistics, and the scores of islands."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from sqlalchemy import Connection, Integer, bindparam, func, select

from commonwatt.model.units import AccountNumber, EpochSeconds, quarter_of
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Direction
from utility.database.database import read_setting, save_setting
from utility.database.town_zone import zone_of
from utility.lasting.rules import DAYS, Block, blocks_of, class_usual
from utility.lasting.scores import Score
from utility.readings.store.town import stored_microgrids
from utility.statistics.months import month_at
from utility.statistics.packed import unpacked
from utility.statistics.series import ClassDay
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.tables import usage_day, usage_month

SCORES = "island_scores"  # setting with the scores of islands, JSON
MOST_SCORES = 2_000  # islands that are kept: the newest

_MONTH = bindparam("month", type_=Integer)
_CLASS_DAYS = select(usage_day).where(usage_day.c.day >= bindparam("first"))
_c = usage_month.c
_USED = (
    select(_c.subject, func.sum(_c.used), func.sum(_c.settled))
    .where(_c.scope == Scope.ACCOUNT, _c.month.between(_MONTH - 1, _MONTH), _c.used.is_not(None), _c.settled > 0)
    .group_by(_c.subject)
)


def load_blocks(connection: Connection, now: EpochSeconds) -> list[Block]:
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


def read_scores(connection: Connection) -> list[Score]:
    """Return the scores of islands, in the order in which they began."""
    return [Score(**each) for each in json.loads(read_setting(connection, SCORES) or "[]")]


def save_scores(connection: Connection, found: Sequence[Score]) -> None:
    """Store the scores of the newest islands."""
    save_setting(connection, SCORES, json.dumps([asdict(each) for each in found[-MOST_SCORES:]]))
