"""The processor time in which a whole town decides about sharing, by each strategy."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from commonwatt.energy.strategies import STRATEGIES
from commonwatt.energy.strategies.batteries import Batteries
from gateway.control.sharing import BatteryState, decide
from harness.docs.measured import Goal, Section, Table, spread
from harness.strategies.microgrids import plain

MICROGRIDS, PLACES = 802, 10
CAPACITY = 28_800_000
BAND_PERMILLE = 10
LOW, SHARING = 0.5, 0.5
"""Part of the microgrids with a battery below its minimum, and part of those in which help has begun."""

RUNS = 200
GOAL_MS = 1.0

LIMITED_BY = "One core; sorting and dividing the rows whose donors reach their minima takes most of it."


def town(rng: np.random.Generator, rows: int) -> Batteries:
    """Return batteries of a town on a winter evening: about 65 % full, some of them below their minimum."""
    shape = (rows, PLACES)
    percent = np.clip(rng.normal(65, 12, shape), 0, 100)
    percent[rng.random(rows) < LOW, 0] = 20
    minimum = rng.choice(np.array([25, 50, 75]), shape)
    minimum[:, 0] = 50
    yes = np.ones(shape, np.bool_)
    begun = rng.random((rows, 1)) < SHARING
    return Batteries(
        level=(CAPACITY * percent / 100).astype(np.int64),
        capacity=np.full(shape, CAPACITY),
        minimum=CAPACITY // 100 * minimum,
        available=rng.random(shape) < 0.99,
        may_share=yes,
        sharing=begun & (percent > minimum),
        weight=np.ones(shape, np.int64),
        band_permille=BAND_PERMILLE,
    )


def bench(*, smoke: bool = False) -> Section:
    """Measure each strategy for the town at once, and for one microgrid."""
    rows = 20 if smoke else MICROGRIDS
    batteries = town(np.random.default_rng(1), rows)
    single = {meter: _state(meter, batteries) for meter in range(PLACES)}
    found: dict[str, dict[str, list[float]]] = {}
    for name, strategy in STRATEGIES.items():
        work: dict[str, tuple[int, Callable[[], object]]] = {
            # Copied, so that nothing that an earlier run computed is used again.
            "town": (RUNS, lambda strategy=strategy: strategy(_fresh(batteries))),  # type: ignore[misc]
            "gateway": (RUNS, partial(decide, single, name, BAND_PERMILLE)),
        }
        found[name] = {case: _times(do, 1 if smoke else runs) for case, (runs, do) in work.items()}
    return Section(
        title="Deciding about sharing",
        about=f"{MICROGRIDS} microgrids of {PLACES} batteries on a winter evening, on one core: half of them with a "
        "battery below its minimum, in half help has begun. *Town* is one decision of all microgrids at once, as a "
        "simulation makes it for each step: who gives and receives, and how much, to the milliwatt-hour. *Gateway* "
        "is a gateway's decision for its own ten batteries.",
        tables=(_table(found),),
        goals=tuple(_goals(found)),
    )


def _fresh(batteries: Batteries) -> Batteries:
    """Return the same batteries without anything computed from them."""
    names = ("level", "capacity", "minimum", "available", "may_share", "sharing", "weight", "band_permille", "islands")
    return Batteries(**{name: getattr(batteries, name) for name in names})


def _state(place: int, batteries: Batteries) -> BatteryState:
    each = plain(batteries)[0][place]
    return BatteryState(level=each.level, capacity=each.capacity, minimum=each.minimum, sharing=each.sharing)


def _times(do: Callable[[], object], runs: int) -> list[float]:
    """Return the processor milliseconds of each run."""
    samples = []
    for _ in range(runs):
        started = time.thread_time()
        do()
        samples.append((time.thread_time() - started) * 1000)
    return samples


def _table(found: Mapping[str, Mapping[str, list[float]]]) -> Table:
    return Table(
        title="Processor milliseconds for a decision",
        columns=("strategy", "town", "gateway"),
        rows=tuple((f"`{name}`", spread(times["town"]), spread(times["gateway"])) for name, times in found.items()),
    )


def _goals(found: Mapping[str, Mapping[str, list[float]]]) -> list[Goal]:
    return [
        Goal(
            what=f"the town's decision by `{name}`",
            value=statistics.median(times["town"]),
            unit="ms",
            at_most=GOAL_MS,
            limited_by=LIMITED_BY,
        )
        for name, times in found.items()
    ]
