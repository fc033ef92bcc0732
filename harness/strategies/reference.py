"""The strategies of sharing once more, in plain Python, one microgrid and one place at a time, to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass


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
