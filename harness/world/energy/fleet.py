"""The meters of one microgrid with its physics, its boundary switch and the true voltage of its feeder.

The meters report states, events and levels. They record no readings: the other worlds test the delivery of readings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from commonwatt.device.commands import Commanded
from commonwatt.device.meter import Effects
from commonwatt.model.control import return_delay_s
from commonwatt.model.effects import Publish, Write
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MilliwattHours
from commonwatt.protocol.commands import HeldState, Kind
from commonwatt.town.town import Function, Microgrid, Town
from harness.energy.worlds import Alone
from harness.world.fleet import Fleet
from harness.world.network import Broker
from meter_sim.faults import BoundarySwitch, KeptSwitch, newest
from meter_sim.physics import Circumstances, PhysicsStep
from meter_sim.store import FleetChange, Slot, kept_switch, last_slot
from meter_sim.world import levels_after

if TYPE_CHECKING:
    from harness.world.energy.world import EnergyWorld


class Feeder:
    """One feeder; it dies and returns at the starts of slots."""

    def __init__(self) -> None:
        self._dead: list[tuple[EpochSeconds, EpochSeconds]] = []

    def fail(self, at: EpochSeconds, for_s: float) -> None:
        """Have no voltage from the next slot on, for at least one slot."""
        begin = -(-at // SLOT_S) * SLOT_S
        self._dead.append((begin, begin + max(1, round(for_s / SLOT_S)) * SLOT_S))

    def mend(self, at: EpochSeconds) -> None:
        """Have voltage again from the next slot on."""
        end = -(-at // SLOT_S) * SLOT_S
        self._dead = [(begin, min(until, end)) for begin, until in self._dead if begin < end]

    def alive(self, at: EpochSeconds) -> bool:
        """Return whether there is voltage in the slot that starts at ``at``."""
        return not any(begin <= at < until for begin, until in self._dead)

    def alive_s(self, at: EpochSeconds) -> float:
        """Return the seconds of voltage without a break before ``at``."""
        return at - max((until for _, until in self._dead if until <= at), default=float("-inf"))


NO_LIMIT = 2_000_000


class EnergyFleet(Fleet):
    """A microgrid's meters, batteries and boundary."""

    world: "EnergyWorld"

    def __init__(self, world: "EnergyWorld", town: Town, microgrid: Microgrid, broker: Broker) -> None:
        super().__init__(world, microgrid.id, microgrid.meters, broker, NO_LIMIT)
        self.feeder = Feeder()  # the voltage on the town's side
        # The boundary's meters.
        self.boundary = frozenset(m.id for m in microgrid.meters if m.function is Function.BOUNDARY)
        self._described = microgrid
        self._physics = Alone(town, microgrid)
        self._delay_s = partial(return_delay_s, microgrid.id, is_public=microgrid.kind == "public")
        self.switch = BoundarySwitch(self._delay_s, KeptSwitch(is_open=False))  # the boundary switch

    @property
    def measures_until(self) -> float:
        """No end: a microgrid returns to the town some time after the last fault."""
        return float("inf")

    def started(self) -> None:
        """Pass the slots since the last stored one unmeasured, then boot the meters."""
        self.switch = BoundarySwitch(self._delay_s, kept_switch(self.store) or KeptSwitch(is_open=False))
        last = last_slot(self.store)
        self._stepped_to = self._last_moment() if last is None else last.slot_end
        self._levels = levels_after(last, self._described, self._physics.initial_levels(self._stepped_to))
        if last is None:
            self._levels = {meter: self._first_level(meter) for meter in self._levels}
        while self._stepped_to + SLOT_S <= self._last_moment():
            self._step({})
        self.perform(self._slot())
        super().started()

    def _first_level(self, meter: MeterId) -> MilliwattHours:
        """Return a level at which something happens: nearly empty, nearly full, or about the minimum."""
        battery = self._descriptions[meter].battery
        assert battery is not None
        near = battery.minimum_percent + self.rng.uniform(-2, 2)
        return int(battery.capacity * min(100, self.rng.choice((1, 95, near))) / 100)

    def measured(self) -> Effects:
        """Step the boundary and the physics; let the boundary's meters sense, and the batteries' know their level."""
        at = self._stepped_to
        step = self._step({meter: self._commanded(meter, at) for meter in self.meters})
        effects = self._slot()
        for meter in sorted(self.boundary - self.off):
            effects += self.meters[meter].sense(self.switch.bits, self.now(meter))
            self._set_timer(self.meters[meter])
        for meter, level in step.levels.items():
            if meter not in self.off:
                effects += self.meters[meter].report_level(self._slot_end + self.ahead[meter], level)
        return effects

    def _slot(self) -> Effects:
        """Store the end of the last slot, the levels and the switch."""
        slot = Slot(self._stepped_to, self._levels, switch=self.switch.kept)
        return [Write(slot)]  # type: ignore[arg-type]  # the store's extension

    def _step(self, commanded: Mapping[MeterId, Commanded]) -> PhysicsStep:
        at, before = self._stepped_to, self.switch.is_open
        voltage = self.feeder.alive(at)
        held = [self._isolation(meter) for meter in self.boundary]
        self.switch.step(voltage=voltage, held=newest(held), at=at)
        switch = {
            meter: replace(commanded.get(meter, Commanded()), isolated=self.switch.is_open) for meter in self.boundary
        }
        step = self._physics.step(self._levels, at, {**commanded, **switch}, Circumstances(voltage=voltage))
        self._levels, self._stepped_to = step.levels, at + SLOT_S
        self.world.energy.slot(self, at, step, commanded, was_open=before)
        return step

    def note(self, changes: Sequence[FleetChange]) -> None:
        """Note what is durable, also of the switch."""
        super().note(changes)  # type: ignore[arg-type]  # the store's extension
        for change in changes:
            if isinstance(change, Slot) and change.switch is not None:
                self.world.energy.kept_open[self.microgrid] = change.switch.is_open

    def _isolation(self, meter: MeterId) -> HeldState | None:
        return self.meters[meter].desired_states.held.get(Kind.ISOLATED)

    def isolated(self, at: EpochSeconds) -> bool:
        """Return whether a meter of the boundary has a command to isolate in force."""
        return any(self.meters[meter].desired_states.commanded(at).isolated for meter in self.boundary)

    def _commanded(self, meter: MeterId, at: EpochSeconds) -> Commanded:
        commanded = self.meters[meter].commanded(at)
        return replace(commanded, sharing=False) if meter in self.off else commanded

    def transmit(self, message: Publish) -> None:
        """Publish, and note when a report was first made."""
        self.world.energy.made(message)
        super().transmit(message)

    def drained(self) -> bool:
        """Return whether all records are acknowledged, and the microgrid is connected to the town again."""
        return super().drained() and not self.switch.is_open
