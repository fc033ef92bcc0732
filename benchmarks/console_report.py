"""What was measured of the console before a whole town, as a section: its goals and tables."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.console_town import FULL, Filled
from commonwatt.town.town import Town
from harness.docs.measured import Goal, Section, Table, number, percentile

MOST_MS, MOST_BYTES, MOST_MB, MOST_CORE = 200, 150_000, 250, 0.05
PLOT_MS, MONTH_MS, FIND_MS = 300, 1_000, 100
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


def section(town: Town, it: Measured) -> Section:
    """Return the section of the page of measurements."""
    return Section(
        title="The console before a whole town",
        about=_about(town, it),
        tables=(_answers(it), _beside_jobs(it)),
        goals=(*_goals_of_pages(it), *_goals_of_utility(it)),
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
