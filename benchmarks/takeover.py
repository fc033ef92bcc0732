"""The time from a controller's loss to the first command of another one that a meter accepts, in the seeded world."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

from commonwatt.clique.beats import BEAT_S
from harness.docs.measured import Goal, Section, Table, percentile
from harness.world.clique.begun import begun, passes, taken_over
from harness.world.clique.part import NAMES, PLACES
from harness.world.clique.world import CliqueWorld

RUNS, OTHER_RUNS = 300, 100
LINE_HOURS = 12  # hours of a line that loses in bursts
BURSTS_S = (0.5, 4.5)  # mean seconds of a burst, and between bursts: 10 % of the time
PATIENCE_S = 60
HEADER_BYTES, BEAT_BYTES = 28, 10  # of IPv4 and UDP, and of the beat
MONTH_S = 30 * 86_400
_LIMIT = "The deadlines of the rules."


@dataclass(frozen=True)
class Case:
    """A way to lose a controller."""

    words: str  # what happens
    has_utility: bool  # whether the utility is there
    happens: Callable[[CliqueWorld], None]  # does it
    runs: int = OTHER_RUNS


@dataclass(frozen=True)
class Times:
    """Seconds from the loss until meters of the microgrid obey another one."""

    first_s: float  # the first meter
    most_s: float  # 90 % of the meters
    last_s: float  # the last meter


def _killed(world: CliqueWorld) -> None:
    world.gateways["r001"].crash(1e9)


def _killed_with_another(world: CliqueWorld) -> None:
    _killed(world)
    world.gateways["r003"].crash(1e9)


def _killed_with_the_head_end(world: CliqueWorld) -> None:
    _killed(world)
    world.utility.crash(1e9)


CASES = (
    Case("killed, with the utility", True, _killed, RUNS),
    Case("killed, without the utility", False, _killed, RUNS),
    Case("two of three killed, without the utility", False, _killed_with_another),
    Case("killed, and the head-end lost in the same moment", True, _killed_with_the_head_end),
)


def lose(case: Case, seed: int) -> Times:
    """Return the times of one run."""
    with begun(seed, has_utility=case.has_utility) as world:
        lost = world.monotonic
        case.happens(world)
        passes(world, PATIENCE_S)
        times = [time - lost for time in taken_over(world, "r001", lost)]
        assert len(times) == len(world.fleets["r001"].meters), world.story.text()
    return Times(times[0], times[round(0.9 * len(times)) - 1], times[-1])


def false_takeovers(seed: int, hours: float) -> int:
    """Return how often a controller was taken over though it lived, on lines with bursts."""
    with begun(seed) as world:
        chance, until = world.net, world.time + hours * 3_600

        def burst() -> None:
            name, for_s = chance.choice(NAMES), chance.expovariate(1 / BURSTS_S[0])
            lines = {line for line in product(PLACES, PLACES) if name in line}
            world.cut |= lines
            world.after(for_s, lambda: world.cut.difference_update(lines))
            if world.time < until:
                world.after(chance.expovariate(len(NAMES) / BURSTS_S[1]), burst)

        burst()
        passes(world, hours * 3_600)
        return len(world.grants) - len(NAMES)


def bench(*, smoke: bool = False) -> Section:
    """Measure on the virtual clock."""
    found = {case.words: [lose(case, seed) for seed in range(3 if smoke else case.runs)] for case in CASES}
    false = false_takeovers(1, 0.5 if smoke else LINE_HOURS)
    good_mb = MONTH_S / BEAT_S * (HEADER_BYTES + BEAT_BYTES) / 1e6
    return Section(
        title="Takeover by another controller",
        about=(
            "Controllers with their stores, the utility and meters in the seeded world of one clique, on a virtual "
            "clock. A datagram takes 0.03 to 0.25 s, a message 0.01 to 0.3 s, a commit 0.01 to 0.06 s. The "
            "time is measured from the loss until a meter obeys another controller."
        ),
        tables=(
            Table(
                title="Seconds until meters obey another controller",
                columns=("loss", "runs", "first: median", "99 %", "most", "90 %: 99 %", "last: 99 %"),
                rows=tuple(_row(words, times) for words, times in found.items()),
            ),
        ),
        goals=() if smoke else _goals(found, false, good_mb),
    )


def _row(words: str, times: list[Times]) -> tuple[str, ...]:
    first = [each.first_s for each in times]
    figures = percentile(first, 50), percentile(first, 99), max(first)
    more = percentile([each.most_s for each in times], 99), percentile([each.last_s for each in times], 99)
    return words, f"{len(times):,}", *(f"{figure:.2f}" for figure in (*figures, *more))


def _goals(found: dict[str, list[Times]], false: int, good_mb: float) -> tuple[Goal, ...]:
    most_s = (5, 5, 9, 15)
    times = [
        Goal(
            what=f"{words}, first command, 99 %",
            value=percentile([each.first_s for each in found[words]], 99),
            unit="s",
            at_most=limit,
            limited_by=_LIMIT,
        )
        for words, limit in zip(found, most_s, strict=True)
    ]
    return (
        *times,
        Goal(
            what="takeovers of a living controller, on lines with bursts",
            value=false,
            unit="",
            at_most=1,
            limited_by=_LIMIT,
        ),
        Goal(what="beats in 30 days, each way", value=good_mb, unit="MB", at_most=30, limited_by=_LIMIT),
    )
