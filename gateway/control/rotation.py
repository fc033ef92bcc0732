"""Has the places of one island, or of one limited microgrid, take turns (C1, C5, docs/islanding.md)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from commonwatt.energy.shedding import (
    Islands,
    PlacePriority,
    energy_h,
    hours_left,
    number_of,
    priority_of,
    ranks,
    reduces,
    shed,
)
from commonwatt.model.time import Now
from commonwatt.model.units import MeterId, MicrogridId
from commonwatt.protocol.commands import Kind
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Function
from gateway.control.manager import Manager


@dataclass(frozen=True)
class RotationTurn:
    """Which places are off."""

    # The meters that are isolated, one of each place that is off.
    off: frozenset[MeterId] = field(default_factory=frozenset)
    reason: str | None = None  # why, for people; ``None``: no place is off


class Rotation:
    """The places of a microgrid that can be off, each with the meter that isolates it."""

    def __init__(self, microgrid: MicrogridId, manager: Manager) -> None:
        self._number = number_of(microgrid)
        self._manager = manager
        self._registry: Mapping[MeterId, RegisteredMeter] = {}
        self.spared: frozenset[MeterId] = frozenset()  # the meters of the places that stay on
        self._priority: dict[MeterId, PlacePriority] = {}
        self.meters: tuple[MeterId, ...] = ()  # those meters, in the order of their ids

    def register(self, registry: Mapping[MeterId, RegisteredMeter]) -> None:
        """Replace the registry by a changed one."""
        self._registry = registry
        chosen: dict[str, RegisteredMeter] = {}
        in_order = sorted(registry.values(), key=lambda m: (m.replaced, m.battery_capacity_mwh is None, m.id))
        for meter in in_order:
            # A place is isolated at its battery's present meter, which then takes no part in sharing.
            chosen.setdefault(meter.location, meter)
        self._priority = {
            meter.id: priority_of(meter.function)
            for meter in sorted(chosen.values(), key=lambda each: each.id)
            if meter.function is not Function.BOUNDARY
        }
        # One that is spared from now on may be off, and is switched on again.
        self.meters = tuple(meter for meter, priority in self._priority.items() if priority is not PlacePriority.KEPT)
        spared = {registry[meter].location for meter in self.spared & registry.keys()}
        kept = {meter: PlacePriority.KEPT for meter in self._priority if registry[meter].location in spared}
        self._priority |= kept

    def spare(self, meters: Iterable[MeterId]) -> None:
        """Leave the places of these meters on, and no others of theirs."""
        self.spared = frozenset(meters)
        self.register(self._registry)

    def turn(self, now: Now, import_w: int) -> RotationTurn:
        """Return which places are off now.

        Args:
            import_w: Most watts that the microgrid takes from the town; 0 in an island.
        """
        if not self.meters:
            return RotationTurn()
        islands = self._row(now, import_w)
        flags = shed(islands, now)[0]
        off = frozenset(meter for meter, is_off in zip(self._priority, flags.tolist(), strict=True) if is_off)
        if not off:
            return RotationTurn()
        beyond = f", beyond {import_w} W from the town" if import_w else ""
        left = f"{hours_left(islands)[0]:.1f} h of average use is left above the floors{beyond}"
        return RotationTurn(off, f"{len(off)} of {len(self.meters)} places are off in turn: {left}")

    def why_reduced(self, now: Now, *, reducing: bool) -> str | None:
        """Return why the places of an island reduce; ``None``: they do not.

        Args:
            reducing: Whether they reduce now.
        """
        hours = energy_h(self._row(now, 0))
        if not reduces(hours, np.array([reducing]))[0]:
            return None
        return f"the island's batteries hold {hours[0]:.1f} h of average use"

    def standing(self, now: Now) -> RotationTurn:
        """Return the places that are off, while it is not known how many should be."""
        off = frozenset(meter for meter in self.meters if self._manager.holds(meter, Kind.ISOLATED, now))
        return RotationTurn(off, f"{len(off)} of {len(self.meters)} places stay off") if off else RotationTurn()

    def _row(self, now: Now, import_w: int) -> Islands:
        manager, batteries = self._manager, self._manager.batteries(now)
        rows = []
        for meter, priority in self._priority.items():
            battery, off = batteries.get(meter), manager.holds(meter, Kind.ISOLATED, now)
            if battery is None:
                rows.append((0, 0, 0, False, priority, off))
                continue
            can_be = battery.doubt is None and 0 <= battery.level <= battery.capacity
            known = can_be and not manager.level_is_old(manager.meters[meter], now)
            rows.append((battery.level, battery.minimum, battery.capacity, known, priority, off))
        level, floor, capacity, known_, priority_, off_ = (np.array([column]) for column in zip(*rows, strict=True))
        return Islands(
            level=level,
            floor=floor,
            capacity=capacity,
            known=known_,
            priority=priority_.astype(np.int64),
            rank=ranks(priority_.astype(np.int64)),
            off=off_,
            number=np.array([self._number]),
            import_w=np.array([import_w]),
        )
