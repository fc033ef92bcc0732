"""A gateway in a world of energy: each of its orders is checked when it is made."""

from typing import TYPE_CHECKING

from commonwatt.model.effects import Effect
from gateway.changes import Change
from harness.simulation.gateway import GatewayNode

if TYPE_CHECKING:
    from harness.simulation.energy.world import EnergyWorld


class EnergyGateway(GatewayNode):
    """One microgrid's gateway."""

    world: "EnergyWorld"

    def asked(self, what: str, topic: str, payload: bytes, now: int) -> list[Effect[Change]]:
        """Pass a message or a call to the core; check the orders that follow."""
        if what in (self.local.name, self.head_end.name):
            self.world.energy.heard(self, topic, payload)
        effects = super().asked(what, topic, payload, now)
        self.world.energy.ordered(self, effects)
        return effects

    def committed(self, now: int) -> list[Effect[Change]]:
        """Do the work that reads committed data; check the orders that follow."""
        effects = super().committed(now)
        self.world.energy.ordered(self, effects)
        return effects
