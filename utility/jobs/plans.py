"""What is known of a job without its work: its periods, when they are due and late, and what a person may change. Pure.

Times are UTC epoch seconds; a time of day is minutes after local midnight.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from zoneinfo import ZoneInfo

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.jobs.calendar_periods import Cadence, LocalDay, Seconds

SHORTEST_S = 15  # shortest interval of a job, clock seconds: the jobs are looked at so often
LONGEST_S = 86_400  # longest interval of a job that has no shorter bound, clock seconds

DAY_MINUTES = 1_440


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a person set for a job, in place of its plan."""

    every_s: int | None = None  # the interval; ``None``: as planned
    minute: int | None = None  # the time of day; ``None``: as planned
    paused: EpochSeconds | None = None  # since when it is paused; ``None``: it is not


UNCHANGED = Change()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A job without its work."""

    name: str  # its name in the tables, at most 32 characters
    does: str  # what it does, for people
    cadence: Cadence  # defines the periods; the job runs once for each
    # Whether missed periods are made up for, in order, each after its end. Such a job waits for a trusted clock. Else
    # only the present period is run, at its beginning.
    catch_up: bool = False
    from_previous: bool = False  # whether a new job that catches up begins with the period before the present one
    minute: int = 0  # the time of day at which a local day or month is due
    late_s: int = 3_600  # seconds after which a due period that is not done is late
    longest_s: int = LONGEST_S  # the longest interval that may be set
    frees_disk: bool = False  # whether the job also runs with a full disk
    also: tuple[str, ...] = ()  # other names of the job: what the town's documents call it

    def in_force(self, change: Change, zone: ZoneInfo) -> "Plan":
        """Return the plan with what a person set, in the town's zone."""
        if isinstance(self.cadence, Seconds):
            return replace(self, cadence=Seconds(change.every_s or self.cadence.length))
        minute = self.minute if change.minute is None else change.minute
        return replace(self, cadence=type(self.cadence)(zone), minute=minute)

    def due(self, start: EpochSeconds, end: EpochSeconds) -> EpochSeconds:
        """Return when a period is due: after its end if the job catches up, else at its beginning."""
        begin = end if self.catch_up else start
        if isinstance(self.cadence, Seconds):
            return begin
        return _at_minute(begin, self.minute, self.cadence.zone)

    def fault(self, change: Change) -> str | None:
        """Return why a change can't be; ``None``: it can."""
        if isinstance(self.cadence, Seconds):
            if change.minute is not None:
                return f"{self.name} runs at an interval and has no time of day; set its interval"
            if change.every_s is not None and not SHORTEST_S <= change.every_s <= self.longest_s:
                return f"the interval of {self.name} is {SHORTEST_S} to {self.longest_s} s, not {change.every_s} s"
            return None
        if change.every_s is not None:
            return f"{self.name} runs once for each {self.every}; only its time of day can be set"
        if change.minute is not None and not 0 <= change.minute < DAY_MINUTES:
            return "a time of day is 00:00 to 23:59"
        return None

    @property
    def every(self) -> str:
        """How often it runs, for people."""
        if isinstance(self.cadence, Seconds):
            return f"{self.cadence.length} s"
        return "local day" if isinstance(self.cadence, LocalDay) else "local month"


def minute_of(text: str) -> int:
    """Return the minute of a time of day such as ``02:30``.

    Raises:
        ConfigError: The text is none.
    """
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and len(hours) <= 2 and len(minutes) == 2):
        raise ConfigError(f"{text!r:.20} is no time of day; write it as 02:30")
    minute = int(hours) * 60 + int(minutes)
    if int(minutes) >= 60 or minute >= DAY_MINUTES:
        raise ConfigError(f"{text!r:.20}: a time of day is 00:00 to 23:59")
    return minute


def _at_minute(begin: EpochSeconds, minute: int, zone: ZoneInfo) -> EpochSeconds:
    """Return a time of the local day that ``begin`` is in, not before ``begin``."""
    # A time of day that the clock skips is as much later as the clock is set forward; one that it shows twice is the
    # first.
    day = datetime.fromtimestamp(begin, zone)
    local = datetime(day.year, day.month, day.day, minute // 60, minute % 60, tzinfo=zone)
    return max(begin, int(local.timestamp()))
