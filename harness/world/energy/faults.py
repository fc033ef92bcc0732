"""Faults of energy by seed: feeders, broadband, and the utility's commands that contradict each other or the sensor."""

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from commonwatt.model.control import SupplyState
from commonwatt.protocol.commands import Kind
from harness.world.faults import ONCE, Faults, Kinds, Rival
from utility.outbox.changes import OpenCommand
from utility.supply.buying import PlantSituation
from utility.supply.rationing import RATIONING, member_of

if TYPE_CHECKING:
    from harness.world.energy.world import EnergyWorld
    from harness.world.gateway import GatewayNode

GREET_S = 60  # seconds after the last fault until each gateway asks for the identity of the utility's store
COMMAND_S = 900  # seconds for which a command of the utility is sent until it is answered


class EnergyRival(Rival):
    """A second manager that isolates and connects the same microgrid, and lets its batteries share."""

    wanted = (
        (Kind.ISOLATED, "on"),
        (Kind.ISOLATED, "on"),
        (Kind.ISOLATED, "off"),
        (Kind.ISOLATED, "off"),
        (Kind.SHARING, "on"),
    )


class EnergyFaults(Faults):
    """The faults of a world of energy."""

    _world: "EnergyWorld"

    def kinds(self) -> Kinds:
        """Return each kind of fault."""
        return {
            "weather": (self._weather, (900,)),
            "slow disks": (self._slow_disks, (None, None, ONCE)),
            "wrong clocks": (self._wrong_clocks, (None, None, ONCE)),
            "dead feeder": (self._feeder, (700, 1500)),
            "dead town": (self._town_line, (None, 3000)),
            "broadband cut": (self._broadband, (None, 1500)),
            "order": (self._order, (150, 400)),
            "supply": (self._supply, (1200,)),
            "crash": (self._crash, (600, 1800)),
            "plant crash": (self._plant, (900,)),
            "broker": (self._broker, (None, 2400)),
            "partition": (self._partition, (None, 1200)),
            "stall": (self._stall, (None, 1800)),
            "meter off": (self._power, (None, 1500)),
            "memory lost": (self._memory, (None, 7200)),
            "gateway's store lost": (self._gateway_store, (None, 5000)),
            "utility's store lost": (self._utility_store, (None, 3000)),
            "full disk": (self._disk, (None, None, 2400)),
            "clock jumps": (self._jump, (None, None, None, 1800)),
            "meter's clock jumps": (self._meter_jump, (None, None, 1500)),
            "rival": (self._rival, (None, None, None, 900)),
        }

    def heal(self) -> None:
        """End all faults; every feeder has voltage."""
        super().heal()
        for fleet in self._world.energy_fleets.values():
            fleet.feeder.mend(self._world.clock())
        # Without readings a gateway sends no batch, and would not notice that the utility has lost its store.
        for gateway in self._world.gateways.values():
            self._world.after(GREET_S, partial(self._greet, gateway))

    def _greet(self, gateway: "GatewayNode") -> None:
        if gateway.up:
            gateway.put_in("connected")

    def _feeder(self) -> None:
        self._fail(self._rng.choice(list(self._world.energy_fleets)))

    def _town_line(self) -> None:
        for microgrid in self._world.energy_fleets:
            self._fail(microgrid)

    def _fail(self, microgrid: str) -> None:
        """Cut a feeder; on its return it may fail again and again."""
        rng, world = self._rng, self._world
        at, feeder = world.clock(), world.energy_fleets[microgrid].feeder
        for_s = min(rng.choice((15, 120, 600, 1800)) * rng.uniform(0.5, 1.5), self._until - at)
        world.tell("town", f"the feeder of {microgrid} is DEAD for {for_s:.0f} s")
        world.story.count("dead feeders")
        feeder.fail(at, for_s)
        if rng.random() < 0.3:
            # The controller's own supply fails with the feeder.
            world.gateways[microgrid].strike(0, self._down_s())
        for _ in range(rng.choice((0, 0, 1, 3))):
            at += int(for_s + rng.choice((15, 120, 285, 600)))
            for_s = rng.choice((15, 30, 120))
            feeder.fail(at, for_s)

    def _broadband(self) -> None:
        """Cut a gateway from the utility, for up to hours."""
        gateway = self._rng.choice(list(self._world.gateways.values()))
        self._world.story.count("broadband cuts")
        gateway.head_end.partition(min(self._rng.uniform(900, 7200), self._until - self._world.time))

    def _plant(self) -> None:
        """Let the plant crash for moments, so that most of a quarter-hour's slots are left."""
        self._world.plant.strike(self._rng.randrange(3), self._rng.uniform(1, 60))

    def _order(self) -> None:
        """Let an operator send a command; now and then its contrary soon after."""
        rng = self._rng
        controller, for_s = rng.choice(list(self._world.gateways)), rng.choice((120, 600, 1500))
        pairs: tuple[tuple[dict[str, object], dict[str, object]], ...] = (
            ({"cmd": "isolate", "state": "on", "for_s": for_s}, {"cmd": "isolate", "state": "off"}),
            ({"cmd": "notice", "power": "lost", "for_s": for_s}, {"cmd": "notice", "power": "back", "for_s": for_s}),
            ({"cmd": "reduce", "state": "on", "for_s": for_s}, {"cmd": "reduce", "state": "off"}),
            ({"cmd": "sharing", "strategy": "aces"}, {"cmd": "sharing", "strategy": "rangers"}),
        )
        one, other = rng.choice(pairs)
        if rng.random() < 0.5:
            one, other = other, one
        self._send(controller, one)
        if rng.random() < 0.5:
            self._world.after(rng.choice((1, 30, 200)), lambda: self._send(controller, other))

    def _supply(self) -> None:
        """Let the regional supply change; an operator rations beside the utility's own job."""
        rng, world = self._rng, self._world
        state, rule = rng.choice(list(SupplyState)), rng.choice(sorted(RATIONING))
        world.plant.supply = state
        members = [
            replace(member_of(world.town.table, world.town.microgrids[name]), demand_w=rng.randrange(9_000))
            for name in world.gateways
        ]
        plant = PlantSituation(
            level=0, capacity=0, floor=0, reserve=0, power_w=0, loss_permille=0, line_w=rng.randrange(9_000)
        )
        for name, ration in RATIONING[rule](state, members, plant).items():
            world.energy.rationed(name, ration.import_limit_w)
            limit = {} if ration.import_limit_w is None else {"import_limit_w": ration.import_limit_w}
            self._send(name, {"cmd": "supply", "supply": state, "for_s": 1200, **limit})

    def _send(self, controller: str, fields: dict[str, object]) -> None:
        self._numbers += 1
        now, name = self._world.clock(), f"order-{self._numbers}"
        message = json.dumps({"v": 1, "id": name, "until": now + COMMAND_S, **fields})
        self._world.tell("people", f"order {controller} {message}")
        order = OpenCommand(id=name, controller=controller, message=message, until=now + COMMAND_S)
        self._world.utility.trying(lambda: self._add(order, now))
