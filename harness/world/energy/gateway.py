"""A gateway in a world of energy: each of its orders is checked when it is made."""

from typing import TYPE_CHECKING

from commonwatt.model.effects import Effect
from gateway.changes import Change
from gateway.links import HEAD_END, HEAD_END_QUIET_S, WATCH_EVERY_S
from harness.world.gateway import GatewayNode

if TYPE_CHECKING:
    from harness.world.energy.world import EnergyWorld


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
