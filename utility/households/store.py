"""SQL of one household: its places and meters, its energy from readings, its day, its bill so far."""

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cache, reduce
from itertools import pairwise
from threading import Lock
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Connection, select

from commonwatt.model.calendar import local_day, month_of
from commonwatt.model.records import RecordType
from commonwatt.model.units import (
    QUARTER_S,
    AccountNumber,
    EpochSeconds,
    MeterId,
    MicrogridId,
    MilliwattHours,
    Quarter,
    quarter_of,
    signed64,
    unsigned64,
)
from commonwatt.town.town import Function
from utility.billing.bill import Bill
from utility.billing.run import SoFar, bills_so_far, grown
from utility.billing.store.billing_sources import inputs_of, newest_settled, settled_as_of
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY, SettledQuarters
from utility.exports.selection import HeldMeter, Resolution, held_by, intervals
from utility.exports.store.exports import BlockSource, exported_meters
from utility.households.course import (
    Course,
    CourseSums,
    Helping,
    Recording,
    SettledSums,
    by_day,
    course_of,
    figures_of,
    helping,
    settled_until,
)
from utility.jobs.plans import LocalDay
from utility.readings.flows import StoredLevel
from utility.registry.accounts import Account, DatedRegistry, Installed
from utility.registry.store.accounts import load_registry_around
from utility.registry.tables import meter, present_minimum
from utility.settings import SettlementSettings
from utility.settlement.day import with_day
from utility.settlement.jobs import settled_so_far
from utility.settlement.store.settled import load_settled
from utility.settlement.store.sharing import shared_by_meter


@dataclass(frozen=True, kw_only=True)
class MeterReported:
    """What is registered of a meter, and what it reported."""

    id: MeterId  # its id
    kinds: frozenset[RecordType]  # its record types
    capacity: MilliwattHours | None  # capacity of the battery behind it; ``None``: no battery
    minimum: int | None  # the minimum in the registry, percent; ``None``: none
    declared: int | None  # the minimum that the meter reported (T6), percent; ``None``: it did not report one yet
    declared_at: EpochSeconds | None  # when it reported it


@dataclass(frozen=True, kw_only=True)
class AccountBattery:
    """A battery of the account, or of its building."""

    meter: MeterId  # the meter that it is behind
    microgrid: MicrogridId  # the microgrid that it is in
    place: str  # its place
    capacity: MilliwattHours  # milliwatt-hours
    minimum: int | None  # the sharing minimum, percent; ``None``: none is known
    # When its meter reported the minimum; ``None``: it is what was agreed, and not reported yet.
    reported: EpochSeconds | None
    is_shared: bool  # whether it is the building's


@dataclass(frozen=True, kw_only=True)
class AccountHome:
    """An account with its meters."""

    account: Account  # the account
    registry: DatedRegistry  # its microgrids, whole; most of it is of others and is not shown
    meters: Mapping[MeterId, MeterReported]  # what is registered of its meters and of its buildings'

    def held(self, first: Quarter, end: Quarter) -> list[HeldMeter]:
        """Return when the account had which meter in ``[first, end)``."""
        return held_by(self.registry, [self.account.number], first, end)

    def shared(self, first: Quarter, end: Quarter) -> list[HeldMeter]:
        """Return the meters of buildings in which the account had an apartment, and when, in ``[first, end)``."""
        shared = []
        for own in self.held(first, end):
            apartment = self.registry.meters[own.meter]
            for its in _building_of(self.registry, apartment):
                start, stop = its.within(own.first, own.end)
                if start < stop:
                    shared.append(HeldMeter(meter=its.id, direction=its.direction, first=start, end=stop))
        return shared

    def recordings(self, held: list[HeldMeter]) -> list[Recording]:
        """Return some of its meters, or of its buildings', with what they record."""
        return [Recording(held=h, kinds=self.meters[h.meter].kinds) for h in held if h.meter in self.meters]

    @property
    def since(self) -> Quarter | None:
        """The first quarter in which the account had a meter; 0: from the beginning; ``None``: it never had one."""
        return min((h.first for h in self.held(0, _FOR_EVER)), default=None)

    def places(self, quarter: Quarter) -> list[tuple[MicrogridId, str]]:
        """Return the places that the account has in a quarter."""
        meters = (self.registry.meters[h.meter] for h in self.held(quarter, quarter + 1))
        return sorted({(meter.microgrid, meter.place) for meter in meters})

    def batteries(self, quarter: Quarter) -> list[AccountBattery]:
        """Return the batteries that the account has, or shares in its building, in a quarter."""
        own = [(h, False) for h in self.held(quarter, quarter + 1)]
        both = [*own, *((h, True) for h in self.shared(quarter, quarter + 1))]
        known = {h.meter: (self.registry.meters[h.meter], self.meters[h.meter], shared) for h, shared in both}
        return [
            AccountBattery(
                meter=meter.id,
                microgrid=meter.microgrid,
                place=meter.place,
                capacity=stated.capacity,
                minimum=stated.minimum if stated.declared is None else stated.declared,
                reported=stated.declared_at,
                is_shared=shared,
            )
            for _, (meter, stated, shared) in sorted(known.items())
            if stated.capacity is not None
        ]


_FOR_EVER = 2**31


def home_of(database: Database, account: AccountNumber) -> AccountHome | None:
    """Return an account with its meters; ``None``: there is no such account."""
    with database.reads.begin() as connection:
        registry = load_registry_around(connection, account)
        if account not in registry.accounts:
            return None
        own = [m for m in registry.meters.values() if any(held.account == account for held in m.holdings)]
        theirs = [building for meter in own for building in _building_of(registry, meter)]
        meters = _registered(connection, {m.id for m in (*own, *theirs)})
    return AccountHome(account=registry.accounts[account], registry=registry, meters=meters)


def _registered(connection: Connection, ids: Collection[MeterId]) -> dict[MeterId, MeterReported]:
    """Return what is registered of some meters of one account, by id."""
    columns = (meter.c.id, meter.c.record_types, meter.c.battery_capacity, meter.c.minimum_percent)
    statement = select(*columns, present_minimum.c.percent, present_minimum.c.said).outerjoin(present_minimum)
    rows = connection.execute(statement.where(meter.c.id.in_([signed64(meter_id) for meter_id in ids])))
    reported = [
        MeterReported(
            id=unsigned64(row.id),
            kinds=frozenset(RecordType(int(kind)) for kind in row.record_types.split(",")),
            capacity=row.battery_capacity,
            minimum=row.minimum_percent,
            declared=row.percent,
            declared_at=row.said,
        )
        for row in rows
    ]
    return {r.id: r for r in reported}


def _building_of(registry: DatedRegistry, meter: Installed) -> list[Installed]:
    """Return the meters of the building that a meter is in; none if it is in none."""
    if meter.building is None:
        return []
    return [
        other
        for other in registry.meters.values()
        if other.function is Function.BUILDING and other.microgrid == meter.microgrid and other.place == meter.building
    ]


def read_course(database: Database, home: AccountHome, first: Quarter, end: Quarter, *, shared: bool = False) -> Course:
    """Return the course of a home in the quarters ``first`` to before ``end``.

    Args:
        end: The quarter after the last.
        shared: Whether of the buildings that the account shares, in place of its own meters.
    """
    # The level at the end of the quarter before says what the battery gained in the first one.
    before = first - 1
    held = home.shared(before, end) if shared else home.held(before, end)
    meters = database.read(exported_meters, {h.meter for h in held})
    blocks = BlockSource(database, meters).read(before, end)
    return course_of(blocks, home.recordings(held), first, end)


def read_helping(database: Database, home: AccountHome, first: Quarter, end: Quarter) -> Helping | None:
    """Return how a home helped and was helped in ``[first, end)``; ``None``: it had no battery of its own."""
    held = [h for h in home.held(first, end) if home.meters[h.meter].capacity is not None]
    if not held:
        return None
    meters = home.registry.meters
    rows = database.read(shared_by_meter, {meters[h.meter].microgrid for h in held}, range(first, end))
    return helping(rows, held)


def read_settled(
    database: Database, home: AccountHome, first: Quarter, end: Quarter, zone: ZoneInfo
) -> tuple[list[SettledSums], Quarter | None]:
    """Return the settled sums of each local day of ``[first, end)``, and the quarter after the last settled one."""
    held = home.held(first, end)
    settled = database.read(load_settled, {h.meter for h in held}, first, end)
    return by_day(settled, held, zone), settled_until(settled, held)


@dataclass(frozen=True, kw_only=True, eq=False)
class AccountDay:
    """A local day of an account, or of its building."""

    course: Course  # the day's energies by quarter-hour
    sums: CourseSums  # its sums so far, of the same quarters
    until: EpochSeconds | None  # the end of its newest quarter with a reading; ``None``: none has come
    level: StoredLevel | None  # the newest level of the batteries in it; ``None``: not known


def day_of(database: Database, home: AccountHome, first: Quarter, end: Quarter, *, shared: bool = False) -> AccountDay:
    """Return a local day of a home.

    Args:
        first: The day's first quarter.
        end: The quarter after its last.
        shared: Whether the day is that of the building that the account shares, in place of its own.
    """
    course = read_course(database, home, first, end, shared=shared)
    until = course.until
    return AccountDay(
        course=course,
        sums=figures_of(course.whole, first, first if until is None else until),
        until=None if until is None else until * QUARTER_S,
        level=course.newest,
    )


def day_around(time: EpochSeconds, zone: ZoneInfo) -> tuple[Quarter, Quarter]:
    """Return the first quarter of the local day of a time, and the one after its last."""
    period = LocalDay(zone).period_at(time)
    return period.start // QUARTER_S, period.end // QUARTER_S


def figures_by_day(
    database: Database, home: AccountHome, first: Quarter, end: Quarter, zone: ZoneInfo
) -> list[CourseSums]:
    """Return the sums of each local day of ``[first, end)``, such as a month, from readings."""
    course = read_course(database, home, first, end)
    days = (intervals(Resolution.DAY, first, end, zone).starts // QUARTER_S).tolist()
    return [figures_of(course, begin, min(stop, end)) for begin, stop in pairwise(days)]


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredBatteries:
    """The batteries of an account, or of its building."""

    batteries: Sequence[AccountBattery]  # each with its minimum
    level: StoredLevel | None  # their newest level together, of today or yesterday; ``None``: not known
    permille: int | None  # the level in thousandths of their capacity
    today: AccountDay  # the day that they are of, until now

    @property
    def low_since(self) -> tuple[EpochSeconds, bool] | None:
        """Since when the only battery is below its minimum, and whether before that is known; ``None``: it is not."""
        course, (battery, *more) = self.today.course, self.batteries
        known = np.flatnonzero(course.level.slots)
        low = 100 * course.level.energy[known] < (battery.minimum or 0) * battery.capacity
        if more or not low.any() or not low[-1]:
            return None
        before = len(low) - int(np.append(~low[::-1], True).argmax())
        return (course.first + int(known[before]) + 1) * QUARTER_S, before > 0


def stored_now(
    database: Database, home: AccountHome, now: EpochSeconds, zone: ZoneInfo, *, shared: bool
) -> StoredBatteries | None:
    """Return the account's batteries now, or those of its building; ``None``: there are none."""
    batteries = [battery for battery in home.batteries(quarter_of(now)) if battery.is_shared is shared]
    if not batteries:
        return None
    first, end = day_around(now, zone)
    # Until now: a battery that the account has no more later today is still its own.
    today = day_of(database, home, first, min(end, quarter_of(now) + 1), shared=shared)
    level = today.level
    if level is None:
        level = day_of(database, home, *day_around(first * QUARTER_S - 1, zone), shared=shared).level
    capacity = sum(battery.capacity for battery in batteries)
    permille = None if level is None else max(0, min(1000, level.energy * 1000 // capacity))
    return StoredBatteries(batteries=batteries, level=level, permille=permille, today=today)


KEPT_S = 300  # seconds for which a computed bill is shown again, with its age
MOST_KEPT = 64  # most sets of microgrids whose bills are kept; the one used longest ago is dropped


@dataclass(frozen=True, kw_only=True)
class BillSoFar:
    """The bill of a month that is not over."""

    bill: Bill  # the bill; its base is that of the whole month, its energy that of the settled quarters
    until: Quarter | None  # the quarter after the last settled one; ``None``: none is settled yet
    # What today's energy adds to it until now, before taxes, dollars: settled as far as it is, else as it would be
    # settled by the readings that have come.
    today: Decimal
    computed: EpochSeconds  # when it was computed


_Kept = tuple[EpochSeconds, SoFar, dict[AccountNumber, Decimal]]  # when computed, the month's bills, today's energy


@dataclass(eq=False)
class BillsSoFar:
    """Computes bills so far, and keeps them."""

    database: Database  # the database
    tariff: str  # the name of the tariff of accounts without one
    settlement: SettlementSettings  # how days are settled
    # Computing one at a time: a building's three hundred residents share one result.
    _lock: Lock = field(default_factory=Lock)
    _kept: OrderedDict[tuple[str, frozenset[MicrogridId]], _Kept] = field(default_factory=OrderedDict)

    def of(self, home: AccountHome, now: EpochSeconds) -> BillSoFar | None:
        """Return the bill of an account for the present month; ``None``: it had no meter in it.

        Raises:
            ConfigError: No tariff is in force for an account of its microgrids.
        """
        microgrids = frozenset(meter.microgrid for meter in home.registry.meters.values())
        with self._lock:
            computed, month, today = self._month(home, microgrids, now)
        number = home.account.number
        if number not in month.bills:
            return None
        bill, until = month.bills[number], month.until.get(number)
        return BillSoFar(bill=bill, until=until, today=today[number], computed=computed)

    def _month(self, home: AccountHome, microgrids: frozenset[MicrogridId], now: EpochSeconds) -> _Kept:
        with self.database.reads.begin() as connection:
            zone = zone_of(connection)
            month = month_of(quarter_of(now), zone)
            key = (f"{local_day(now, zone)}", microgrids)
            known = self._kept.get(key)
            if known is not None and 0 <= now - known[0] < KEPT_S:
                self._kept.move_to_end(key)
                return known
            inputs = inputs_of(connection, month, home.registry, self.tariff)
            newest = newest_settled(connection)
        load, (first, _), end = cache(settled_as_of(self.database, newest)), day_around(now, zone), quarter_of(now) + 1
        days = range(first // QUARTERS_A_DAY, (end - 1) // QUARTERS_A_DAY + 1)
        open_days = [settled_so_far(self.database, self.settlement, day, microgrids, end) for day in days]

        def with_today(meters: Sequence[MeterId], start: Quarter, until: Quarter) -> SettledQuarters:
            return reduce(with_day, open_days, load(meters, start, until))

        self._kept[key] = now, bills_so_far(inputs, load), grown(inputs, cache(with_today), first, end)
        self._kept.move_to_end(key)
        if len(self._kept) > MOST_KEPT:
            self._kept.popitem(last=False)
        return self._kept[key]
