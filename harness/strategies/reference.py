"""The strategies of sharing in plain Python, compared on random microgrids, and in a closed loop."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from commonwatt.energy.strategies import LEAST_S, STRATEGIES, Batteries, Energies
from commonwatt.model.units import SLOT_S


@dataclass(frozen=True)
class Battery:
    """A battery; energies in milliwatt-hours."""

    level: int
    capacity: int
    minimum: int
    available: bool
    may_share: bool
    sharing: bool
    recent: bool
    weight: int
    island: bool

    @property
    def usable(self) -> bool:
        return self.available and 0 <= self.level <= self.capacity

    @property
    def surplus(self) -> int:
        return max(self.level - self.minimum, 0) if self.usable and self.may_share else 0

    @property
    def target(self) -> int:
        return min(self.minimum, self.capacity // 24) if self.island else self.minimum

    @property
    def deficit(self) -> int:
        return max(self.target - self.level, 0) if self.usable else 0


Planned = tuple[list[int], list[int], list[int]]  # each battery's weight, energy to give, energy to receive


def divide(total: int, weights: Sequence[int], caps: Sequence[int]) -> list[int]:
    """Divide a total by weight, no share above its cap, the odd ones to the largest remainders."""
    result = [0] * len(caps)
    left = [i for i in range(len(caps)) if weights[i] and caps[i]]
    while left:
        whole = sum(weights[i] for i in left)
        full = [i for i in left if weights[i] * total >= caps[i] * whole]
        if not full:
            for i in left:
                result[i] = weights[i] * total // whole
            odd = total - sum(result[i] for i in left)
            for i in sorted(left, key=lambda i: (-(weights[i] * total % whole), i))[:odd]:
                result[i] += 1
            return result
        for i in full:
            result[i] = caps[i]
            total -= caps[i]
            left.remove(i)
    return result


def plan(strategy: str, batteries: Sequence[Battery], band_permille: int) -> Planned:
    """Return the plan for one microgrid."""
    bands = [each.capacity * band_permille // 1000 for each in batteries]
    deficits = [each.deficit for each in batteries]
    began = any(each.sharing and each.usable for each in batteries) and any(deficits)
    if strategy == "aces":
        start = any(each.deficit > 0 and each.level == 0 for each in batteries)
    else:
        start = any(
            each.deficit > 0 and each.deficit >= min(band, each.target)
            for each, band in zip(batteries, bands, strict=True)
        )
    others = [(each, band) for each, band in zip(batteries, bands, strict=True) if each.usable and not each.sharing]
    wait = any(each.target and each.level < min(each.target + band, each.capacity) for each, band in others)
    wait = wait and any(each.sharing and each.recent and each.surplus for each in batteries)
    able = [
        i
        for i, (each, band) in enumerate(zip(batteries, bands, strict=True))
        if (began or start or (wait and each.sharing))
        and each.surplus > 0
        and (each.sharing or each.surplus >= min(band, each.capacity - each.minimum))
    ]
    weights, giving = (_largest_first if strategy == "rangers" else _all)(batteries, able, sum(deficits))
    return weights, giving, divide(sum(giving), [1] * len(batteries), deficits)


def _all(batteries: Sequence[Battery], able: Sequence[int], need: int) -> tuple[list[int], list[int]]:
    weights = [each.weight if i in able else 0 for i, each in enumerate(batteries)]
    caps = [each.surplus if i in able else 0 for i, each in enumerate(batteries)]
    return weights, divide(min(sum(caps), need), weights, caps)


def _largest_first(batteries: Sequence[Battery], able: Sequence[int], need: int) -> tuple[list[int], list[int]]:
    by_surplus = sorted(able, key=lambda i: (-batteries[i].surplus, i))
    donors = [i for i in by_surplus if batteries[i].sharing]
    left = need - sum(batteries[i].surplus for i in donors)
    for i in by_surplus:
        if i not in donors and left > 0:
            donors.append(i)
            left -= batteries[i].surplus
    giving, left = [0] * len(batteries), need
    for i in sorted(donors, key=lambda i: (-batteries[i].surplus, i)):
        giving[i] = min(left, batteries[i].surplus)
        left -= giving[i]
    most = max([*giving, 1])
    return [1 + giving[i] * 999 // most if i in donors else 0 for i in range(len(batteries))], giving


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


LEAST_SLOTS = LEAST_S // SLOT_S  # slots for which a battery shares at least
FULL_POWER_SLOTS = 480  # slots in which full power charges or discharges a battery: two hours


def follow(strategy: str, batteries: Batteries, drawn: Sequence[Energies]) -> Iterator[Batteries]:
    """Return the batteries of one microgrid after each slot, in which loads draw ``drawn`` from them."""
    slots = np.zeros_like(batteries.level)
    for draw in drawn:
        level = np.where(batteries.usable, np.maximum(batteries.level - draw, 0), batteries.level)
        plan = STRATEGIES[strategy](replace(batteries, recent=slots < LEAST_SLOTS))
        slots = np.where(plan.donors, slots + 1, 0)
        power = batteries.capacity // FULL_POWER_SLOTS + 1
        measured = replace(batteries, level=level)
        gives = np.where(plan.donors & measured.usable, np.minimum(measured.surplus, power), 0)[0].tolist()
        takes = np.minimum(measured.deficit, power)[0].tolist()
        total = min(sum(gives), sum(takes))
        given = divide(total, plan.weights[0].tolist(), gives)
        received = divide(total, [1] * len(takes), takes)
        batteries = replace(batteries, level=level + np.array([received]) - np.array([given]), sharing=plan.donors)
        yield batteries
