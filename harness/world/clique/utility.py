"""The utility in a world of a clique: it also grants microgrids."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.world.clique.part import GrantsPart, Recorded
from harness.world.node import finish
from harness.world.utility import UtilityNode
from utility.takeover.jobs import TICK_S

if TYPE_CHECKING:
    from harness.world.clique.world import CliqueWorld


class CliqueUtility(UtilityNode):
    """The utility's service with its grants."""

    world: "CliqueWorld"
    part: GrantsPart
    taking: Recorded | None = None  # the datagram that it takes

    def build(self) -> None:
        """Make the core and the grants again."""
        self.part = GrantsPart(self)
        super().build()

    def now(self) -> float:
        """Return the service's time."""
        return self.clock()

    def started(self) -> None:
        """Begin to grant."""
        super().started()
        self.world.watch.utility_began = self.world.monotonic
        self._grant()

    def _grant(self) -> None:
        self.later(TICK_S, self._grant)
        finish(self.part.tick())

    async def write(self, work: Callable[..., Any], *given: Any) -> None:
        """Write, and perhaps crash before or after it."""
        self._point()
        work(*given)
        self._point()

    def take(self, recorded: Recorded) -> None:
        """Take a datagram."""
        self.taking = recorded
        self.guarded(lambda: self.part.socket._take(recorded.data, (recorded.source,)))
        recorded.came = True
