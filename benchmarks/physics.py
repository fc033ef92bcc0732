"""The physics of the whole town without messaging: a step, a day of 15-second steps, a year of quarter-hours."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.settlement.splits import Array
from commonwatt.town.file import TownFile
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town
from harness.docs.measured import Goal, Section, Table, number, percentile
from harness.energy.compare import plain_limited
from harness.energy.reference import plain_ration
from meter_sim.physics.boundary import Boundary
from meter_sim.physics.places import blocks_of
from meter_sim.physics.plant import Order, Plant, plant_of, price_factor
from meter_sim.physics.step import Inputs
from meter_sim.physics.surroundings import Surroundings
from meter_sim.physics.town import PlantInputs, step_town

JUNE = 1_780_272_000  # 2026-06-01 00:00 UTC

DAY_S = 86_400
STEP_MS, DAY_AT_SLOTS_S, YEAR_S = 1.5, 15, 60  # the goals
# First days of weeks in March, June, September and December 2026, counted from 1970.
SEASONS = {"spring": 20_533, "summer": 20_633, "autumn": 20_723, "winter": 20_803}

LONGEST = (
    "The longest step, in which every battery shares by a weight of its own, half of the places reduce and the town is "
    "short, takes {} ms."
)


def centertown(residential: int) -> Town:
    """Return Centertown with a number of its residential microgrids."""
    microgrids = [{"id": "r", "kind": "residential", "count": residential}]
    microgrids += [{"id": "apt", "kind": "apartment", "apartments": 100}, {"id": "pub", "kind": "public"}]
    return town_of(TownFile.model_validate({"microgrid": microgrids}), Path("town.toml"))


class Rules:
    """A town under simple rules: sharing as `spec` without a band; the plant is half full before the peak."""

    def __init__(self, town: Town, step_s: int) -> None:
        self._town, self._step_s = town, step_s
        self._blocks = blocks_of(town, town.microgrids.values(), step_s)
        self._surroundings = Surroundings(town, self._blocks)
        self._plant: Plant = plant_of(town, step_s)
        self._levels = [places.capacity * 3 // 4 for places in self._blocks]
        self._level = self._plant.capacity // 2
        self._boundaries = [Boundary.open_to_town(places.shape[0]) for places in self._blocks]
        self.samples: list[float] = []  # processor seconds of each step of the physics
        # Sums of what was used, bought, short and shared, milliwatt-hours.
        self.energy = {"used": 0, "bought": 0, "short": 0, "shared": 0}

    def run(self, start: int, seconds: int) -> float:
        """Run for simulated seconds; return the processor seconds."""
        began = time.process_time()
        for at in range(start, start + seconds, self._step_s):
            self._step(at)
        return time.process_time() - began

    def _step(self, at: int) -> None:
        inputs = [
            replace(one, weights=_spec(level, places.minimum))
            for one, level, places in zip(self._surroundings.at(at), self._levels, self._blocks, strict=True)
        ]
        room = max(self._plant.capacity // 2 - self._level, 0) if price_factor(self._town, at) == 1 else 0
        told = PlantInputs(level=self._level, order=Order(buy=room))
        began = time.process_time()
        steps, result = step_town(self._blocks, self._levels, inputs, self._boundaries, self._plant, told)
        self.samples.append(time.process_time() - began)
        self._levels, self._level = [step.flows.level for step in steps], result.level
        self.energy["bought"] += result.bought
        for step in steps:
            self.energy["used"] += int(step.flows.served.sum())
            self.energy["short"] += int(step.flows.unserved.sum())
            self.energy["shared"] += int(step.flows.given.sum())


def _spec(level: Array, minimum: Array) -> Array | None:
    """Return equal weights for the batteries above their minimum where any battery is below its own."""
    below = np.asarray((level < minimum).any(axis=1))
    return (below[:, None] & (level > minimum)).astype(np.int64) if below.any() else None


def worst_ms(town: Town, runs: int) -> float:
    """Return the processor milliseconds of a step in which all share by different weights and the town is short."""
    rng = np.random.default_rng(1)
    blocks, empty = blocks_of(town, town.microgrids.values()), replace(plant_of(town), power=0, line={}, feed_in=0)
    levels = [(places.capacity * rng.random(places.shape)).astype(np.int64) for places in blocks]
    inputs = [
        Inputs(
            load=rng.integers(0, 20_000, places.shape) * places.users,
            generation=places.generation(0.3),
            weights=rng.integers(1, 9, places.shape),
            reducing=rng.random(places.shape) < 0.5,
            isolated=rng.random(places.shape) < 0.02,
        )
        for places in blocks
    ]
    boundaries = [Boundary.open_to_town(places.shape[0]) for places in blocks]
    told = PlantInputs(level=0, alive=False)
    return _median_ms(lambda: step_town(blocks, levels, inputs, boundaries, empty, told), runs)


def _median_ms(work: Callable[[], object], runs: int) -> float:
    samples = []
    for _ in range(runs):
        began = time.process_time()
        work()
        samples.append(time.process_time() - began)
    return 1000 * percentile(samples, 50)


def plain_us(town: Town, runs: int) -> tuple[float, float]:
    """Return the microseconds of a microgrid-step by the plain reference, and by the arrays, for the same town."""
    microgrids = [one for one in town.microgrids.values() if one.kind == "residential"]
    (places,) = blocks_of(town, microgrids)
    level, boundary = places.capacity // 2, Boundary.open_to_town(len(microgrids))
    level[:, 0] //= 10
    inputs = replace(Surroundings(town, [places]).at(JUNE)[0], weights=np.ones(places.shape, dtype=np.int64))

    def plain() -> None:
        for row in range(len(microgrids)):
            plain_ration(plain_limited(places, level, inputs, boundary, row), places.loss_permille)

    told = PlantInputs(level=0)
    plant = plant_of(town)
    arrays = _median_ms(lambda: step_town([places], [level], [inputs], [boundary], plant, told), runs)
    return 1000 * _median_ms(plain, runs) / len(microgrids), 1000 * arrays / len(microgrids)


def seasons(town: Town, seconds: int) -> Table:
    """Return what a week of each season comes to in steps of 15 s, of a minute and of 15 minutes."""
    rows = []
    for name, day in SEASONS.items():
        energy = {}
        for step_s in (SLOT_S, 60, QUARTER_S):
            rules = Rules(town, step_s)
            rules.run(day * DAY_S, seconds)
            energy[step_s] = rules.energy
        for what in ("used", "bought", "shared", "short"):
            exact = energy[SLOT_S][what]
            longer = (f"{100 * (energy[s][what] / exact - 1):+.2f} %" if exact else "0" for s in (60, QUARTER_S))
            rows.append((name, what, number(exact / 1e9), *longer))
    return Table(
        title=f"A week of each season by length of step, {len(town.microgrids)} microgrids",
        columns=("week", "energy", "15 s, MWh", "a minute", "15 min"),
        rows=tuple(rows),
    )


def bench(*, smoke: bool = False) -> Section:
    """Measure the steps, a day and a month."""
    town = centertown(3 if smoke else 800)
    span = 3600 if smoke else DAY_S
    by_slot, by_quarter = Rules(town, SLOT_S), Rules(town, QUARTER_S)
    day_s = by_slot.run(JUNE, span) * DAY_S / span
    days = 1 / 24 if smoke else 30
    year_s = by_quarter.run(JUNE, int(days * DAY_S)) * 365 / days
    step_ms = 1000 * percentile(by_slot.samples, 50)
    worst = worst_ms(town, 2 if smoke else 200)
    return Section(
        title="The physics of the whole town",
        about=f"{len(town.microgrids)} microgrids with {town.accounts:,} accounts, the town's plant, sun and loads, on "
        "one core and without messaging, in June, with sharing by a rule like `spec`. Times are processor time; the "
        "year is extrapolated from the month. The peer is a plain program, one place at a time, which is also the "
        "reference that tests compare the arrays with.",
        tables=(
            _town_table(
                ("15 s, a day", by_slot, day_s / DAY_S * SLOT_S),
                ("15 min, a month", by_quarter, year_s / 365 / DAY_S * QUARTER_S),
            ),
            _microgrid_table(centertown(2 if smoke else 80), 2 if smoke else 30),
            seasons(centertown(1 if smoke else 8), 1800 if smoke else 7 * DAY_S),
        ),
        goals=(
            _goal("a step of the town, median of a day", step_ms, "ms", STEP_MS),
            _goal("a town-day at 15 s", day_s, "s", DAY_AT_SLOTS_S),
            _goal("a town-year at 15 min", year_s, "s", YEAR_S),
        ),
        notes=(LONGEST.format(number(worst)),),
    )


def _town_table(*rows: tuple[str, Rules, float]) -> Table:
    """Return the table of a town's steps (rows: name, run, whole seconds of a step)."""
    return Table(
        title="A step of the town, milliseconds; energy in MWh",
        columns=(
            "steps",
            "physics, median",
            "99 %",
            "with sun, loads and rules",
            "used",
            "bought",
            "shared",
            "short",
        ),
        rows=tuple(
            (
                name,
                number(1000 * percentile(one.samples, 50)),
                number(1000 * percentile(one.samples, 99)),
                number(1000 * whole),
                *(number(one.energy[what] / 1e9) for what in ("used", "bought", "shared", "short")),
            )
            for name, one, whole in rows
        ),
    )


def _microgrid_table(small: Town, runs: int) -> Table:
    plain, arrays = plain_us(small, runs)
    return Table(
        title=f"A step of one residential microgrid, in a town of {len(small.microgrids) - 2}, microseconds",
        columns=("plain", "arrays", "ratio"),
        rows=((number(plain), number(arrays), number(plain / arrays)),),
    )


def _goal(what: str, value: float, unit: str, at_most: float) -> Goal:
    return Goal(
        what=what,
        value=value,
        unit=unit,
        at_most=at_most,
        limited_by="One core; half of a long run is sun, loads and rules.",
    )
