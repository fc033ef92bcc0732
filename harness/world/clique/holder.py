"""The stores of a controller in a world of a clique, as the ledger sees them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from commonwatt.model.units import MicrogridId
from gateway.store.store import Store
from harness.world import masks
from harness.world.ledger import EventKey

if TYPE_CHECKING:
    from harness.world.clique.gateway import CliqueGateway


@dataclass(frozen=True)
class HostedHolder:
    """The store of one microgrid at a controller."""

    node: "CliqueGateway"
    microgrid: MicrogridId

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        own = self.node.name
        return own if own == self.microgrid else f"{own} for {self.microgrid}"

    @property
    def jumped(self) -> bool:
        """Whether the clock jumped since the start."""
        return self.node.jumped

    @property
    def store(self) -> Store:
        """The store."""
        return self.node.stores[self.microgrid].store

    def holdings(self) -> masks.Holdings:
        """Return the holdings read from the store."""
        return masks.of_parts((part.key, part.payload) for part in self.store.all_parts(unsent_only=False))

    def events(self) -> set[EventKey]:
        """Return the events in the store."""
        stored = self.store.all_events(unsent_only=False)
        return {(event.meter_id, generation, event.record_id) for generation, event in stored}
