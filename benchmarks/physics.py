"""The physics of the whole town without messaging: a step, a day of 15-second steps, a year of quarter-hours."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from commonwatt.energy.places import blocks_of
from commonwatt.energy.plant import Plant, PlantOrder, plant_of, price_factor
from commonwatt.energy.splits import Array
from commonwatt.energy.step import Boundary, PlantInputs, step_town
from commonwatt.model.units import QUARTER_S, SLOT_S
from commonwatt.town.loading import town_of
from commonwatt.town.town import Town, TownFile
from harness.docs.measured import Goal, Section, Table, number, percentile
from meter_sim.load import Surroundings

JUNE = 1_780_272_000  # 2026-06-01 00:00 UTC

DAY_S = 86_400
STEP_MS, DAY_AT_SLOTS_S, YEAR_S = 1.5, 15, 60  # the goals


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
        told = PlantInputs(level=self._level, order=PlantOrder(buy=room))
        began = time.process_time()
        steps, result = step_town(self._blocks, self._levels, inputs, self._boundaries, self._plant, told)
        self.samples.append(time.process_time() - began)
        self._levels, self._level = [step.flows.level for step in steps], result.level


def _spec(level: Array, minimum: Array) -> Array | None:
    """Return equal weights for the batteries above their minimum where any battery is below its own."""
    below = np.asarray((level < minimum).any(axis=1))
    return (below[:, None] & (level > minimum)).astype(np.int64) if below.any() else None


def bench(*, smoke: bool = False) -> Section:
    """Measure the steps, a day and a month."""
    town = centertown(3 if smoke else 800)
    span = 3600 if smoke else DAY_S
    by_slot, by_quarter = Rules(town, SLOT_S), Rules(town, QUARTER_S)
    day_s = by_slot.run(JUNE, span) * DAY_S / span
    days = 1 / 24 if smoke else 30
    year_s = by_quarter.run(JUNE, int(days * DAY_S)) * 365 / days
    step_ms = 1000 * percentile(by_slot.samples, 50)
    return Section(
        title="The physics of the whole town",
        about=f"{len(town.microgrids)} microgrids with {town.accounts:,} accounts, the town's plant, sun and loads, on "
        "one core and without messaging, in June, with sharing by a rule like `spec`. Times are processor time; the "
        "year is extrapolated from the month.",
        tables=(
            _town_table(
                ("15 s, a day", by_slot, day_s / DAY_S * SLOT_S),
                ("15 min, a month", by_quarter, year_s / 365 / DAY_S * QUARTER_S),
            ),
        ),
        goals=(
            _goal("a step of the town, median of a day", step_ms, "ms", STEP_MS),
            _goal("a town-day at 15 s", day_s, "s", DAY_AT_SLOTS_S),
            _goal("a town-year at 15 min", year_s, "s", YEAR_S),
        ),
    )


def _town_table(*rows: tuple[str, Rules, float]) -> Table:
    """Return the table of a town's steps (rows: name, run, whole seconds of a step)."""
    return Table(
        title="A step of the town, milliseconds",
        columns=("steps", "physics, median", "99 %", "with sun, loads and rules"),
        rows=tuple(
            (
                name,
                number(1000 * percentile(one.samples, 50)),
                number(1000 * percentile(one.samples, 99)),
                number(1000 * whole),
            )
            for name, one, whole in rows
        ),
    )


def _goal(what: str, value: float, unit: str, at_most: float) -> Goal:
    return Goal(
        what=what,
        value=value,
        unit=unit,
        at_most=at_most,
        limited_by="One core; half of a long run is sun, loads and rules.",
    )
