"""Checks of energy, at every slot and at every order: by the true voltage, and by when each report was made (E1-E9).

The checks do not use the cores' decisions: they read reports and commands as they arrive, and orders as they are made.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from commonwatt.device.commands import Commanded
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import State, unpack_event
from commonwatt.model.units import SLOT_S, EpochSeconds, MeterId, MilliwattHours, Quarter
from commonwatt.protocol.commands import NO_LIMIT, Kind, Outcome
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import unpack_level, unpack_put
from commonwatt.protocol.topics import COMMANDS, EVENTS, LEVELS, OUTCOMES, parse_meter_up
from commonwatt.town.town import Direction, Function, Town
from gateway.control.islanding import REPORT_GOOD_FOR_S
from gateway.core import HostedMicrogrid
from gateway.store.changes import Change, Desired
from harness.world.ledger import CLOCKS_APART_S
from meter_sim.physics import PhysicsStep
from meter_sim.plant_core import HeldPurchase, PlantState

if TYPE_CHECKING:
    from harness.world.energy.fleet import EnergyFleet
    from harness.world.energy.world import EnergyGateway, EnergyWorld

STABLE_S = 300  # seconds of stable voltage without which no switch closes, and no manager commands it to (C5)

_EMERGENCY = frozenset({Function.HOSPITAL, Function.POLICE, Function.FIRE})


@dataclass(frozen=True, order=True)
class Report:
    """What the boundary reported, ordered by when the report was made."""

    made: float
    voltage: bool
    is_open: bool

    @property
    def connected(self) -> bool:
        """Whether it gives no cause for an open switch."""
        return self.voltage and not self.is_open


class EnergyLedger:
    """What each gateway could know, and what truly was."""

    def __init__(self, world: "EnergyWorld", town: Town) -> None:
        self._world = world
        self._boundary = {m.id for m in town.meters if m.function is Function.BOUNDARY}
        self._intake = {m.id for m in town.meters if m.id in self._boundary and m.direction is Direction.INCOMING}
        self._limited_until: dict[tuple[str, int], float] = {}
        self._minimum = {
            m.id: -(-m.battery.capacity * m.battery.minimum_percent // 100) for m in town.meters if m.battery
        }
        self._spared = {m.microgrid for m in town.meters if m.function in _EMERGENCY}
        self.kept_open: dict[str, bool] = {}  # whether each switch is open, as its store has it
        self._made: dict[bytes, float] = {}
        self._newest: dict[tuple[str, MeterId], Report] = {}
        self._informed: dict[str, HostedMicrogrid] = {}
        self._last_dead: dict[str, float] = {}
        self._level: dict[tuple[str, MeterId], tuple[float, MilliwattHours]] = {}
        self._excused_until: dict[str, float] = {}
        self._told_to_isolate: dict[str, float] = {}  # when each gateway was last commanded to
        self._purchases: dict[Quarter, HeldPurchase] = {}
        self._bought: Counter[Quarter] = Counter()
        self._orders: dict[tuple[str, MeterId, Kind], Desired] = {}

    # The truth, slot by slot.

    def slot(
        self,
        fleet: "EnergyFleet",
        at: EpochSeconds,
        step: PhysicsStep,
        commanded: Mapping[MeterId, Commanded],
        *,
        was_open: bool,
    ) -> None:
        """Check what happened at a microgrid's boundary and batteries in the slot that starts at ``at``."""
        name, voltage, is_open = fleet.microgrid, fleet.feeder.alive(at), fleet.switch.is_open
        passed = sum(sum(step.readings[meter].values()) for meter in fleet.boundary)
        alive_s = fleet.feeder.alive_s(at) if voltage else 0
        was_open = was_open or self.kept_open.get(name, False)  # a restart closes nothing
        if passed and not voltage:
            self._world.fail(f"E1: {passed} mWh pass the boundary of {name}, and its feeder is dead")
        if was_open and not is_open and alive_s < STABLE_S:
            self._world.fail(f"E3: the switch of {name} closes after {alive_s:.0f} s of voltage")
        if not voltage and not is_open:
            self._world.fail(f"E2: the switch of {name} is closed on a dead feeder")
        if is_open and not was_open and voltage and not fleet.isolated(at):
            self._world.fail(f"E4: the switch of {name} opens without a cause")
        for meter, moved in step.shared.items():
            if moved > 0 and step.levels[meter] < self._minimum[meter]:
                self._world.fail(f"E5: the battery of {meter} shares below its floor, down to {step.levels[meter]}")
            if moved > 0 and not commanded[meter].sharing:
                self._world.fail(f"E5: the battery of {meter} shares without a command")
        self._check_import(name, step, commanded)
        self._count(was_open=was_open, is_open=is_open, shares=bool(step.shared))

    def _check_import(self, name: str, step: PhysicsStep, commanded: Mapping[MeterId, Commanded]) -> None:
        for meter in self._intake & commanded.keys():
            limit_w = commanded[meter].import_limit_w
            self.rationed(name, limit_w)
            taken = sum(step.readings[meter].values())
            if limit_w is not None and taken * 3600 > limit_w * 1000 * SLOT_S:
                self._world.fail(f"E8: {name} takes {taken} mWh in a slot, and its limit is {limit_w} W")
            self._world.story.counts["slots of a limit"] += limit_w is not None

    def _count(self, *, was_open: bool, is_open: bool, shares: bool) -> None:
        counts = self._world.story.counts
        counts["islands"] += is_open and not was_open
        counts["returns"] += was_open and not is_open
        counts["slots of sharing"] += shares

    # The plant.

    def purchased(self, quarter: Quarter, bought: MilliwattHours, states: Sequence[PlantState]) -> None:
        """Check what the plant made durable: the energy bought by order in a slot, and the accepted purchases."""
        for one in (one for state in states for one in state.purchases):
            first = self._purchases.setdefault(one.quarter, one)
            if first.id != one.id:
                self._world.fail(f"E7: the plant accepts {one.id} after {first.id}, for the same quarter-hour")
        self._bought[quarter] += bought
        self._world.story.counts["slots of buying"] += bought > 0
        energy = self._purchases[quarter].energy if quarter in self._purchases else 0
        if self._bought[quarter] > energy:
            self._world.fail(f"E7: the plant buys {self._bought[quarter]} mWh, and the purchase is of {energy} mWh")

    # What a gateway hears.

    def made(self, message: Publish) -> None:
        """Note when a meter first sent a report."""
        if message.topic.endswith((EVENTS, OUTCOMES, LEVELS)):
            self._made.setdefault(message.payload, self._world.time)

    def heard(self, gateway: "EnergyGateway", topic: str, payload: bytes) -> None:
        """Note what a gateway could know from a message."""
        if topic.endswith(COMMANDS):
            self._commanded(gateway, payload)
        elif (parsed := parse_meter_up(topic)) is not None and payload in self._made:
            made = self._made[payload]
            if parsed.meter in self._boundary:
                self._reported(gateway, parsed.meter, parsed.leaf, payload, made)
            elif parsed.leaf == LEVELS:
                key = gateway.name, parsed.meter
                self._level[key] = max(self._level.get(key, (0, 0)), (made, unpack_level(payload).level))

    def _reported(self, gateway: "EnergyGateway", meter: MeterId, leaf: str, payload: bytes, made: float) -> None:
        name = gateway.name
        if leaf == OUTCOMES:
            outcome = unpack_json(Outcome, payload)
            bits = outcome.bits
        elif leaf == EVENTS:
            event = unpack_event(unpack_put(payload).records[-1])
            bits = event.new_state
        else:
            return
        report = Report(made, voltage=not bits & State.DEAD_FEEDER, is_open=bool(bits & State.SWITCH_OPEN))
        self._informed[name] = gateway.core
        if report >= self._newest.get((name, meter), report):
            self._newest[name, meter] = report
        elif self._world.time - made <= REPORT_GOOD_FOR_S and not report.connected:
            # The gateway can't tell which of two reports of the same second a meter made first.
            self._excused_until[name] = max(self._world.time, self._excused_until.get(name, 0))
        if not report.voltage:
            self._last_dead[name] = max(made, self._last_dead.get(name, 0))

    def _commanded(self, gateway: "EnergyGateway", payload: bytes) -> None:
        try:
            command = unpack_json(ControllerCommand, payload)
        except ProtocolError:
            return
        if command.cmd == Action.ISOLATE and command.state == "on":
            self._told_to_isolate[gateway.name] = self._world.time
            until = self._world.time + (command.for_s or 0)
            self._excused_until[gateway.name] = max(until, self._excused_until.get(gateway.name, 0))
        if command.cmd == Action.SUPPLY:
            self.rationed(gateway.name, command.import_limit_w)
            if command.import_limit_w is not None:
                key, until = (gateway.name, command.import_limit_w), self._world.time + (command.for_s or 0)
                self._limited_until[key] = max(until, self._limited_until.get(key, 0))

    def rationed(self, microgrid: str, import_limit_w: int | None) -> None:
        """Check that the emergency services are not limited."""
        if microgrid in self._spared and import_limit_w is not None:
            self._world.fail(f"E6: the emergency services of {microgrid} may import {import_limit_w} W only")

    # What a gateway orders.

    def ordered(self, gateway: "EnergyGateway", effects: Sequence[Effect[Change]]) -> None:
        """Check each new order by what the gateway could know when it made it."""
        for effect in effects:
            if isinstance(effect, Write) and isinstance(effect.change, Desired):
                order = effect.change
                before = self._orders.get((gateway.name, order.meter, order.kind))
                self._orders[gateway.name, order.meter, order.kind] = order
                if before is None or (before.value, before.until) != (order.value, order.until):
                    self._check(gateway, order)
                if before is None or before.value != order.value:
                    self._check_informed(gateway, order)

    def _check(self, gateway: "EnergyGateway", order: Desired) -> None:
        if order.confirmed:
            return  # What a meter reports, taken over.
        if order.kind is Kind.SHARING and order.value == "on":
            self._check_sharing(gateway, order)
        # With a wrong time, or a clock that jumps, no duration and no command's end is known.
        is_right = not gateway.jumped and abs(gateway.core.now - self._world.time) <= CLOCKS_APART_S
        if order.kind is Kind.IMPORT_LIMIT and order.value != NO_LIMIT and is_right:
            self._check_limit(gateway.name, int(order.value))
        if order.kind is Kind.ISOLATED and order.meter in self._boundary and is_right:
            if order.value == "on":
                self._check_opening(gateway.name)
            elif order.value == "off":
                self._check_closing(gateway.name)

    def _check_informed(self, gateway: "EnergyGateway", order: Desired) -> None:
        """Check that a gateway that has heard nothing of its boundary since its start begins and ends nothing."""
        state = order.kind in (Kind.REDUCING, Kind.ISOLATED) and not order.confirmed
        if state and self._informed.get(gateway.name) is not gateway.core:
            what = f"{order.kind} {order.value} of meter {order.meter}"
            self._world.fail(f"E9: {gateway.name} orders {what}, and its boundary has not reported since its start")

    def _check_sharing(self, gateway: "EnergyGateway", order: Desired) -> None:
        made, level = self._level.get((gateway.name, order.meter), (0, 0))
        if level <= self._minimum[order.meter]:
            self._world.fail(
                f"E5: {gateway.name} commands the battery of {order.meter} to share, with a level of {level}"
                f" {self._world.time - made:.0f} s ago"
            )

    def _check_limit(self, name: str, limit_w: int) -> None:
        until = self._limited_until.get((name, limit_w), 0)
        if self._world.time > until + CLOCKS_APART_S:
            self._world.fail(f"E8: {name} limits its import to {limit_w} W, {self._world.time - until:.0f} s too late")

    def _check_opening(self, name: str) -> None:
        reports = [report for (of, _), report in self._newest.items() if of == name]
        if any(report.made < self._told_to_isolate.get(name, 0) for report in reports):
            return  # What it did to the switch it has not heard yet; neither a command's end nor a restart closes it.
        if all(report.connected for report in reports) and self._world.time > self._excused_until.get(name, 0):
            self._world.fail(f"E4: {name} isolates itself without a cause; the last reports: {reports}")

    def _check_closing(self, name: str) -> None:
        since_s = self._world.time - self._last_dead.get(name, 0)
        if since_s < STABLE_S:
            self._world.fail(f"E3: {name} closes its switch {since_s:.0f} s after a report of a dead feeder")
