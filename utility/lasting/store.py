"""What the projection reads of the registry and of the statistics, and the scores of islands."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

from sqlalchemy import Connection, Integer, bindparam, func, select

from commonwatt.model.ids import unsigned64
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, Quarter, quarter_of
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid
from utility.database.database import read_setting, save_setting
from utility.database.town_zone import zone_of
from utility.lasting.rules import DAYS, Block, blocks_of, class_usual
from utility.lasting.scores import Score
from utility.registry.accounts import holder_at
from utility.registry.store.registry import load_holdings
from utility.registry.tables import controller, installed, meter, present_minimum
from utility.statistics.months import month_at
from utility.statistics.packed import unpacked
from utility.statistics.series import ClassDay
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.tables import usage_day, usage_month

SCORES = "island_scores"  # setting with the scores of islands, JSON
MOST_SCORES = 2_000  # islands that are kept: the newest

_QUARTER, _MONTH = bindparam("quarter", type_=Integer), bindparam("month", type_=Integer)
_METERS = (
    select(meter, present_minimum.c.percent, controller.c.kind, controller.c.number)
    .join(controller, controller.c.id == meter.c.microgrid)
    .outerjoin(present_minimum, present_minimum.c.meter_no == meter.c.no)
    .outerjoin(installed, installed.c.meter == meter.c.id)
    .where(func.coalesce(installed.c.since, 0) <= _QUARTER, func.coalesce(installed.c.until, _QUARTER + 1) > _QUARTER)
    .order_by(controller.c.number, meter.c.no)
)
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
    microgrids, capacity = _microgrids(connection, quarter), Counter[str]()
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


def _microgrids(connection: Connection, quarter: Quarter) -> dict[MicrogridId, Microgrid]:
    """Return the microgrids with the meters that are there."""
    found, holdings = dict[MicrogridId, Microgrid](), load_holdings(connection)
    for row in connection.execute(_METERS, {"quarter": quarter}):
        size, percent = row.battery_capacity, row.minimum_percent if row.percent is None else row.percent
        one = Meter(
            id=unsigned64(row.id),
            microgrid=row.microgrid,
            address=row.address,
            location=row.location,
            function=Function(row.function),
            direction=Direction(row.direction),
            account=holder_at(holdings.get(row.id, ()), quarter) or 0,
            record_types=(),
            service_amps=row.service_amps,
            battery=None if size is None else Battery(capacity=size, minimum_percent=percent or 0),
        )
        blank = Microgrid(id=row.microgrid, number=row.number, kind=row.kind, address="", meters=())
        found[one.microgrid] = replace(blank, meters=(*found.get(one.microgrid, blank).meters, one))
    return found


def read_scores(connection: Connection) -> list[Score]:
    """Return the scores of islands, in the order in which they began."""
    return [Score(**each) for each in json.loads(read_setting(connection, SCORES) or "[]")]


def save_scores(connection: Connection, found: Sequence[Score]) -> None:
    """Store the scores of the newest islands."""
    save_setting(connection, SCORES, json.dumps([asdict(each) for each in found[-MOST_SCORES:]]))
