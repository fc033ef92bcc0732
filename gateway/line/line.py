"""The controller's LTE line: its byte count by day, the forecast for the month's end, and the ladder (C9).

The line has two sides, each counted by the process that has its connections: ``meters``, reported by the microgrid's
broker, and ``utility``, counted by the gateway; or one side, ``interface``, the counters of its network interface.
The byte counts only grow; the store keeps their differences by local day.

The forecast, for each side and direction: bytes used so far in this month + bytes counted in the last seven days /
seconds counted in them * seconds left in the month.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.control import MONTH_S, WORDS, LineRate, SavingMeasure
from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import MADE, ByteCount, EpochSeconds
from commonwatt.protocol.heartbeats import LineMonth
from gateway.store.changes import Change, KeptSettings, Setting

METERS, UTILITY, INTERFACE = "meters", "utility", "interface"

RATE_DAYS = 7  # days up to today from which the forecast's rate is computed
ENOUGH_S = 3600  # seconds for which each side must have been counted before there is a forecast
# Upper limit of a byte count, more than any line carries; higher reports of an interface or a broker are cut off.
MOST_BYTES = 2**53
# Longest time between the last report of a counter and the first of its next run, seconds, that counts as measured.
LONGEST_LOOK_S = 3600
# A sum that falls by more was false before: the connection of a gateway that is not identified yet has fewer bytes.
MOST_FALL_BYTES = 1_000_000

KEEP_EVERY_S = 900
"""Seconds between two writes of a side's byte count. After a crash, the bytes of the utility's side since the last
write are missing; those of the meters' side are in the next report of the broker."""

KEPT_DAYS = 62  # days kept of each side: this month and the last


@dataclass(frozen=True)
class LineDay:
    """The byte count of one side of the controller's line on one local day."""

    side: str  # ``METERS``, ``UTILITY`` or ``INTERFACE``
    day: int  # the local day, as ``date.toordinal`` numbers it
    sent: int = 0  # IP bytes up
    received: int = 0  # IP bytes down
    seconds: int = 0  # seconds for which it was counted


def kept_days(rows: Iterable[LineDay]) -> Setting:
    """Return the setting that keeps the days of one side."""
    mine = list(rows)
    days = [(row.day, row.sent, row.received, row.seconds) for row in mine]
    return Setting(_days_key(mine[0].side), json.dumps(days, separators=(",", ":")))


def _days_of(store: KeptSettings, side: str) -> dict[int, LineDay]:
    kept = json.loads(store.setting(_days_key(side)) or "[]")
    return {day: LineDay(side, day, *counts) for day, *counts in kept}


def forecast(days: Iterable[LineDay], now: EpochSeconds, zone: ZoneInfo, allowance: int) -> LineMonth | None:
    """Return the line's byte count and forecast for the month of ``now``; ``None``: nothing was ever counted."""
    rows = list(days)
    today = datetime.fromtimestamp(now, zone).date()
    first, end = today.replace(day=1), _month_after(today)
    left_s = month_left_s(now, zone)
    used, expected, known = ByteCount(), ByteCount(), True
    for side in {row.side for row in rows}:
        mine = [row for row in rows if row.side == side]
        month = _sum(row for row in mine if first.toordinal() <= row.day < end.toordinal())
        recent = [row for row in mine if today.toordinal() - RATE_DAYS < row.day <= today.toordinal()]
        counted_s, rate = sum(row.seconds for row in recent), _sum(recent)
        known = known and counted_s >= ENOUGH_S
        used += month
        expected += month
        if counted_s:
            expected += ByteCount(rate.sent * left_s // counted_s, rate.received * left_s // counted_s)
    if not rows:
        return None
    end_of_month = _pair(expected) if known else None
    return LineMonth(used=_pair(used), expected=end_of_month, allowance=allowance)


def month_left_s(now: EpochSeconds, zone: ZoneInfo) -> int:
    """Return the seconds left of the local month."""
    end = _month_after(datetime.fromtimestamp(now, zone).date())
    return max(0, int(datetime(end.year, end.month, 1, tzinfo=zone).timestamp()) - now)


def _pair(byte_count: ByteCount) -> tuple[int, int]:
    return min(MOST_BYTES, byte_count.sent), min(MOST_BYTES, byte_count.received)


def _month_after(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _sum(rows: Iterable[LineDay]) -> ByteCount:
    return sum((ByteCount(row.sent, row.received) for row in rows), ByteCount())


def in_words(month: LineMonth | None) -> list[str]:
    """Return the month's byte count and forecast as text, a line for each direction."""
    if month is None:
        return ["nothing was counted yet"]
    expected: tuple[int | None, ...] = month.expected or (None, None)
    return [
        f"{way}: {gigabytes(used)} used this month, "
        + ("forecast not known yet" if end is None else f"{gigabytes(end)} expected by its end")
        + f", {gigabytes(month.allowance)} allowed"
        for way, used, end in zip(("up", "down"), month.used, expected, strict=True)
    ]


def gigabytes(count: int) -> str:
    """Return a byte count as text."""
    return f"{count / 1e9:.3f} GB"


@dataclass(frozen=True)
class _Mark:
    """The last byte count that was added for a side."""

    run: str  # the counter's run
    byte_count: ByteCount  # the counter's byte count then

    @classmethod
    def of(cls, kept: str) -> Self:
        """Return the mark from its text in the store."""
        run, sent, received = kept.rsplit(",", 2)
        return cls(run, ByteCount(int(sent), int(received)))

    def kept(self) -> str:
        """Return the mark as text for the store."""
        return f"{self.run},{self.byte_count.sent},{self.byte_count.received}"


class LineCounter:
    """Counts the bytes of the line, in the store and in memory.

    After a failed commit it is made anew from the store.
    """

    def __init__(self, store: KeptSettings, zone: str, allowance: int, *, by_interface: bool) -> None:
        self.allowance = allowance
        self.zone = ZoneInfo(zone)  # the local time zone
        self._sides = (INTERFACE,) if by_interface else (METERS, UTILITY)
        # Byte count since the start, by side; for the metrics.
        self.counted: dict[str, ByteCount] = dict.fromkeys(self._sides, ByteCount())
        # By side and day, the last counted day last: a clock that was ahead for a while has made a day too many, which
        # must not count as the newest when old days are deleted.
        self._days = {side: _days_of(store, side) for side in self._sides}
        marks = {side: store.setting(_key(side)) for side in self._sides}
        self._marks = {side: _Mark.of(kept) for side, kept in marks.items() if kept is not None}
        times = {side: store.setting(_time_key(side)) for side in self._sides}
        self._mark_times = {side: int(time) for side, time in times.items() if time is not None}
        self._looked: dict[str, EpochSeconds] = {}
        self._kept: dict[str, EpochSeconds] = {}

    def look(self, side: str, run: str, sums: ByteCount, now: EpochSeconds) -> list[Effect[Change]]:
        """Add a side's bytes since its last report.

        Args:
            side: ``METERS``, ``UTILITY`` or ``INTERFACE``; a side that is not counted here is ignored.
            run: The counter's run; a new run begins at 0. The first report ever only sets the start of the count.
            sums: The byte count since the run began.
            now: The time. If it is before this release was made, the day is unknown: the next report has the bytes.
        """
        if side not in self._sides or now < MADE:
            return []
        mark = self._marks.get(side, _Mark(run, sums))
        goes_on = mark.run == run
        before = _before(mark.byte_count, sums) if goes_on else ByteCount()
        # The sum can fall: a broker subtracts its gateway's connection once the gateway is identified.
        high = ByteCount(max(before.sent, sums.sent), max(before.received, sums.received))
        new = ByteCount(high.sent - before.sent, high.received - before.received)
        day = self.today(now).toordinal()
        days = self._days[side]
        row = days.pop(day, LineDay(side, day))
        days[day] = replace(
            row,
            sent=min(MOST_BYTES, row.sent + new.sent),
            received=min(MOST_BYTES, row.received + new.received),
            seconds=row.seconds + self._measured_s(side, now, goes_on=goes_on),
        )
        self._looked[side] = now
        self.counted[side] += new
        for oldest in list(days)[:-KEPT_DAYS]:
            del days[oldest]
        self._marks[side] = _Mark(run, high)
        if abs(now - self._kept.get(side, 0)) < KEEP_EVERY_S:
            return []
        self._kept[side] = now
        return self._keep(side)

    def _measured_s(self, side: str, now: EpochSeconds, *, goes_on: bool) -> int:
        """Return the seconds since the last report that a counter has measured."""
        # A counter that ``goes_on`` has counted all of them, also while this process did not run.
        before = self._looked.get(side, self._mark_times.get(side, now) if goes_on else now)
        return max(0, now - before) if goes_on or now - before <= LONGEST_LOOK_S else 0

    def keep(self) -> list[Effect[Change]]:
        """Return the writes of all byte counts, for the end of the process."""
        return [effect for side in self._looked for effect in self._keep(side)]

    def _keep(self, side: str) -> list[Effect[Change]]:
        mark, time = Setting(_key(side), self._marks[side].kept()), Setting(_time_key(side), str(self._looked[side]))
        return [Write(kept_days(self._days[side].values())), Write(mark), Write(time)]

    def shift(self, by_s: int) -> None:
        """Shift the times of the last reports after the time was set by ``by_s``."""
        self._looked = {side: looked + by_s for side, looked in self._looked.items()}
        self._kept = {side: kept + by_s for side, kept in self._kept.items()}

    def month(self, now: EpochSeconds) -> LineMonth | None:
        """Return this month's byte count and forecast; ``None``: nothing was ever counted."""
        return forecast(self.days(), now, self.zone, self.allowance)

    def days(self) -> list[LineDay]:
        """Return the days of all sides, oldest first."""
        rows = (row for days in self._days.values() for row in days.values())
        return sorted(rows, key=lambda row: (row.day, row.side))

    def view(self, now: EpochSeconds) -> dict[str, object]:
        """Return the line's state for the status page, as JSON; ``None`` for a side that was never counted."""
        month = self.month(now)
        return {
            "level": "unknown" if month is None else month.level,
            "allowance": self.allowance,
            "used": None if month is None else month.used,
            "expected": None if month is None else month.expected,
            "sides": {side: self._used(side, now) for side in self._sides},
        }

    def _used(self, side: str, now: EpochSeconds) -> dict[str, int] | None:
        mine = self._days[side].values()
        byte_count = _sum(row for row in mine if row.day >= self.today(now).replace(day=1).toordinal())
        return {"up": byte_count.sent, "down": byte_count.received} if mine else None

    def today(self, now: EpochSeconds) -> date:
        """Return the local day."""
        return datetime.fromtimestamp(now, self.zone).date()


def line_of(settings: GatewaySettings, store: KeptSettings) -> LineCounter:
    """Return the byte count of a gateway's line from the store."""
    by_interface = settings.lte_interface is not None
    return LineCounter(store, settings.timezone, settings.lte_allowance_bytes, by_interface=by_interface)


def _before(mark: ByteCount, sums: ByteCount) -> ByteCount:
    """Return the byte count from which a sum goes on; after a false one it begins anew."""
    fall = max(mark.sent - sums.sent, mark.received - sums.received)
    return sums if fall > MOST_FALL_BYTES else mark


def _key(side: str) -> str:
    return f"lte_{side}"


def _time_key(side: str) -> str:
    return f"lte_{side}_time"


def _days_key(side: str) -> str:
    return f"lte_{side}_days"


ENOUGH_FOR_CHANGE_S = 72_000
"""Seconds for which each side must have been counted since the last change, before the next one: nearly a whole day."""


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """The line's use. Pairs are up and down."""

    used: tuple[int, int]  # bytes of this month's whole days
    rate: LineRate  # bytes a second since the last change
    meters: LineRate  # the part of it on the meters' side; of a line with one side: all of it
    left_s: int  # seconds left in the month

    def expected(self, more: LineRate = (0, 0)) -> int:
        """Return the bytes by the end of the month in the fuller direction, if ``more`` bytes a second come on top."""
        rates = [one + other for one, other in zip(self.rate, more, strict=True)]
        return int(max(used + rate * self.left_s for used, rate in zip(self.used, rates, strict=True)))

    def a_month(self, more: LineRate = (0, 0)) -> int:
        """Return the bytes of a whole month in the fuller direction, if ``more`` bytes a second come on top."""
        return int(max(one + other for one, other in zip(self.rate, more, strict=True)) * MONTH_S)


def outlook(days: Iterable[LineDay], today: date, since: int, left_s: int) -> Outlook | None:
    """Return the outlook at the begin of a day; ``None``: too little was counted.

    A day's byte count that is larger than all others counts as the second largest: one false report, of whatever
    size, is none of a day.

    Args:
        days: The counted days of all sides.
        today: The local day that begins.
        since: The local day from which the present steps are in force.
        left_s: Seconds left in the month.
    """
    rows = [row for row in days if row.day < today.toordinal()]
    first, start = today.replace(day=1).toordinal(), max(since, (today - timedelta(RATE_DAYS)).toordinal())
    used, rates = [0, 0], {}
    for side in {row.side for row in rows}:
        mine = [row for row in rows if row.side == side]
        recent = [row for row in mine if row.day >= start]
        if (counted_s := sum(row.seconds for row in recent)) < ENOUGH_FOR_CHANGE_S:
            return None
        sent, received = _sums(recent)
        rates[side] = sent / counted_s, received / counted_s
        used = [one + more for one, more in zip(used, _sums([r for r in mine if r.day >= first]), strict=True)]
    if not rates:
        return None
    up, down = (sum(rate[way] for rate in rates.values()) for way in (0, 1))
    meters = rates.get(METERS, (0.0, 0.0) if UTILITY in rates else (up, down))
    return Outlook(used=(used[0], used[1]), rate=(up, down), meters=meters, left_s=left_s)


def _sums(rows: Sequence[LineDay]) -> tuple[int, int]:
    return _without_peak([row.sent for row in rows]), _without_peak([row.received for row in rows])


def _without_peak(counts: list[int]) -> int:
    ordered = sorted(counts)
    return sum(ordered[:-1]) + (ordered[-2] if len(ordered) > 1 else sum(ordered[-1:]))


TAKE_BACK_PERCENT = 85  # part of the allowance below which a month without the last step is low
TAKE_BACK_DAYS = 7  # judged days in a row that must be low before the last step is taken back


STEPS = tuple(SavingMeasure)
MOST_STEPS = {"nothing": 0, "lossless": 3, "averages": 4}
"""By the setting ``saves``, how many steps a gateway may take by itself."""


@dataclass(frozen=True, kw_only=True)
class Ladder:
    """How far a gateway has climbed."""

    step: int = 0  # steps in force
    since: int = 0  # local day of the last change, as ``date.toordinal`` numbers it
    judged: int = 0  # local day of the last judgement
    low_days: int = 0  # judged days in a row on which the month without the last step was low

    @property
    def measures(self) -> tuple[SavingMeasure, ...]:
        """What is in force."""
        return STEPS[: self.step]

    def judge(
        self, today: int, outlook: Outlook | None, allowance: int, growth: Sequence[LineRate | None], *, at_risk: bool
    ) -> tuple["Ladder", str]:
        """Return the ladder after the judgement of a day, and why it changed; empty: it did not.

        Args:
            today: The local day.
            outlook: The line's outlook; ``None``: too little was counted.
            allowance: Allowed bytes in a month.
            growth: By allowed step, the bytes a second that come on top without it; ``None``: not known.
            at_risk: Whether the line's forecast is above its allowance.
        """
        most = len(growth)
        judged = replace(self, judged=today, step=min(self.step, most), since=min(self.since, today))
        if outlook is None:
            return judged, ""
        expected = outlook.expected()
        if at_risk and expected > allowance and judged.step < most:
            why = f"{gigabytes(expected)} expected by the month's end, {gigabytes(allowance)} allowed"
            return Ladder(step=judged.step + 1, since=today, judged=today), f"{WORDS[STEPS[judged.step]]}: {why}"
        if not judged.step or (more := growth[judged.step - 1]) is None:
            return judged, ""
        without = max(outlook.expected(more), outlook.a_month(more))
        low_days = judged.low_days + 1 if without * 100 < allowance * TAKE_BACK_PERCENT else 0
        if low_days < TAKE_BACK_DAYS:
            return replace(judged, low_days=low_days), ""
        why = f"{gigabytes(without)} a month without it for {TAKE_BACK_DAYS} days, {gigabytes(allowance)} allowed"
        back = Ladder(step=judged.step - 1, since=today, judged=today)
        return back, f"no longer: {WORDS[STEPS[back.step]]}: {why}"
