"""Random microgrids for the strategies of sharing, and the comparison with the plain reference."""

import numpy as np

from commonwatt.energy.strategies import STRATEGIES
from commonwatt.energy.strategies.batteries import Batteries
from harness.strategies.reference import Battery, plan

PLACES = 10
CAPACITIES = (100, 1_000, 28_800_000, 3_600_000_000, 2**53)
"""Some small ones, for ties; a house's, a building's; the largest there can be."""

BANDS = (0, 10, 100)


def random_batteries(rng: np.random.Generator, rows: int, places: int = PLACES) -> Batteries:
    """Return microgrids in every situation; some are at rest, some have begun to share."""
    shape = (rows, places)
    capacity = np.repeat(rng.choice(np.array(CAPACITIES), (rows, 1)), places, axis=1)
    percent = rng.choice(np.array([0, 25, 50, 50, 75, 99, 100]), shape)
    minimum = capacity // 100 * percent
    anywhere = (rng.random(shape) * capacity).astype(np.int64)
    near = minimum + (rng.normal(0, 0.01, shape) * capacity).astype(np.int64)
    level = np.choose(rng.choice(6, shape, p=(0.4, 0.35, 0.1, 0.05, 0.05, 0.05)), [
        anywhere, np.clip(near, 0, capacity), minimum, np.zeros_like(capacity), capacity, capacity + 1 - 2 * anywhere,
    ])  # fmt: skip
    begun = rng.random((rows, 1)) < 0.5
    sharing = begun & (rng.random(shape) < 0.5)
    return Batteries(
        level=level,
        capacity=capacity,
        minimum=minimum,
        available=rng.random(shape) < 0.9,
        may_share=rng.random(shape) < 0.95,
        sharing=sharing,
        weight=np.where(rng.random((rows, 1)) < 0.5, 1, rng.integers(1, 1001, shape)),
        band_permille=int(rng.choice(BANDS)),
        islands=rng.random(rows) < 0.2,
        recent=sharing & (rng.random(shape) < 0.5),
    )


def plain(batteries: Batteries) -> list[list[Battery]]:
    """Return the batteries of each microgrid for the reference."""
    recent = np.zeros(batteries.level.shape, np.bool_) if batteries.recent is None else batteries.recent
    names = ("level", "capacity", "minimum", "available", "may_share", "sharing")
    columns = [getattr(batteries, name).tolist() for name in names]
    columns += [recent.tolist(), batteries.weight.tolist()]
    islands = np.zeros(len(batteries.level), np.bool_) if batteries.islands is None else batteries.islands
    columns.append(np.broadcast_to(islands[:, None], batteries.level.shape).tolist())
    return [[Battery(*fields) for fields in zip(*rows, strict=True)] for rows in zip(*columns, strict=True)]


def mismatches(strategy: str, batteries: Batteries, microgrids: list[list[Battery]]) -> int:
    """Return in how many microgrids a strategy plans otherwise than the reference."""
    made = STRATEGIES[strategy](batteries)
    planned = np.array([plan(strategy, each, batteries.band_permille) for each in microgrids])
    same = [(planned[:, i] == found).all(axis=1) for i, found in enumerate((made.weights, made.giving, made.receiving))]
    return int((~np.logical_and.reduce(same)).sum())
