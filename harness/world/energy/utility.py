"""The utility in a world of energy: it also buys for the town's plant, and rations."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING
from unittest.mock import patch

from sqlalchemy import Connection

from commonwatt.config.utility import SupplySettings
from commonwatt.model.effects import Publish
from commonwatt.protocol.topics import PLANT
from harness.world.node import finish
from harness.world.utility import UtilityNode
from utility.assembly.metrics import UtilityMetrics
from utility.jobs.store.job_leases import Turn
from utility.jobs.threads import HERE
from utility.outbox.changes import OpenCommand
from utility.outbox.store.plant import open_purchases
from utility.supply import jobs as supply
from utility.supply.jobs import SupplyJob

if TYPE_CHECKING:
    from harness.world.energy.world import EnergyWorld

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
