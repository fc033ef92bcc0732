"""Both errors of the rule for jumps (``adapters.energy.counter``), by the loads that people have.

A meter counts such a load for an hour to a fortnight. Then it restarts and reports that, or no message comes for ten
minutes to a day, with a report after it or without. In half of the runs the register jumps meanwhile, by 0.1 to 20
kWh. Two errors are possible: a jump counts, or true energy does not.
``python -m harness.foreign.jumps --runs N`` prints both for each load and way.
"""

import argparse
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from adapters.energy.counter import Counter, CounterLimits, Read
from commonwatt.model.units import MilliwattHours

T = 1_790_000_000_000
MINUTE_MS = 60_000
AFTER = 12  # samples after the restart or silence
WAYS = ("restart", "silence", "silence, report")

Load = Callable[[random.Random], Iterator[int]]
"""The power of each minute, watts."""


def fridge(rng: random.Random) -> Iterator[int]:
    """80 W for a third of the time."""
    while True:
        yield from [80] * rng.randrange(10, 20)
        yield from [2] * rng.randrange(20, 40)


def washer(rng: random.Random) -> Iterator[int]:
    """2 kW for 20 minutes and 200 W for an hour, every day or second day."""
    while True:
        yield from [1] * rng.randrange(600, 2900)
        yield from [2000] * 20 + [200] * 60


def kettle(rng: random.Random) -> Iterator[int]:
    """2.2 kW for 4 minutes, some times a day."""
    while True:
        yield from [0] * rng.randrange(60, 600)
        yield from [2200] * 4


def heat_pump(rng: random.Random) -> Iterator[int]:
    """3 kW for half an hour to five hours, then a pause of up to a day."""
    while True:
        yield from [10] * rng.randrange(30, 1440)
        yield from [3000] * rng.randrange(30, 300)


def car(rng: random.Random) -> Iterator[int]:
    """11 kW for two to five hours, every day to fourth day."""
    while True:
        yield from [5] * rng.randrange(1000, 5800)
        yield from [11_000] * rng.randrange(120, 300)


def house(rng: random.Random) -> Iterator[int]:
    """300 W, with a cooker, a washer, a heat pump and a car."""
    parts = [each(rng) for each in (fridge, washer, kettle, heat_pump, car)]
    while True:
        yield 300 + sum(map(next, parts))


LOADS: Mapping[str, tuple[Load, int]] = {
    "fridge, 3.7 kW": (fridge, 3_680),
    "washer, 3.7 kW": (washer, 3_680),
    "washer, 48 kW": (washer, 48_000),
    "kettle, 3.7 kW": (kettle, 3_680),
    "heat pump, 48 kW": (heat_pump, 48_000),
    "car, 48 kW": (car, 48_000),
    "house, 48 kW": (house, 48_000),
}
"""Each load, with the rated power of its meter, watts."""


@dataclass(kw_only=True)
class Errors:
    """What some runs did with the energy of a restart or silence, milliwatt-hours."""

    flowed: MilliwattHours = 0  # true energy, without a jump
    lost: MilliwattHours = 0  # of that, not counted
    lossy: int = 0  # runs that lost some
    calm: int = 0  # runs without a jump
    jumped: MilliwattHours = 0  # energy of jumps
    phantom: MilliwattHours = 0  # of that, counted
    jumps: int = 0  # runs with a jump
    passed: int = 0  # runs in which it counted


def run(rng: random.Random, load: Load, rated_w: int, way: str, errors: Errors) -> None:
    """Play one restart or silence."""
    counter, limits = Counter(), CounterLimits(rated_mw=rated_w * 1000, resolution=10_000)
    powers = load(rng)
    for _ in range(rng.randrange(3000)):
        next(powers)
    minutes, raw, at = int(60 * 336 ** rng.random()), 50_000_000, T
    every = rng.choice((1, 5))
    for _ in range(minutes // every):
        at, raw = at + every * MINUTE_MS, raw + sum(next(powers) for _ in range(every)) * 1000 // 60
        counter.take(Read(at, raw), limits)
    before = raw, counter.total
    away = rng.randrange(2, 10) if way == "restart" else int(10 * 144 ** rng.random()) + 1
    jump = int(100_000 * 200 ** rng.random()) if rng.random() < 0.5 else 0
    raw += sum(next(powers) for _ in range(away)) * 1000 // 60
    in_gap, at = raw - before[0], at + away * MINUTE_MS
    for n in range(AFTER):
        counter.take(Read(at, raw + jump), limits, restarted=n == 0 and way != "silence")
        at, raw = at + every * MINUTE_MS, raw + sum(next(powers) for _ in range(every)) * 1000 // 60
    error = counter.total - before[1] - (counter.raw - jump - before[0])
    if jump:
        errors.jumps, errors.jumped = errors.jumps + 1, errors.jumped + jump
        errors.passed, errors.phantom = errors.passed + (error > 0), errors.phantom + max(0, error)
    else:
        errors.calm, errors.flowed = errors.calm + 1, errors.flowed + in_gap
        errors.lossy, errors.lost = errors.lossy + (error < 0), errors.lost - error


def measure(runs: int, seed: int = 1) -> dict[tuple[str, str], Errors]:
    """Return the errors of each load and way."""
    found: dict[tuple[str, str], Errors] = defaultdict(lambda: Errors())
    for name, (load, rated_w) in LOADS.items():
        for way in WAYS:
            rng = random.Random(f"{seed} {name} {way}")
            for _ in range(runs):
                run(rng, load, rated_w, way, found[name, way])
    return found


def main() -> int:
    """Print both errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    given = parser.parse_args()
    for (name, way), one in measure(given.runs).items():
        true = f"of {one.flowed / 1e6:8.1f} kWh {one.lost / 1e6:6.2f} not counted ({one.lossy} of {one.calm} runs)"
        false = f"of {one.jumped / 1e6:8.1f} kWh {one.phantom / 1e6:6.1f} counted ({one.passed} of {one.jumps} jumps)"
        print(f"{name:18}{way:16}{true}; {false}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
