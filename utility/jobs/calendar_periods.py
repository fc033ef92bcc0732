"""Periods of jobs: how a cadence divides time, and which periods a table lacks. Pure; times are UTC epoch seconds.

The periods of a job follow each other without a gap, whatever clocks and offsets do: each begins where the previous one
ended. A local day has 23, 24 or 25 hours, or another length that its zone sets.
"""

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

from commonwatt.model.time.local_calendar import local_day
from commonwatt.model.units import EpochSeconds

NEW_YORK = ZoneInfo("America/New_York")

MAX_NEW = 1_000  # most periods added at once, so that a clock that is years ahead does not fill the table
AHEAD_S = 60  # most seconds by which the clock of another process on the same database may be ahead


@dataclass(frozen=True, kw_only=True)
class Period:
    """A span of time, half-open."""

    start: EpochSeconds  # its first second
    end: EpochSeconds  # the second after its last
    name: str  # for people, at most 32 characters: ``2026-10``, ``2026-10-31``, or the start's time


@dataclass(frozen=True)
class Seconds:
    """Periods of ``length`` seconds, counted from the epoch, UTC."""

    length: int

    def period_at(self, time: EpochSeconds) -> Period:
        """Return the period that ``time`` is in."""
        start = time - time % self.length
        name = datetime.fromtimestamp(start, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        return Period(start=start, end=start + self.length, name=name)


@dataclass(frozen=True)
class LocalDay:
    """The days of a zone's calendar."""

    zone: ZoneInfo = NEW_YORK

    def period_at(self, time: EpochSeconds) -> Period:
        """Return the local day that ``time`` is in."""
        today = local_day(time, self.zone)
        days = (today + timedelta(days=n) for n in (-1, 0, 1, 2))
        return _between(time, days, self.zone, "%Y-%m-%d")


@dataclass(frozen=True)
class LocalMonth:
    """The months of a zone's calendar."""

    zone: ZoneInfo = NEW_YORK

    def period_at(self, time: EpochSeconds) -> Period:
        """Return the local month that ``time`` is in."""
        today = local_day(time, self.zone)
        months = (divmod(today.year * 12 + today.month - 1 + n, 12) for n in (-1, 0, 1, 2))
        return _between(time, (date(year, month + 1, 1) for year, month in months), self.zone, "%Y-%m")


Cadence: TypeAlias = Seconds | LocalDay | LocalMonth  # divides time into periods


def following(cadence: Cadence, end: EpochSeconds) -> Period:
    """Return the period that begins at ``end``, the end of the previous one.

    After a change of cadence or zone it is up to half a period longer or shorter: each second is then in exactly one
    period.
    """
    found = cadence.period_at(end)
    if end - found.start > found.end - end:
        found = cadence.period_at(found.end)
    return replace(found, start=end)


def lacking(
    cadence: Cadence, newest: Period | None, now: EpochSeconds, *, catch_up: bool, from_previous: bool = False
) -> list[Period]:
    """Return the periods missing in a job's table, oldest first: all up to the present one, at most ``MAX_NEW``.

    Args:
        newest: The newest period in the table; ``None``: the job is new, and begins with the present period.
        catch_up: Whether missed periods are made up for; else only the present period matters.
        from_previous: Whether a new job begins with the period before the present one.
    """
    if newest is None:
        present = cadence.period_at(now)
        return [cadence.period_at(present.start - 1), present] if from_previous else [present]
    if not catch_up:
        present = cadence.period_at(now)
        # A period further ahead is from a wrong clock; the job must not wait until then.
        is_there = newest.start == present.start or now < newest.start <= now + AHEAD_S
        return [] if is_there else [present]
    periods: list[Period] = []
    while newest.end <= now and len(periods) < MAX_NEW:
        newest = following(cadence, newest.end)
        periods.append(newest)
    return periods


def _first_second(day: date, zone: ZoneInfo) -> EpochSeconds:
    """Return the first second of a local day: midnight, or the end of a clock change that skips midnight."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    low, high = sorted(int(midnight.replace(fold=fold).timestamp()) for fold in (0, 1))
    if local_day(low, zone) >= day:
        return low
    return low + bisect_left(range(low, high), day, key=lambda time: local_day(time, zone))


def _between(time: EpochSeconds, days: Iterable[date], zone: ZoneInfo, names: str) -> Period:
    """Return the period around ``time`` between two consecutive ones of some ascending days."""
    begins = [(_first_second(day, zone), day) for day in days]
    # A day that the zone skipped begins at the same second as the next day.
    start, first = max(begin for begin in begins if begin[0] <= time)
    return Period(start=start, end=min(begin for begin, _ in begins if begin > time), name=first.strftime(names))
