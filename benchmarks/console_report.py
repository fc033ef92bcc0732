"""What was measured of the console before a whole town, as a section: its goals and tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.console_readings import PART, StoredReadings
from benchmarks.console_town import FULL, Filled
from commonwatt.model.units import SLOTS
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.town.town import Town
from harness.docs.measured import Goal, Section, Table, number, percentile

MOST_MS, MOST_BYTES, MOST_MB, MOST_CORE = 200, 150_000, 250, 0.05
PLOT_MS, MONTH_MS, FIND_MS = 300, 1_000, 100
SIX_MONTHS_DAYS = 182
ACES_TB = 1.8  # six months of the town's readings in the ACES report
# Requests with goals of their own.
PLOT, MONTH, FIND = "plot of five settled years", "the town's completeness of a month", "search, three characters"

_SHARED = "The processor is shared with what else runs on the machine."


@dataclass(frozen=True)
class Answers:
    """The answers of a page."""

    ms: list[float]  # milliseconds of each request
    cpu_ms: float  # mean milliseconds of the utility's processor time for a request
    bytes: int  # bytes of the largest answer

    @property
    def p95(self) -> float:
        """The 95th percentile of the milliseconds."""
        return percentile(self.ms, 95)


Pages = Mapping[str, Answers]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was measured."""

    made: Filled  # the town's data
    pages: Pages  # the answers of each page, while nothing else runs
    beside_jobs: Answers  # those of pages of microgrids while the hourly jobs run
    jobs_s: float  # how long these took
    cores: float  # busy cores of the utility for the browsers that show the town
    start_mb: float  # peak of the utility's memory when the jobs at its start were done
    memory_mb: float  # peak of the utility's memory
    file_gb: float  # size of the SQLite file
    readings: StoredReadings  # readings on PostgreSQL


def section(town: Town, it: Measured) -> Section:
    """Return the section of the page of measurements."""
    return Section(
        title="The console before a whole town",
        about=_about(town, it),
        tables=(_answers(it), _beside_jobs(it), _six_months(town, it.readings)),
        goals=(*_goals_of_pages(it), *_goals_of_utility(it)),
        notes=(_note(town, it.readings),),
    )


def _goals_of_pages(it: Measured) -> tuple[Goal, ...]:
    whole = [name for name in it.pages if "plot" not in name and name not in (MONTH, FIND)]
    largest = max(it.pages[name].bytes for name in whole)
    links = "The 802 links of the town."
    return (
        _in_ms("pages, p95 of the slowest", max(it.pages[name].p95 for name in whole), MOST_MS),
        _in_ms("a microgrid's page while the hourly jobs run, p95", it.beside_jobs.p95, MOST_MS),
        Goal(what="bytes of the largest page", value=largest, unit="bytes", at_most=MOST_BYTES, limited_by=links),
        _in_ms("a meter's plot of five years, p95", it.pages[PLOT].p95, PLOT_MS),
        _in_ms("the town's completeness of a month, p95", it.pages[MONTH].p95, MONTH_MS),
        _in_ms("search as one types, p95", it.pages[FIND].p95, FIND_MS, "It looks at every registered meter."),
    )


def _in_ms(what: str, value: float, at_most: float, limited_by: str = _SHARED) -> Goal:
    return Goal(what=what, value=value, unit="ms", at_most=at_most, limited_by=limited_by)


def _goals_of_utility(it: Measured) -> tuple[Goal, ...]:
    return (
        Goal(
            what=f"{FULL.browsers} browsers that show the town",
            value=max(0.0, round(it.cores, 4)),
            unit="cores",
            at_most=MOST_CORE,
            limited_by="Each request looks up its session.",
        ),
        Goal(what="memory of the utility", value=it.memory_mb, unit="MB", at_most=MOST_MB, limited_by="Its libraries."),
    )


def _answers(it: Measured) -> Table:
    rows = tuple(
        (name, number(percentile(one.ms, 50)), number(one.p95), number(one.cpu_ms), f"{one.bytes / 1000:,.1f}")
        for name, one in it.pages.items()
    )
    heads = ("page", "median, ms", "p95, ms", "of it the utility's processor, mean ms", "kB, not compressed")
    return Table(title="Answers", columns=heads, rows=rows)


def _beside_jobs(it: Measured) -> Table:
    ms = it.beside_jobs.ms
    figures = it.jobs_s, len(ms), percentile(ms, 50), it.beside_jobs.p95, max(ms), it.start_mb
    return Table(
        title="A microgrid's page, asked ten times a second while the hourly jobs run",
        columns=("jobs, s", "requests", "median, ms", "p95, ms", "slowest, ms", "peak of the utility's memory, MB"),
        rows=(tuple(number(each) for each in figures),),
    )


def _readings_of(town: Town) -> int:
    """Return the readings of the town in six months."""
    return _series(town) * QUARTERS_A_DAY * SLOTS * SIX_MONTHS_DAYS


def _series(town: Town) -> int:
    return sum(len(meter.record_types) for meter in town.meters)


def _six_months(town: Town, stored: StoredReadings) -> Table:
    readings = _readings_of(town)
    tb = readings * stored.per_reading / 1e12
    return Table(
        title="Six months of the town's packed readings on PostgreSQL",
        columns=("readings", "bytes a reading, with index", "TB", "ACES, TB"),
        rows=((f"{readings:,}", number(stored.per_reading), number(tb), str(ACES_TB)),),
    )


def _about(town: Town, it: Measured) -> str:
    return (
        f"The whole utility as a process of its own, without a broker, on SQLite: {len(town.microgrids)} microgrids, "
        f"{len(town.meters):,} meters, {it.made.settled_rows:,} settled days of five years, {it.made.blocks:,} blocks: "
        "a month of a tenth of the microgrids, the last two days of all. The payloads of the meters that are shown are "
        f"made for them, the others are copies. The file has {number(it.file_gb)} GB. Requests come one after the "
        "other, by HTTP on the same machine, each with a session, between two runs of the hourly jobs; those of the "
        "second table while the jobs run that are due at the start: among them a day of the whole town that is settled "
        "again, counted for completeness, searched for gaps, and taken into its month's usage. The cost of the "
        "browsers is the utility's processor time while each has a stream "
        "and asks when the town changed, less its processor time without them, just after."
    )


def _note(town: Town, stored: StoredReadings) -> str:
    month = _series(town) * QUARTERS_A_DAY * 31
    return (
        f"The size of six months is extrapolated from {number(stored.days)} emulated days of {stored.series:,} series: "
        f"the meters of one in {PART} residential microgrids and apartments and the whole public microgrid, with the "
        f"columns for queries; a month of every meter, {_series(town):,} series, would take too long to emulate. It "
        f"would have about {number(month / 1e6)} million blocks in the SQLite file."
    )
