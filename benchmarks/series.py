"""Synthetic readings, with noise of eight bits of entropy at a resolution of 1 mWh."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from commonwatt.model.records import RecordType
from commonwatt.model.units import SLOTS

RESOLUTIONS_MWH = (1, 100, 1000)  # resolutions of the meters, mWh
NOISE_MWH = 62  # standard deviation of a reading's noise, mWh: a normal distribution with it has 8.0 bits of entropy

Values = npt.NDArray[np.int64]


def household(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return a house's readings: a base that moves from quarter to quarter, and noise."""
    base = rng.integers(1_000, 20_000, (blocks, 1))
    return _resolved(base + rng.normal(0, NOISE_MWH, (blocks, SLOTS)), resolution)


def solar(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return generation: half of the quarters are night, the others rise or fall, with clouds."""
    slope = rng.normal(0, 40, (blocks, 1)) * np.arange(SLOTS)
    day = np.maximum(rng.integers(5_000, 30_000, (blocks, 1)) + slope + rng.normal(0, NOISE_MWH, (blocks, SLOTS)), 0)
    return _resolved(np.where(rng.random((blocks, 1)) < 0.5, 0, day), resolution)


def levels(rng: np.random.Generator, blocks: int, resolution: int) -> Values:
    """Return a battery's levels: steps of one sign, with noise."""
    steps = rng.integers(-20_000, 20_000, (blocks, 1)) + rng.normal(0, NOISE_MWH, (blocks, SLOTS))
    return _resolved(6_500_000 + np.cumsum(steps, axis=1), resolution)


def _resolved(values: npt.NDArray[np.float64], resolution: int) -> Values:
    return np.round(values / resolution).astype(np.int64) * resolution


KINDS: dict[str, tuple[RecordType, Callable[[np.random.Generator, int, int], Values]]] = {
    "household": (RecordType.THROUGH, household),
    "solar": (RecordType.GENERATION, solar),
    "levels": (RecordType.STORED, levels),
}
"""By name: the record type, and the function that makes readings of some quarters at a resolution, mWh."""
