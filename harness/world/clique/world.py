"""A seeded world of a clique: three controllers, each of which may manage all microgrids, and the utility."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from commonwatt.config.settings import GatewaySettings
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.meter_messages import RevokedList
from commonwatt.town.registry import RegisteredMeter, SignedList, registry_of
from commonwatt.town.town import Microgrid
from harness.world.clique.faults import CliqueFaults, Thief
from harness.world.clique.fleet import CliqueFleet
from harness.world.clique.gateway import CliqueGateway
from harness.world.clique.part import NAMES, RANKS, GrantsPart, Recorded, signed
from harness.world.clique.watch import Watch
from harness.world.gateway import Holder
from harness.world.node import finish
from harness.world.utility import UtilityNode
from harness.world.world import Options, World
from utility.cliques.jobs import TICK_S


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


DELAY_S = (0.03, 0.25)  # seconds that a datagram takes


class CliqueWorld(World):
    """One world of a clique."""

    healed_s = 240
    town_file = 'microgrid = [{id = "r", kind = "residential", count = 3, houses = 2}]'
    measured: Mapping[str, tuple[MeterId, ...]] = {
        name: tuple(rank * 10_000 + n for n in range(1, 5)) for name, rank in RANKS.items()
    }

    gateways: dict[str, CliqueGateway]  # type: ignore[assignment]
    fleets: dict[str, CliqueFleet]  # type: ignore[assignment]
    utility: CliqueUtility

    def __init__(self, seed: int, options: Options, unsynced: Sequence[str] = ()) -> None:
        """Make the world of a seed."""
        self.recorded: list[Recorded] = []  # the datagrams that were sent
        self.cut: set[tuple[str, str]] = set()  # lines that are cut, from one to another
        self.line_loss = 0.0  # the part of datagrams that is lost
        self.spoilt: set[MeterId] = set()  # meters whose epoch a thief raised: they obey no controller any more
        self.thieves: dict[ControllerId, Thief] = {}  # thieves in the places of controllers
        self.grants: dict[tuple[MicrogridId, Epoch], ControllerId] = {(n, (1, r)): n for n, r in RANKS.items()}
        self.signed: SignedList | None = None  # the authority's list of revoked controllers
        self.given = set(self.grants)  # epochs that were granted, or were to be
        super().__init__(seed, options, unsynced)
        self.watch = Watch(self)

    @property
    def monotonic(self) -> float:
        """The time of a clock that never goes back, seconds."""
        return self.time - self.start

    def make_utility(self) -> CliqueUtility:
        """Return the utility, which grants."""
        return CliqueUtility(self, self.town, self.head_end)

    def make_gateway(self, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter]) -> CliqueGateway:
        """Return the gateway of a controller."""
        del meters
        of = {name: registry_of(self.town.microgrids[name]).meters for name in NAMES}
        registered = {name: {m.id: m for m in each if m.id in self.measured[name]} for name, each in of.items()}
        settings = settings.model_copy(update={"put_s": 60})  # a silent meter is noticed within minutes
        return CliqueGateway(self, settings, registered, self.brokers[settings.microgrid], self.head_end)

    def make_fleet(self, microgrid: Microgrid, ids: Sequence[MeterId], log_records: int) -> CliqueFleet:
        """Return the meters of a microgrid."""
        described = [meter for meter in microgrid.meters if meter.id in ids]
        return CliqueFleet(self, microgrid.id, described, self.brokers[microgrid.id], log_records)

    def make_faults(self) -> CliqueFaults:
        """Return the faults."""
        return CliqueFaults(self)

    def holders(self, microgrid: str) -> Sequence[Holder]:
        """Return the stores of the records of a microgrid, one at each controller."""
        return [gateway.holders[microgrid] for gateway in self.gateways.values()]

    # Lines.

    def mail(self, recorded: Recorded) -> None:
        """Send a datagram; it may be lost."""
        self.recorded.append(recorded)
        line = recorded.source, recorded.to
        if line not in self.cut and self.net.random() >= self.line_loss:
            self.after(self.net.uniform(*DELAY_S), partial(self.arrive, recorded))

    def arrive(self, recorded: Recorded) -> None:
        """Let a datagram come to a place, now or again."""
        if (recorded.source, recorded.to) in self.cut:
            return
        if recorded.to in self.thieves:
            self.thieves[recorded.to].take(recorded)
            return
        node = self.utility if recorded.to == self.utility.name else self.gateways[recorded.to]
        if node.up:
            node.take(recorded)

    def revoke(self, name: ControllerId | None) -> None:
        """Let the authority revoke a controller, or readmit all; every controller has the new list at once."""
        if name is None and self.signed is None:
            return
        text = RevokedList(1 + int(self.time), {name: RANKS[name]} if name else {}).text
        self.tell("authority", f"list of revoked controllers: {text}")
        self.signed = SignedList(text=text, signature=signed(text))
        for gateway in self.gateways.values():
            if gateway.up:
                gateway.part.offer(self.signed)

    # What is checked.

    def began(self, name: ControllerId, microgrid: MicrogridId, epoch: Epoch) -> None:
        """Note that a controller begins to manage under a new epoch."""
        self.tell(name, f"manages {microgrid} under {epoch}")
        self.story.count("takeovers")
        if (microgrid, epoch) in self.grants:
            self.fail(f"I-b: {epoch} of {microgrid} was granted twice")
        self.grants[microgrid, epoch] = name

    def knows(self, name: ControllerId, microgrid: MicrogridId, epoch: Epoch) -> None:
        """Check that an epoch that a controller keeps was not made up by meters."""
        if epoch[0] and not self.story.counts["thefts"] and (microgrid, epoch) not in self.given:
            self.fail(f"I-b: {name} believes that {epoch} of {microgrid} was granted, and it was not")

    def check_healed(self) -> None:
        """Check that each microgrid has one manager."""
        self.watch.end()
