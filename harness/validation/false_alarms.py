"""What the checks find in the emulator's days: false alarms where nothing is wrong, and planted faults."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.records import RecordType
from commonwatt.settlement.settled import QUARTERS_A_DAY
from commonwatt.settlement.sharing import net_charge
from commonwatt.settlement.validation.checks import Slots, checked
from commonwatt.settlement.validation.day import Check, Day, Finding, Limits
from harness.validation.readings import Grid

_Array = NDArray[np.int64]


def judged_series(grid: Grid) -> tuple[_Array, NDArray[np.uint64], NDArray[np.uint8]]:
    """Return use and generation of a microgrid by quarter, the number of each one's place, and its record type."""
    before = np.concatenate([grid.level[:, :1], grid.level[:, :-1]], axis=1)
    use = grid.incoming + grid.generation - grid.outgoing - net_charge(grid.level - before, 0)
    sun = grid.generation.any(axis=1)
    places = np.arange(len(use), dtype=np.uint64)
    kinds = [RecordType.THROUGH] * int(grid.uses.sum()) + [RecordType.GENERATION] * int(sun.sum())
    rows = np.concatenate([use[grid.uses], grid.generation[sun]])
    return rows, np.concatenate([places[grid.uses], places[sun]]), np.array(kinds, np.uint8)


def days(grid: Grid, limits: Limits) -> Iterator[Day]:
    """Yield the whole days of a microgrid, without the first."""
    series, meter, kinds = judged_series(grid)
    start = -grid.first % QUARTERS_A_DAY
    whole = (series.shape[1] - start) // QUARTERS_A_DAY
    cut = slice(start, start + whole * QUARTERS_A_DAY)
    by_day = series[:, cut].reshape(len(series), whole, QUARTERS_A_DAY)
    island = grid.island[cut].reshape(whole, QUARTERS_A_DAY)
    for number in range(1, whole):
        past = slice(max(0, number - limits.reference_days), number)
        yield Day(
            meter=meter,
            record_type=kinds,
            first=grid.first + start + number * QUARTERS_A_DAY,
            energy=by_day[:, number],
            known=np.ones((len(series), QUARTERS_A_DAY), np.bool_),
            outage=np.repeat(island[number][None], len(series), axis=0),
            before=by_day[:, past].sum(axis=2),
            usable=np.repeat(~np.asarray(island[past].any(axis=1))[None], len(series), axis=0),
        )


def as_slots(day: Day) -> Slots:
    """Return a day whose slots are like a noisy load, and which misses nothing."""
    nothing = np.zeros(len(day.meter), np.int64)
    return Slots(
        day=day,
        least=day.energy // 70,
        most=day.energy // 50,
        missing=np.zeros(day.energy.shape, np.int64),
        register=nothing,
        has_register=nothing > 0,
    )


def found_in(grids: Sequence[Grid], limits: Limits, last: int) -> tuple[Counter[Check], int]:
    """Return how often each check found something in the last days, and the number of series' days judged."""
    counts: Counter[Check] = Counter()
    judged = 0
    for grid in grids:
        for day in list(days(grid, limits))[-last:]:
            counts.update(one.check for one in checked(day, as_slots(day), limits))
            judged += len(day.meter)
    return counts, judged


def planted(day: Day, row: int, change: Callable[[_Array], _Array], limits: Limits) -> list[Finding]:
    """Return what is found after one series' day was changed."""
    energy = day.energy.copy()
    energy[row] = change(energy[row])
    changed = replace(day, energy=energy)
    return [one for one in checked(changed, as_slots(changed), limits) if one.meter == day.meter[row]]
