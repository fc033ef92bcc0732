"""Planted bugs of energy: each removes one guard of product code, and the worlds of energy must find the violation."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
from sqlalchemy import Connection

from commonwatt.device.commands import HeldStates
from commonwatt.energy import step
from commonwatt.energy.places import Places
from commonwatt.energy.plant import Plant
from commonwatt.energy.splits import Array, Flags
from commonwatt.energy.step import NO_LIMIT_W, Boundary, Exchange, StepFlows, exchange
from commonwatt.energy.strategies import Batteries
from commonwatt.model.effects import Effect
from commonwatt.model.time import Now
from commonwatt.model.units import EpochSeconds, MeterId, Quarter
from commonwatt.protocol.commands import HeldState, Result
from commonwatt.protocol.plant_messages import PlantCommand, PlantQuarter
from gateway.control import islanding, modes
from gateway.control.islanding import SwitchWish
from gateway.control.microgrid_states import MicrogridStates
from gateway.control.modes import Modes
from gateway.core import HostedMicrogrid
from gateway.store.changes import Change
from harness.world.planted import ENERGY_BY_OTHERS, Bug
from meter_sim import faults
from meter_sim.faults import BoundarySwitch
from meter_sim.physics import MeteredMicrogrid
from meter_sim.plant_core import PlantCore, PlantState
from utility.supply import rationing
from utility.supply import store as rations
from utility.supply.rationing import Priority, RationedMicrogrid

UNANSWERED_S = 900  # seconds without the utility after which the planted gateway isolates itself


@contextmanager
def _closes_on_a_dead_line() -> Iterator[None]:
    real = BoundarySwitch.step

    def obedient(self: BoundarySwitch, *, voltage: bool, held: HeldState | None, at: EpochSeconds) -> None:
        before, was_open = self._opened_by, self.is_open
        real(self, voltage=voltage, held=held, at=at)
        if was_open and held is not None and held.value == "off" and (held.epoch, held.seq) > before:
            self.is_open = False

    with patch.object(BoundarySwitch, "step", obedient):
        yield


@contextmanager
def _imports_above_its_limit() -> Iterator[None]:
    real = rations._registered

    def unknown(connection: Connection, quarter: Quarter) -> list[RationedMicrogrid]:
        return [replace(member, average_w=0) for member in real(connection, quarter)]

    # Else limits are far above what is taken on a clear noon, and the gateway sheds what the meter lets through.
    with (
        patch.object(MeteredMicrogrid, "import_limit_w", return_value=NO_LIMIT_W),
        patch.object(Modes, "_turn", lambda modes, now: modes._rotation.standing(now)),
        patch.object(rations, "_registered", unknown),
    ):
        yield


@contextmanager
def _does_not_trip() -> Iterator[None]:
    real = BoundarySwitch.step

    def stuck(self: BoundarySwitch, *, voltage: bool, held: HeldState | None, at: EpochSeconds) -> None:
        before = self.is_open
        real(self, voltage=voltage, held=held, at=at)
        self.is_open = self.is_open and (before or voltage)

    with patch.object(BoundarySwitch, "step", stuck):
        yield


@contextmanager
def _exports_to_a_dead_feeder() -> Iterator[None]:
    def blind(places: Places, boundary: Boundary, net: Array) -> Exchange:
        everywhere = np.ones_like(boundary.voltage)
        return exchange(places, replace(boundary, voltage=everywhere, closed=everywhere), net)

    with patch.object(step, "exchange", blind):
        yield


@contextmanager
def _closes_at_once() -> Iterator[None]:
    real = islanding.wish

    def hasty(boundary: islanding.ObservedBoundary, now: EpochSeconds, **fields: object) -> SwitchWish:
        return real(boundary, now, **fields | {"stable_s": 0, "delay_s": 0})  # type: ignore[arg-type]

    with patch.object(modes, "wish", hasty):
        yield


@contextmanager
def _late_reports_count() -> Iterator[None]:
    real, wish = Modes.sensed, islanding.wish

    def sensed(
        self: Modes, meter: MeterId, time: EpochSeconds, now: Now, answered: str = "", *, good: bool = True
    ) -> list[Effect[Change]]:
        del time, answered
        self.manager.meters[meter].bits_time = 0
        return real(self, meter, now, now, good=good)

    def trusting(boundary: islanding.ObservedBoundary, now: EpochSeconds, **fields: object) -> SwitchWish:
        return wish(boundary, now, **fields | {"isolated": False})  # type: ignore[arg-type]

    present = patch.object(Modes, "_is_of_the_present", return_value=True)
    with present, patch.object(Modes, "sensed", sensed), patch.object(modes, "wish", trusting):
        yield


@contextmanager
def _notices_are_obeyed() -> Iterator[None]:
    real = Modes.wish

    def wish(self: Modes, now: Now) -> SwitchWish:
        lost = bool(self.states.notice_at(now))
        return SwitchWish(phase=real(self, now).phase, is_open=True, reason="a notice") if lost else real(self, now)

    with patch.object(Modes, "wish", wish):
        yield


@contextmanager
def _a_broadband_cut_islands() -> Iterator[None]:
    real, answered = HostedMicrogrid.tick, HostedMicrogrid.from_utility
    heard: dict[int, int] = {}

    def from_utility(self: HostedMicrogrid, topic: str, payload: bytes, raw: EpochSeconds) -> list[Effect[Change]]:
        heard[id(self)] = raw
        return answered(self, topic, payload, raw)

    def tick(self: HostedMicrogrid, job: str, raw: EpochSeconds) -> list[Effect[Change]]:
        if raw - heard.setdefault(id(self), raw) > UNANSWERED_S:
            self.modes.states = replace(self.modes.states, isolate_until=raw + 60)
        return real(self, job, raw)

    with patch.object(HostedMicrogrid, "tick", tick), patch.object(HostedMicrogrid, "from_utility", from_utility):
        yield


@contextmanager
def _no_donor_keeps_its_floor() -> Iterator[None]:
    def surplus(self: Batteries) -> Array:
        return np.where(self.usable & self.may_share, self.level, 0)

    with patch.object(Batteries, "surplus", property(surplus)):
        yield


@contextmanager
def _no_battery_keeps_its_floor() -> Iterator[None]:
    real = step._share

    def share(
        places: Places,
        level: Array,
        flows: StepFlows,
        weights: Array,
        power: tuple[Array, Array],
        isolated: Flags | None,
    ) -> None:
        bare = replace(places, minimum=np.where(weights > 0, 0, places.minimum))
        real(bare, level, flows, weights, power, isolated)

    with patch.object(step, "_share", share):
        yield


@contextmanager
def _every_purchase_is_accepted() -> Iterator[None]:
    real = PlantCore._judge

    def judge(self: PlantCore, command: PlantCommand, now: EpochSeconds) -> tuple[Result, str | None]:
        result, why = real(self, command, now)
        return ("done", None) if result == "superseded" else (result, why)

    with patch.object(PlantCore, "_judge", judge):
        yield


@contextmanager
def _the_purchase_begins_anew_at_a_start() -> Iterator[None]:
    real = PlantCore.__init__

    def init(
        self: PlantCore,
        physical: Plant,
        price: Callable[[EpochSeconds], int],
        state: PlantState,
        quarters: Iterable[PlantQuarter] = (),
    ) -> None:
        real(self, physical, price, replace(state, ordered=0), quarters)

    with patch.object(PlantCore, "__init__", init):
        yield


ENERGY_BUGS: dict[str, Bug] = {
    "a switch that closes on a dead line": Bug(_closes_on_a_dead_line),
    "a switch that waits for no stable voltage": Bug(lambda: patch.multiple(faults, STABLE_S=0, UNMANAGED_S=0)),
    "a switch that does not trip": Bug(_does_not_trip),
    "an export to a dead feeder": Bug(_exports_to_a_dead_feeder),
    "a manager that closes at once": Bug(_closes_at_once),
    "late reports of the boundary count": Bug(_late_reports_count),
    "notices are obeyed": Bug(_notices_are_obeyed),
    "a broadband cut that islands": Bug(_a_broadband_cut_islands),
    "a restart that forgets the island": Bug(
        lambda: patch.multiple(Modes, _is_unknown=lambda *_: False, _in_force=lambda _, phase: phase)
    ),
    "commands to share below a floor": Bug(_no_donor_keeps_its_floor),
    "a battery that shares below its floor": Bug(_no_battery_keeps_its_floor),
    "sharing that outlives its command": Bug(lambda: patch.object(HeldStates, "expire", return_value=None)),
    "two purchases for a quarter-hour": Bug(_every_purchase_is_accepted),
    "a purchase that begins anew at a start": Bug(_the_purchase_begins_anew_at_a_start),
    "a ration on the hospital": Bug(lambda: patch.object(rationing, "priority_of", return_value=Priority.HOUSES)),
    "an import above its limit": Bug(_imports_above_its_limit),
    "a limit that outlives its supply": Bug(
        lambda: patch.object(MicrogridStates, "import_limit_w_at", lambda states, _: states.import_limit_w)
    ),
}
"""By name."""

ENERGY_BUGS |= {name: Bug(plant) for name, plant in ENERGY_BY_OTHERS.items()}
