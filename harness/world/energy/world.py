"""A seeded world of energy: a street with two batteries, the emergency services, their feeders, utility and plant."""

from collections.abc import Mapping, Sequence

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.ids import MeterId
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Microgrid
from harness.world.energy.faults import EnergyFaults, EnergyRival
from harness.world.energy.fleet import EnergyFleet
from harness.world.energy.gateway import EnergyGateway
from harness.world.energy.ledger import EnergyLedger
from harness.world.energy.plant import PlantNode
from harness.world.energy.utility import EnergyUtility
from harness.world.world import START, Options, World

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
