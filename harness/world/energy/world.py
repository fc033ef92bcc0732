"""A seeded world of energy: a street with batteries, emergency services, their gateways and the utility."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from unittest.mock import patch

from sqlalchemy import Connection

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.units import MeterId
from commonwatt.protocol.topics import PLANT
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Microgrid
from gateway.links import HEAD_END, HEAD_END_QUIET_S, WATCH_EVERY_S
from gateway.store.changes import Change
from harness.world.energy.faults import EnergyFaults, EnergyRival
from harness.world.energy.fleet import EnergyFleet
from harness.world.energy.ledger import EnergyLedger
from harness.world.energy.plant import PlantNode
from harness.world.gateway import GatewayNode
from harness.world.node import finish
from harness.world.utility import UtilityNode
from harness.world.world import START, Options, World
from utility.assembly.metrics import UtilityMetrics
from utility.jobs.plans import HERE
from utility.jobs.store import Turn
from utility.outbox.changes import OpenCommand
from utility.outbox.store import open_purchases
from utility.settings import SupplySettings
from utility.supply import jobs as supply
from utility.supply.jobs import SupplyJob


class EnergyGateway(GatewayNode):
    """One microgrid's gateway."""

    world: "EnergyWorld"
    _heard = 0.0

    def started(self) -> None:
        """Begin to tick, and to test a quiet connection to the utility, as the gateway's links do."""
        super().started()
        self._heard = self.world.time
        self._watch()

    def _watch(self) -> None:
        if self.head_end.connected and self.world.time - self._heard >= HEAD_END_QUIET_S:
            self.put_in("quiet", HEAD_END)
        self.later(WATCH_EVERY_S, self._watch)

    def asked(self, what: str, topic: str, payload: bytes, now: int) -> list[Effect[Change]]:
        """Pass a message or a call to the core; check the orders that follow."""
        if what in (self.local.name, self.head_end.name):
            self.world.energy.heard(self, topic, payload)
        if what == self.head_end.name:
            self._heard = self.world.time
        effects = super().asked(what, topic, payload, now)
        self.world.energy.ordered(self, effects)
        return effects

    def committed(self, now: int) -> list[Effect[Change]]:
        """Do the work that reads committed data; check the orders that follow."""
        effects = super().committed(now)
        self.world.energy.ordered(self, effects)
        return effects


SUPPLY_S = 60


class EnergyUtility(UtilityNode):
    """The utility's service with its job of supply."""

    world: "EnergyWorld"

    def build(self) -> None:
        """Make the core and the job again."""
        super().build()
        self._supply = SupplyJob(
            SupplySettings(rationing=self.rng.choice(("aces", "rangers"))),
            self.database,
            _metrics().supply,
            HERE,
            is_trusted=lambda: True,
        )

    def open_commands(self, connection: Connection) -> list[OpenCommand]:
        """Return the commands and the purchases without an outcome yet."""
        return [*super().open_commands(connection), *open_purchases(connection)]

    def jobs(self) -> tuple[tuple[str, int, Callable[[Turn], None]], ...]:
        """Return the jobs, that of supply first."""
        return ("supply", SUPPLY_S, self._buy), *super().jobs()

    def _buy(self, turn: Turn) -> None:
        # The ids of a world follow from its seed.
        with patch.object(supply, "token_hex", lambda size: self.rng.randbytes(size).hex()):
            finish(self._supply.run(turn))

    def transmit(self, message: Publish) -> None:
        if message.topic.split("/")[1] == PLANT:
            self.link.send(message, self.world.plant.link)
        else:
            super().transmit(message)


@cache
def _metrics() -> UtilityMetrics:
    return UtilityMetrics()


NOON = START + 16 * 3600  # noon of a clear day in June, local time: there is sun to export

STREET = tuple(range(10_001, 10_007))
SERVICES = tuple(range(20_001, 20_007))


class EnergyWorld(World):
    """One world of energy."""

    start = NOON
    town_file = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 2}, {id = "p", kind = "public"}]'
    measured: Mapping[str, tuple[MeterId, ...]] = {"r001": STREET, "p": SERVICES}

    def __init__(self, seed: int, options: Options, unsynced: Sequence[str] = ()) -> None:
        """Make the world of a seed."""
        self.energy_fleets: dict[str, EnergyFleet] = {}  # the meters and the boundary of each microgrid
        super().__init__(seed, options, unsynced)
        self.energy = EnergyLedger(self, self.town)  # checks what flows and what is ordered
        self.plant = PlantNode(self, self.head_end)  # the town's plant
        self.nodes.append(self.plant)

    def make_utility(self) -> EnergyUtility:
        """Return the utility, which buys for the plant."""
        return EnergyUtility(self, self.town, self.head_end)

    def make_gateway(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> EnergyGateway:
        """Return the gateway of a microgrid."""
        return EnergyGateway(self, settings, meters, self.brokers[settings.microgrid], self.head_end)

    def make_rival(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> EnergyRival:
        """Return the second manager of a microgrid."""
        return EnergyRival(self, settings, meters, self.brokers[settings.microgrid])

    def make_fleet(self, microgrid: Microgrid, ids: Sequence[MeterId], log_records: int) -> EnergyFleet:
        """Return the meters of a microgrid with its physics."""
        del ids, log_records
        fleet = EnergyFleet(self, self.town, microgrid, self.brokers[microgrid.id])
        self.energy_fleets[microgrid.id] = fleet
        return fleet

    def make_faults(self) -> EnergyFaults:
        """Return the faults."""
        return EnergyFaults(self)
