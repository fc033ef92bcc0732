"""Plans of jobs: periods of a cadence, all jobs, when they are due, where they run, and why a day is settled.

The periods of a job follow each other without a gap, whatever clocks and offsets do: each begins where the previous one
ended. A local day has 23, 24 or 25 hours, or another length that its zone sets.

Times are UTC epoch seconds; a time of day is minutes after local midnight.

A job whose work is a list of its own in the database (what is due, what is missing) looks at that list at an interval,
and makes up for nothing by its periods: the list does. A job whose result belongs to a local day or month catches up.
"""

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from enum import IntEnum
from typing import Any, TypeAlias, TypeVar
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import local_day
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from utility.settings import UtilitySettings

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


SHORTEST_S = 15  # shortest interval of a job, clock seconds: the jobs are looked at so often
LONGEST_S = 86_400  # longest interval of a job that has no shorter bound, clock seconds

DAY_MINUTES = 1_440


@dataclass(frozen=True, kw_only=True)
class PlanChange:
    """What a person set for a job, in place of its plan."""

    every_s: int | None = None  # the interval; ``None``: as planned
    minute: int | None = None  # the time of day; ``None``: as planned
    paused: EpochSeconds | None = None  # since when it is paused; ``None``: it is not


UNCHANGED = PlanChange()


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

    def in_force(self, change: PlanChange, zone: ZoneInfo) -> "Plan":
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

    def fault(self, change: PlanChange) -> str | None:
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


_DAY_S = 86_400

# A month waits for its final data: five working days, weekends and holidays around them, and the work after it.
_FINAL_S = 12 * _DAY_S


def catalogue(settings: UtilitySettings) -> tuple[Plan, ...]:
    """Return the plans of the jobs that the settings ask for, in the order in which a tick runs them."""
    plans = (
        Plan(name="supply", cadence=Seconds(60), longest_s=300, late_s=900, also=("Purchase_power",),
             does="buys power for the quarter-hour by the forecast of need, and rations"),
        Plan(name="rates", cadence=Seconds(300), does="tells controllers the rates of their accounts",
             also=("Send_billing_rates",)),
        Plan(name="weights", cadence=Seconds(300), does="tells gateways the sharing weights of their accounts"),
        Plan(name="spared", cadence=Seconds(300), does="tells gateways which places must not be cut"),
        Plan(name="balance", cadence=Seconds(300),
             does="gives meters other brokers so that no LTE line carries too many of them"),
        Plan(name="bundles", cadence=Seconds(60), does="has controllers take what was placed for them"),
        Plan(name="rollout", cadence=Seconds(60), does="sends a release to the controllers whose turn it is"),
        Plan(name="sharing", cadence=Seconds(300), does="records who shared in the finished quarter-hours"),
        Plan(name="compact", cadence=Seconds(settings.compact_s), does="joins the parts of finished quarter-hours"),
        Plan(name="settlement", cadence=Seconds(900), does="settles the finished days that are marked as due"),
        Plan(name="gaps", cadence=Seconds(settings.gaps_s), also=("Query_data", "Recover_data"),
             does="asks gateways for missing readings of the last 180 days"),
        Plan(name="bills", cadence=LocalMonth(), catch_up=True, from_previous=True, minute=60, late_s=_FINAL_S,
             does="makes the draft of the month's bills", also=("Create_bills",)),
        Plan(name="witnesses", cadence=Seconds(300), does="asks controllers to sign the check codes of issued bills"),
        Plan(name="mail", cadence=Seconds(60), late_s=3_600, does="sends queued bills and reminders by mail"),
        Plan(name="completeness", cadence=Seconds(3_600), late_s=6 * 3_600,
             does="counts the completeness of finished days"),
        Plan(name="statistics", cadence=Seconds(3_600), late_s=6 * 3_600, also=("Compute_statistics",),
             does="takes settled days into the months' usage"),
        Plan(name="projection", cadence=LocalDay(), late_s=_DAY_S,
             does="projects the next month's energy, revenue and cost"),
        Plan(name="validation", cadence=Seconds(3_600), late_s=6 * 3_600,
             does="checks each finished day's readings once, and proposes estimates"),
        Plan(name="retention", cadence=Seconds(3_600), late_s=_DAY_S, frees_disk=True,
             does="makes the coming months' partitions, and drops what is no longer kept"),
        Plan(name="reminders", cadence=LocalDay(), minute=360, late_s=_DAY_S,
             does="makes the reminders of overdue bills that the tariff asks for"),
        Plan(name="exports", cadence=LocalMonth(), catch_up=True, from_previous=True, minute=120, late_s=_FINAL_S,
             does="writes the month's data to files", also=("Export_statistics", "Export_all_data")),
        Plan(name="backup", cadence=LocalDay(), minute=150, late_s=6 * 3_600, does="makes the backup of the night"),
    )  # fmt: skip
    left_out = {name for name, of in (("exports", settings.exports), ("backup", settings.backup)) if of.folder is None}
    if settings.office.mail.host is None:
        left_out.add("mail")
    if settings.site is None or settings.care is None:
        left_out.add("bundles")
    return tuple(plan for plan in plans if plan.name not in left_out)


def plan_of(settings: UtilitySettings, name: str) -> Plan:
    """Return the plan of a job by its name, or by what the town's documents call it.

    Raises:
        ConfigError: There is no such job.
    """
    wanted = name.lower().replace("-", "_")
    plans = catalogue(settings)
    for plan in plans:
        if wanted in (plan.name, *(other.lower() for other in plan.also)):
            return plan
    raise ConfigError(f"{name}: there is no such job; there are {', '.join(plan.name for plan in plans)}")


_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Threads:
    """The threads of a service's jobs."""

    read: Callable[..., Awaitable[Any]]  # runs a function on the jobs' thread, which reads and computes
    write: Callable[..., Awaitable[Any]]  # runs a function on the thread for writes


async def _call(work: Callable[..., _T], *arguments: object) -> _T:
    return work(*arguments)


HERE = Threads(read=_call, write=_call)  # a job that a command runs has one thread


class Why(IntEnum):
    """The reason of a version, as stored; of several, the highest stands."""

    FIRST = 1  # the day was settled for the first time
    LATE = 2  # readings came late
    REGISTRY = 3  # the registry was changed: an exchange, a meter's place
    CORRECTION = 4  # a correction was approved, edited or withdrawn
    PERSON = 5  # a person had the day settled again

    @property
    def words(self) -> str:
        """The reason, for people."""
        return _WORDS[self]


_WORDS = {
    Why.FIRST: "first settlement",
    Why.LATE: "late readings",
    Why.REGISTRY: "registry changed",
    Why.CORRECTION: "correction",
    Why.PERSON: "settled again by a person",
}
