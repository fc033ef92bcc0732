"""A controller of a town of real processes is lost: whom the meters of its microgrid obey then, and how soon."""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from commonwatt.protocol.commands import Epoch
from harness.network.waiting import eventually
from harness.takeover.real.town import NAMES, Town
from harness.takeover.real.watched import Commanded

LOST, NEXT = NAMES[:2]  # the controller that is lost, and the one that takes over
OBEYED_S = 180.0  # seconds within which the new manager is obeyed


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What was seen of one loss; times in seconds from it."""

    battery_s: float  # until the first meter with a battery obeyed the next controller
    last_s: float  # until all meters did; infinite: not waited for
    managers: tuple[str, ...]  # whom the microgrid's meters obeyed, by epoch
    broken: list[str]  # what did not hold


def look(town: Town, happens: Callable[[], object], *, all_meters: bool) -> Seen:
    """Lose the first controller of a town that runs, and wait until the next one is obeyed.

    Args:
        town: The town.
        happens: Does it.
        all_meters: Whether the last meter is waited for; otherwise the first one with a battery.
    """
    lost = time.monotonic()
    happens()
    batteries = {meter.id for meter in town.town.microgrids[LOST].meters if meter.battery is not None}

    def obeyed_s() -> dict[int, float]:
        first = dict.fromkeys(town.meters(LOST), math.inf)
        for one in town.commanded(lost):
            if one.meter in first and one.obeyed and one.issuer == NEXT:
                first[one.meter] = min(first[one.meter], one.at - lost)
        return first

    def battery_s() -> float:
        return min(at for meter, at in obeyed_s().items() if meter in batteries)

    eventually(lambda: (max(obeyed_s().values()) if all_meters else battery_s()) < math.inf, OBEYED_S)
    commanded = town.commanded()
    old = old_commands(commanded)
    broken = [f"{old} old commands were obeyed"] if old else []
    broken += [f"an epoch has two holders: {words}" for words in granted_twice(commanded)]
    broken += [f"{part} ended by itself" for part in town.died()]
    epochs = {one.epoch: one.issuer for one in commanded if one.obeyed and one.microgrid == LOST}
    return Seen(
        battery_s=battery_s(),
        last_s=max(obeyed_s().values()),
        managers=tuple(epochs[epoch] for epoch in sorted(epochs)),
        broken=broken,
    )


def old_commands(commanded: Iterable[Commanded]) -> int:
    """Return how many commands under an epoch below the meter's it obeyed."""
    highest: dict[int, Epoch] = defaultdict(lambda: (0, 0))
    count = 0
    for one in commanded:
        if one.epoch[0] and one.epoch < highest[one.meter]:
            count += one.obeyed
        elif one.obeyed:
            highest[one.meter] = one.epoch
    return count


def granted_twice(commanded: Iterable[Commanded]) -> list[str]:
    """Return the epochs that two controllers used in one microgrid."""
    issuers: dict[tuple[str, Epoch], set[str]] = defaultdict(set)
    for one in commanded:
        if one.epoch[0]:
            issuers[one.microgrid, one.epoch].add(one.issuer)
    return [f"{grid} {list(epoch)}: {sorted(names)}" for (grid, epoch), names in issuers.items() if len(names) > 1]
