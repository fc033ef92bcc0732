"""What the projection reads of the registry and of the statistics, and the scores of islands."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from commonwatt.model.ids import unsigned64
from commonwatt.model.units import AccountNumber, EpochSeconds, MicrogridId, quarter_of
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Battery, Direction, Function, Meter, Microgrid
from utility.database.database import read_setting, save_setting
from utility.database.town_zone import zone_of
from utility.lasting.rules import DAYS, Block, blocks_of, class_usual
from utility.lasting.scores import Score
from utility.registry.accounts import holder_at
from utility.registry.store.registry import load_holdings
from utility.registry.tables import controller, installed, meter, present_minimum
from utility.statistics.months import Month, columns_of, month_at
from utility.statistics.packed import unpacked
from utility.statistics.series import ClassDay
from utility.statistics.store.usage import CLASSES, Scope
from utility.statistics.store.usage_projection import Projectable
from utility.statistics.tables import usage_day, usage_month, usage_projection

SCORES = "island_scores"  # setting with the scores of islands, JSON
MOST_SCORES = 2_000  # islands that are kept: the newest


def load_blocks(connection: Connection, now: EpochSeconds) -> list[Block]:
    """Return the microgrids as they are installed now, with what is usual there."""
    quarter, zone = quarter_of(now), zone_of(connection)
    microgrids, capacity = _microgrids(connection, now), Counter[str]()
    for one in microgrids.values():
        capacity[one.kind] += sum(each.battery.capacity for each in one.meters if each.battery)
    days: dict[str, dict[int, ClassDay]] = {kind: {} for kind in CLASSES}
    for row in connection.execute(select(usage_day).where(usage_day.c.day >= quarter // QUARTERS_A_DAY - DAYS)):
        what = f"usage of day {row.day}, class {row.class_no}"
        days[CLASSES[row.class_no - 1]][row.day] = unpacked(row.payload, what)
    watts = _watts(connection, microgrids.values(), month_at(quarter, zone), zone)
    return blocks_of(microgrids, watts, {kind: class_usual(of, capacity[kind], zone) for kind, of in days.items()})


def _watts(
    connection: Connection, microgrids: Iterable[Microgrid], month: Month, zone: ZoneInfo
) -> dict[AccountNumber, float]:
    """Return the mean use of a place of each account: what is projected of the month, else by the last two months."""
    all_of = [each for one in microgrids for each in one.meters]
    meters = Counter(each.account for each in all_of)
    places = Counter(each.account for each in all_of if each.direction is Direction.INCOMING)
    c, p, watts = usage_month.c, usage_projection.c, dict[AccountNumber, float]()
    used = select(c.subject, func.sum(c.used), func.sum(c.settled)).group_by(c.subject)
    known = c.used.is_not(None) & (c.settled > 0) & c.month.between(month - 1, month)
    for account, energy, quarters in connection.execute(used.where(c.scope == Scope.ACCOUNT, known)):
        # Each meter has its own quarter-hours.
        watts[account] = max(0, int(energy)) * 4 / 1000 / int(quarters) * meters[account]
    ours = (p.month == month) & (p.scope == Scope.ACCOUNT) & (p.quantity == Projectable.USED)
    for account, energy in connection.execute(select(p.subject, p.middle).where(ours)):
        watts[account] = energy * 4 / 1000 / len(columns_of(month, zone).cells)
    return {account: of / max(places[account], 1) for account, of in watts.items() if account}


def _microgrids(connection: Connection, now: EpochSeconds) -> dict[MicrogridId, Microgrid]:
    """Return the microgrids with the meters that are there."""
    columns = (present_minimum.c.percent, controller.c.kind, controller.c.number)
    statement = select(meter, *columns).join(controller, controller.c.id == meter.c.microgrid)
    statement = statement.outerjoin(present_minimum).outerjoin(installed, installed.c.meter == meter.c.id)
    quarter, holdings = quarter_of(now), load_holdings(connection)
    there = (func.coalesce(installed.c.since, 0) <= quarter) & (func.coalesce(installed.c.until, 2**31 - 1) > quarter)
    found: dict[MicrogridId, Microgrid] = {}
    for row in connection.execute(statement.where(there).order_by(controller.c.number, meter.c.no)):
        percent = row.minimum_percent if row.percent is None else row.percent
        has = row.battery_capacity is not None
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
            battery=Battery(capacity=row.battery_capacity, minimum_percent=percent or 0) if has else None,
        )
        blank = Microgrid(id=row.microgrid, number=row.number, kind=row.kind, address="", meters=())
        before = found.get(row.microgrid, blank)
        found[row.microgrid] = replace(before, meters=(*before.meters, one))
    return found


def read_scores(connection: Connection) -> list[Score]:
    """Return the scores of islands, in the order in which they began."""
    return [Score(**each) for each in json.loads(read_setting(connection, SCORES) or "[]")]


def save_scores(connection: Connection, found: Sequence[Score]) -> None:
    """Store the scores of the newest islands."""
    save_setting(connection, SCORES, json.dumps([asdict(each) for each in found[-MOST_SCORES:]]))
