"""The state of the town that all browsers share, computed at most every few seconds."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import midnight, month_of, month_quarters
from commonwatt.model.text import counted
from commonwatt.model.units import QUARTER_S, EpochSeconds, MicrogridId, Quarter
from utility.alarms.board import AlarmCounts
from utility.alarms.decisions import alarms_of
from utility.cliques.jobs import unmanaged_of
from utility.database.base import Connection
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.lasting.jobs import lasting_of
from utility.overview.inbox import Item, items
from utility.overview.microgrids import Cell, MicrogridCondition, cell, count, helping
from utility.overview.store.days import CountedDays, counted_days
from utility.overview.store.town import counts, microgrids
from utility.overview.town import (
    SPAN,
    DayEnergy,
    NeedTomorrow,
    PriceNow,
    QuarterEnergy,
    Today,
    TownPower,
    dear_spans,
    need_tomorrow,
    price_now,
    town_power,
)
from utility.readings.store.flows import flows
from utility.readings.store.retention import newest_quarter
from utility.registry.layout import Day
from utility.supply.store import quarters_between, supply_view
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff
from utility.webkit.console.live import SharedValue
from utility.webkit.services import Api

EVERY_S = 4  # seconds for which the town's state is good: browsers ask every five
AT_MOST_S = 12  # the age that it may have while it is computed anew
WAITING_S = 15  # seconds for which the counts of what waits for a person are good
READ_FOR_S = 0.15  # seconds for which quarters of the day are read at a time; a large town is read by and by
AT_LEAST = 3  # quarters that are read at a time nevertheless
COMPLETENESS_S = 60  # seconds for which the sums of completeness are good; the days are counted once an hour

_DAY_S = 86_400

# A tariff's published versions, when its price is highest until the day's end, and tomorrow's need.
_Ahead: TypeAlias = tuple[Sequence[Tariff], Sequence[tuple[EpochSeconds, EpochSeconds]], NeedTomorrow | None]


@dataclass(frozen=True, kw_only=True)
class TownState:
    """The town at one time."""

    time: EpochSeconds  # when it was computed
    version: int  # its number; only a change of a cell makes another one
    cells: tuple[Cell, ...]  # the cells, in the order of the controllers' numbers
    changed: dict[str, int]  # the version in which each cell last changed, by name
    power: TownPower  # the power now, as gateways say it
    helping: Sequence[tuple[MicrogridId, int, int]]  # where batteries need help now: how many give it, and need it
    today: Today  # the local day so far
    supply: dict[str, Any]  # the plant and the newest purchase
    yesterday: CountedDays  # completeness of the last day of UTC that is counted
    month: CountedDays  # completeness of the local month's days
    month_name: str  # the month
    price: PriceNow | None  # by the tariff of accounts that have none of their own; ``None``: none is in force
    dear: Sequence[tuple[EpochSeconds, EpochSeconds]]  # when it is highest, from 24 hours ago to the day's end
    need: NeedTomorrow | None  # what will be needed from the plant; ``None``: no whole day of the plant is known
    connected: bool  # whether the utility is connected to the head-end
    alarms: tuple[str, ...]  # the utility's own alarms
    items: tuple[Item, ...]  # what needs a person
    alarming: AlarmCounts  # the alarms that stand
    empty: int  # batteries that are empty
    lasting: dict[str, Any]  # how long it lasts if the line fails now

    @property
    def counts(self) -> dict[MicrogridCondition, int]:
        """How many microgrids are in each state."""
        return count(self.cells)

    @property
    def pill(self) -> tuple[str, str]:
        """Whether all is well, else what is not; and how pages mark it."""
        counts, alarms = self.counts, self.alarming.critical + self.alarming.warning
        told = [f"{number} {each.words}" for each, number in counts.items() if number]
        told = [] if counts[MicrogridCondition.FRESH] == len(self.cells) else told
        told += [counted(alarms, "alarm")] if alarms else []
        told += [f"{self.empty} of the batteries empty"] if self.empty else []
        alone = sum(gets for _, gives, gets in self.helping if not gives)
        told += [f"{alone} {'battery' if alone == 1 else 'batteries'} without help"] if alone else []
        if not told:
            return f"All {len(self.cells)} microgrids well", "good"
        return ", ".join(told), "bad" if counts[MicrogridCondition.ALARM] or self.alarming.critical else "warning"


class TownView:
    """Computes the state of the town."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._energy = DayEnergy()
        self._last: TownState | None = None
        self._shared = SharedValue(self._state, every_s=EVERY_S, at_most_s=AT_MOST_S, now=api.machine_s)
        self._waiting = SharedValue(lambda: counts(api.database), every_s=WAITING_S, at_most_s=30, now=api.machine_s)
        self._ahead = SharedValue(self._outlook, every_s=COMPLETENESS_S, at_most_s=3_600, now=api.machine_s)
        self._days = SharedValue(self._completeness, every_s=COMPLETENESS_S, at_most_s=3_600, now=api.machine_s)

    def get(self) -> TownState:
        """Return the state; it is at most some seconds old."""
        return self._shared.get()

    def recent(self) -> TownState | None:
        """Return the state if it need not be waited for."""
        return self._shared.recent()

    def _state(self) -> TownState:
        now = int(self._api.clock.now())
        refused = {name: (each.time, each.text) for name, each in self._api.refused.items()}
        with self._api.database.reads.begin() as connection:
            facts = microgrids(connection, now, refused, unmanaged=unmanaged_of(self._api))
            supply = supply_view(connection, now, 1)
            self._read_energy(connection, now)
        cells, board = tuple(cell(each, now) for each in facts), alarms_of(self._api).board()
        version, changed = self._versions(cells)
        month_name, month, yesterday = self._days.get()
        versions, dear, need = self._ahead.get()
        self._last = TownState(
            time=now,
            version=version,
            cells=cells,
            changed=changed,
            power=town_power(facts, now),
            helping=helping(facts),
            today=self._energy.today(now),
            supply=supply,
            yesterday=yesterday,
            month=month,
            month_name=month_name,
            price=price_now(versions, now),
            dear=dear,
            need=need,
            connected=self._api.connected(),
            alarms=tuple(self._api.health.alarms()),
            items=items(board.rows, facts, self._waiting.get(), now, lasting_of(self._api).left),
            alarming=board.counts,
            empty=sum(each.heartbeat.levels.count(0) for each in facts if each.heartbeat is not None),
            lasting=lasting_of(self._api).told(),
        )
        return self._last

    def _read_energy(self, connection: Connection, now: EpochSeconds) -> None:
        newest = newest_quarter(connection)
        if newest is None:
            return
        begin = local_day_start(now, zone_of(connection))
        until = monotonic() + READ_FOR_S
        for n, quarter in enumerate(self._energy.wanted(begin, newest, now)):
            if n >= AT_LEAST and monotonic() > until:
                break
            self._energy.read(quarter, QuarterEnergy.of(flows(connection, range(quarter, quarter + 1)), 0), now)

    def _versions(self, cells: tuple[Cell, ...]) -> tuple[int, dict[str, int]]:
        """Return the number of this state, and the state in which each cell last changed."""
        if self._last is None:
            first = int(self._api.machine_s())  # Not a number of an earlier process.
            return first, {each.microgrid: first for each in cells}
        before = {each.microgrid: each for each in self._last.cells}
        new = self._last.version + 1
        changed = {
            each.microgrid: self._last.changed[each.microgrid] if before.get(each.microgrid) == each else new
            for each in cells
        }
        version = max([self._last.version, *changed.values()])
        return version, changed

    def _outlook(self) -> _Ahead:
        now = int(self._api.clock.now())
        with self._api.database.reads.begin() as connection:
            zone = zone_of(connection)
            known = quarters_between(connection, now // QUARTER_S - 14 * QUARTERS_A_DAY, now // QUARTER_S)
            versions = [each for each in published(connection) if each.name == self._api.settings.billing.tariff]
        begin = now // QUARTER_S - SPAN
        net = {each.quarter: each.net for each in known}
        return versions, dear_spans(versions, begin, local_day_start(now, zone, 1)), need_tomorrow(net, now, zone)

    def _completeness(self) -> tuple[str, CountedDays, CountedDays]:
        now = int(self._api.clock.now())
        with self._api.database.reads.begin() as connection:
            name, first, until = month_days(now, zone_of(connection))
            month = counted_days(connection, first, until)
            yesterday = counted_days(connection, now // _DAY_S - 1, now // _DAY_S)
        return name, month, yesterday


def month_days(now: EpochSeconds, zone: ZoneInfo) -> tuple[str, Day, Day]:
    """Return the name of the local month, its first day of UTC, and the day of UTC that is not over yet.

    On the first day of a month, it is the month before.
    """
    name = month_of((now - _DAY_S) // QUARTER_S, zone)
    first, _ = month_quarters(name, zone)
    return name, first // QUARTERS_A_DAY, now // _DAY_S


def local_day_start(now: EpochSeconds, zone: ZoneInfo, later: int = 0) -> Quarter:
    """Return the first quarter of the local day, or of one that comes some days later."""
    return midnight(datetime.fromtimestamp(now, zone).date() + timedelta(days=later), zone)
