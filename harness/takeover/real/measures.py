"""What the meters' commands say of a fault: how soon another controller was obeyed, and what must never happen."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from commonwatt.protocol.commands import Epoch
from harness.takeover.real.watched import Commanded


@dataclass(frozen=True)
class Times:
    """Seconds from a loss until meters obey another controller."""

    first_s: float  # the first meter
    battery_s: float  # the first meter with a battery
    most_s: float  # 90 % of the meters
    last_s: float  # the last meter


def times(
    commanded: Iterable[Commanded], lost: float, by: str | None, meters: Sequence[int], batteries: set[int]
) -> Times:
    """Return when the meters of a microgrid obeyed a controller first; infinite: not at all.

    Args:
        commanded: What the meters were commanded.
        lost: When the loss was.
        by: The controller; ``None``: any.
        meters: The meters of the microgrid.
        batteries: Those with a battery.
    """
    first = dict.fromkeys(meters, float("inf"))
    for one in commanded:
        if one.meter in first and one.obeyed and by in (None, one.issuer) and one.at > lost:
            first[one.meter] = min(first[one.meter], one.at - lost)
    sorted_s = sorted(first.values())
    battery_s = min(at for meter, at in first.items() if meter in batteries)
    return Times(sorted_s[0], battery_s, sorted_s[-(-len(sorted_s) * 9 // 10) - 1], sorted_s[-1])


def old_commands(commanded: Iterable[Commanded]) -> tuple[int, int]:
    """Return how many commands came under an epoch below the meter's, and how many of these it obeyed."""
    highest: dict[int, Epoch] = defaultdict(lambda: (0, 0))
    came = obeyed = 0
    for one in commanded:
        if one.epoch[0] and one.epoch < highest[one.meter]:
            came += 1
            obeyed += one.obeyed
        elif one.obeyed:
            highest[one.meter] = one.epoch
    return came, obeyed


def granted_twice(commanded: Iterable[Commanded]) -> list[str]:
    """Return the epochs that two controllers used in one microgrid."""
    issuers: dict[tuple[str, Epoch], set[str]] = defaultdict(set)
    for one in commanded:
        if one.epoch[0]:
            issuers[one.microgrid, one.epoch].add(one.issuer)
    return [f"{grid} {list(epoch)}: {sorted(names)}" for (grid, epoch), names in issuers.items() if len(names) > 1]


def together_s(commanded: Sequence[Commanded]) -> float:
    """Return the longest time in which meters of a microgrid still obeyed one controller after others obeyed another.

    A time in which more than one meter obeyed each of them counts (I-c).
    """
    longest = 0.0
    for grid in {one.microgrid for one in commanded}:
        obeyed = [one for one in commanded if one.microgrid == grid and one.obeyed]
        for epoch in {one.epoch for one in obeyed}:
            begun = sorted(one.at for one in obeyed if one.epoch == epoch)
            older = [one for one in obeyed if one.epoch < epoch and one.epoch[1] != epoch[1] and one.at > begun[0]]
            if len({one.meter for one in older}) > 1:
                longest = max(longest, max(one.at for one in older) - begun[0])
    return longest


def refused(commanded: Iterable[Commanded], since: float) -> int:
    """Return how many commands under a meter's own epoch it refused after a time (I-e)."""
    highest: dict[int, Epoch] = defaultdict(lambda: (0, 0))
    count = 0
    for one in commanded:
        if one.obeyed:
            highest[one.meter] = max(one.epoch, highest[one.meter])
        count += one.at > since and one.result in ("refused", "fenced") and one.epoch >= highest[one.meter] > (0, 0)
    return count


def managers(commanded: Iterable[Commanded], microgrid: str) -> tuple[str, ...]:
    """Return whom meters of a microgrid obeyed, in the order of the epochs."""
    epochs = {one.epoch: one.issuer for one in commanded if one.obeyed and one.microgrid == microgrid}
    return tuple(epochs[epoch] for epoch in sorted(epochs))


def handovers(commanded: Iterable[Commanded], microgrid: str) -> int:
    """Return how often a microgrid went to another controller since its own one managed it."""
    return sum(one != other for one, other in pairwise((microgrid, *managers(commanded, microgrid))))
