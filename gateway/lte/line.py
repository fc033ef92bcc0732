"""The controller's LTE line: what it has cost, day by day, and what it will have by the month's end (C9, docs/lte.md).

The line has two sides, each counted by the process that has its connections: ``meters``, which the microgrid's broker
tells, and ``utility``, the gateway's own; or one, ``interface``, the counters of its network interface. Each comes as
sums that only grow; what is kept are their differences, by local day.

The forecast, for each side and direction: used so far in this month + bytes of the last seven days' counting / its
seconds * seconds left in the month.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Self
from zoneinfo import ZoneInfo

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.byte_count import ByteCount
from commonwatt.model.effects import Effect, Write
from commonwatt.model.units import MADE, EpochSeconds
from commonwatt.protocol.heartbeats import Month
from gateway.changes import Change, Setting
from gateway.stored import KeptSettings

METERS, UTILITY, INTERFACE = "meters", "utility", "interface"
SIDES = (METERS, UTILITY, INTERFACE)

RATE_DAYS = 7
"""The forecast goes on as in so many days up to now."""

ENOUGH_S = 3600
"""Before a side was counted for so long nothing is forecast."""

MOST_BYTES = 2**53
"""No line carries more; what an interface or a broker may say beyond is not believed."""

LONGEST_LOOK_S = 3600
"""If two looks are further apart, the time between them does not count as measured."""

KEPT_DAYS = 62
"""So many days of a side are kept: this month and the last."""


@dataclass(frozen=True)
class LineDay:
    """What one side of the controller's line has cost on one local day.

    Attributes:
        side: Which side.
        day: The local day, as ``date.toordinal`` numbers it.
        sent: IP bytes up.
        received: IP bytes down.
        seconds: For how long it was counted.
    """

    side: str
    day: int
    sent: int = 0
    received: int = 0
    seconds: int = 0


def kept_days(rows: Iterable[LineDay]) -> Setting:
    """Return how the days of one side are kept."""
    mine = list(rows)
    days = [(row.day, row.sent, row.received, row.seconds) for row in mine]
    return Setting(_days_key(mine[0].side), json.dumps(days, separators=(",", ":")))


def _days_of(store: KeptSettings, side: str) -> dict[int, LineDay]:
    kept = json.loads(store.setting(_days_key(side)) or "[]")
    return {day: LineDay(side, day, *counts) for day, *counts in kept}


def forecast(days: Iterable[LineDay], now: EpochSeconds, zone: ZoneInfo, allowance: int) -> Month | None:
    """Return how the line stands in the month of ``now``; ``None`` if nothing was ever counted."""
    rows = list(days)
    today = datetime.fromtimestamp(now, zone).date()
    first, end = today.replace(day=1), _month_after(today)
    left_s = max(0, int(datetime(end.year, end.month, 1, tzinfo=zone).timestamp()) - now)
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
    return Month(used=_pair(used), expected=end_of_month, allowance=allowance)


def _pair(byte_count: ByteCount) -> tuple[int, int]:
    return min(MOST_BYTES, byte_count.sent), min(MOST_BYTES, byte_count.received)


def _month_after(day: date) -> date:
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1)


def _sum(rows: Iterable[LineDay]) -> ByteCount:
    return sum((ByteCount(row.sent, row.received) for row in rows), ByteCount())


def in_words(month: Month | None) -> list[str]:
    """Say how the line stands, in a line for each direction."""
    if month is None:
        return ["nothing was counted yet"]
    expected: tuple[int | None, ...] = month.expected or (None, None)
    return [
        f"{way}: {_gigabytes(used)} used this month, "
        + ("forecast not known yet" if end is None else f"{_gigabytes(end)} expected by its end")
        + f", {_gigabytes(month.allowance)} allowed"
        for way, used, end in zip(("up", "down"), month.used, expected, strict=True)
    ]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.3f} GB"


@dataclass(frozen=True)
class _Mark:
    """How far a side's sums were taken in.

    Attributes:
        run: Whose sums.
        use: The sums.
    """

    run: str
    byte_count: ByteCount

    @classmethod
    def of(cls, kept: str) -> Self:
        """Return the mark that was kept as text."""
        run, sent, received = kept.rsplit(",", 2)
        return cls(run, ByteCount(int(sent), int(received)))

    def kept(self) -> str:
        """Return it as text, to be kept."""
        return f"{self.run},{self.byte_count.sent},{self.byte_count.received}"


class Line:
    """Keeps account of the line. What is in the store it has in memory too; if a commit fails, it is made anew.

    Attributes:
        counted: What was counted since the start, by side; for the metrics.
    """

    def __init__(self, store: KeptSettings, zone: str, allowance: int, *, by_interface: bool) -> None:
        self.allowance = allowance
        self._zone = ZoneInfo(zone)
        self._sides = (INTERFACE,) if by_interface else (METERS, UTILITY)
        self.counted: dict[str, ByteCount] = dict.fromkeys(self._sides, ByteCount())
        # Of each side by day, in the order in which they were last counted: a clock that was ahead for a while has made
        # one day too many, and must not make the others old.
        self._days = {side: _days_of(store, side) for side in self._sides}
        marks = {side: store.setting(_key(side)) for side in self._sides}
        self._marks = {side: _Mark.of(kept) for side, kept in marks.items() if kept is not None}
        self._looked: dict[str, EpochSeconds] = {}

    def look(self, side: str, run: str, sums: ByteCount, now: EpochSeconds) -> list[Effect[Change]]:
        """Take in the sums of a side.

        Args:
            side: One of ``SIDES``; of one that does not count here nothing is taken.
            run: Whose sums; those of another run began at 0. The first that are ever seen only begin the count.
            sums: All since the run began.
            now: The time. Before this release was made there is no telling which day it is, and the sums wait.
        """
        if side not in self._sides or now < MADE:
            return []
        mark = self._marks.get(side, _Mark(run, sums))
        before = mark.byte_count if mark.run == run else ByteCount()
        # A broker takes its gateway's connection out of the sum as soon as it knows whose it is.
        high = ByteCount(max(before.sent, sums.sent), max(before.received, sums.received))
        new = ByteCount(high.sent - before.sent, high.received - before.received)
        took_s = now - self._looked.get(side, now)
        day = self._today(now).toordinal()
        days = self._days[side]
        row = days.pop(day, LineDay(side, day))
        days[day] = replace(
            row,
            sent=min(MOST_BYTES, row.sent + new.sent),
            received=min(MOST_BYTES, row.received + new.received),
            seconds=row.seconds + (took_s if took_s <= LONGEST_LOOK_S else 0),
        )
        self._looked[side] = now
        self.counted[side] += new
        for oldest in list(days)[:-KEPT_DAYS]:
            del days[oldest]
        self._marks[side] = _Mark(run, high)
        return [Write(kept_days(days.values())), Write(Setting(_key(side), self._marks[side].kept()))]

    def shift(self, by_s: int) -> None:
        """Go on though the time was set by ``by_s``."""
        self._looked = {side: looked + by_s for side, looked in self._looked.items()}

    def month(self, now: EpochSeconds) -> Month | None:
        """Return how the line stands; ``None`` if nothing of it was ever counted."""
        return forecast(self.days(), now, self._zone, self.allowance)

    def days(self) -> list[LineDay]:
        """Return what is kept, oldest first."""
        rows = (row for days in self._days.values() for row in days.values())
        return sorted(rows, key=lambda row: (row.day, row.side))

    def view(self, now: EpochSeconds) -> dict[str, object]:
        """Return what a person wants to see of it, as JSON; of a side that is not counted ``None``."""
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
        byte_count = _sum(row for row in mine if row.day >= self._today(now).replace(day=1).toordinal())
        return {"up": byte_count.sent, "down": byte_count.received} if mine else None

    def _today(self, now: EpochSeconds) -> date:
        return datetime.fromtimestamp(now, self._zone).date()


def line_of(settings: GatewaySettings, store: KeptSettings) -> Line:
    """Return the account of a gateway's line."""
    by_interface = settings.lte_interface is not None
    return Line(store, settings.timezone, settings.lte_allowance_bytes, by_interface=by_interface)


def _key(side: str) -> str:
    return f"lte_{side}"


def _days_key(side: str) -> str:
    return f"lte_{side}_days"
