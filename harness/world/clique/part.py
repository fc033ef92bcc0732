"""The product's parts of controllers and of the utility in a clique, on the clock and the wires of a world."""

import asyncio
import socket
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol
from unittest.mock import patch

from commonwatt.clique.beats import Beat
from commonwatt.clique.cliques import Clique, CliqueFile, CliquePeer, orders
from commonwatt.clique.datagrams import CliqueSocket
from commonwatt.clique.messages import CliqueMessage, Datagrams, Grant, Known, Tell, Yield
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.topics import UTILITY
from commonwatt.town.registry import RegisteredMeter, SignedList
from gateway.clique.core import CliqueCore
from gateway.clique.effects import Begin, CliqueEffect
from gateway.clique.kept import Hooks, RevokedOffer
from gateway.clique.shell import CliqueShell
from gateway.store.changes import KeptSettings
from harness.world.node import finish
from utility.cliques.cliques import StepOutcome
from utility.cliques.jobs import GrantsJob

if TYPE_CHECKING:
    from harness.world.clique.gateway import CliqueGateway
    from harness.world.clique.world import CliqueUtility, CliqueWorld

NAMES: tuple[ControllerId, ...] = ("r001", "r002", "r003")
RANKS = {name: rank for rank, name in enumerate(NAMES, 1)}
ORDERS = orders([NAMES], dict.fromkeys(NAMES, "residential"))
PLACES = (*NAMES, UTILITY)
OLD_S = 13.0  # seconds after which a datagram that never came proves nothing any more


@dataclass
class Recorded:
    """A datagram that went over a line."""

    source: str  # the place that sent it
    to: str  # the place to which it was sent
    data: bytes  # the datagram
    at: float  # when it was sent
    came: bool = False  # whether it came


class Place(Protocol):
    """A place with a socket."""

    name: str
    world: "CliqueWorld"
    taking: Recorded | None


class Wire:
    """Sends the datagrams of a socket over the lines of the world."""

    family = socket.AF_INET

    def __init__(self, place: Place) -> None:
        self._place = place

    def sendto(self, data: bytes, address: tuple[str]) -> None:
        """Send a datagram."""
        self._place.world.mail(Recorded(self._place.name, *address, data, self._place.world.monotonic))

    def get_extra_info(self, _: str) -> "Wire":
        """Return what has the family of the address."""
        return self

    def is_closing(self) -> bool:
        """Return that it is open."""
        return False


def plug(made: CliqueSocket, rank: int, place: Place) -> CliqueSocket:
    """Connect a socket with the lines of the world; what is random in its datagrams is of the seed."""
    made._transport = Wire(place)  # type: ignore[assignment]
    made._to = {key: [(party.name,)] for key, party in made._parties.items()}
    made._datagrams = {key: Datagrams(rank, one, place.world.net.randbytes) for key, one in made._parties.items()}
    return made


def file_of(own: str) -> CliqueFile:
    """Return the file of a controller or of the utility."""
    others = [
        CliquePeer(
            name=name,
            rank=RANKS.get(name, 0),
            address="127.0.0.1:1",
            key="".join(sorted((own, name))).encode().hex().ljust(64, "0"),
        )
        for name in PLACES
        if name != own
    ]
    group = Clique(members=NAMES, orders=ORDERS, others=tuple(others))
    return CliqueFile(own=own, rank=RANKS.get(own, 0), groups=(group,))


def signed(text: str) -> str:
    """Return the authority's signature of a list of revoked controllers."""
    return text.encode().hex()


def check_fresh(place: Place, said: Beat | CliqueMessage) -> None:
    """Check that what comes of a datagram was not said before."""
    recorded = place.taking
    assert recorded is not None
    is_old = isinstance(said, Beat) and said.is_fresh and place.world.monotonic - recorded.at > OLD_S
    if recorded.came or is_old:
        place.world.fail(f"I-g: {place.name} takes a recorded datagram of {recorded.source}: {said}")


class CliquePart(CliqueShell):
    """The part of a controller."""

    def __init__(
        self, node: "CliqueGateway", meters: dict[MicrogridId, dict[MeterId, RegisteredMeter]], store: KeptSettings
    ) -> None:
        self._node = node
        super().__init__(node.settings, file_of(node.name), meters, store, node.world.signed)
        self.socket = plug(self._socket, RANKS[node.name], node)
        self.takeover = self._groups[0]

    def _now(self) -> float:  # type: ignore[override]
        return self._node.world.monotonic

    def _core(self, group: Clique, now: float) -> CliqueCore:
        with patch("gateway.clique.shell.secrets.randbelow", return_value=self._node.starts):
            return super()._core(group, now)

    def begin(self, hooks: Hooks) -> None:
        """Take part from now on."""
        self._hooks = hooks

    def offer(self, listed: SignedList) -> None:
        """Offer meters a newer list of revoked controllers."""
        self._revoked = RevokedOffer(self._own, listed)

    def turn(self) -> float:
        """Do what is due; return when the next step is."""
        hooks, now = self._hooks, self._now()
        assert hooks is not None
        self.takeover.note(now)
        if finish(self._epochs.keep_all(hooks)) is None and self._epochs.are_kept:
            self._step(hooks)
        self._wake.clear()
        most_s = 1.0 if now < self._watches_until else 3.3
        return max(now + 0.1, min(now + most_s, self.takeover.rests_until(now)))

    @property
    def is_awake(self) -> bool:
        """Whether a step is needed before the next one is due."""
        return self._wake.is_set()

    def _beat(self, group: int, sender: ControllerId, beat: Beat) -> None:
        check_fresh(self._node, beat)
        super()._beat(group, sender, beat)

    def _message(self, group: int, sender: ControllerId, message: CliqueMessage) -> None:
        check_fresh(self._node, message)
        if isinstance(message, Known):
            self._node.unconfirmed.discard(message.microgrid)
        super()._message(group, sender, message)

    def _perform(self, group: int, effects: Iterable[CliqueEffect]) -> None:
        effects = list(effects)
        for effect in effects:
            if isinstance(effect, Tell) and isinstance(effect.message, Yield):
                self._node.world.given.add((effect.message.microgrid, effect.message.epoch))
            elif isinstance(effect, Begin):
                self._node.world.given.add((effect.microgrid, effect.epoch))
        super()._perform(group, effects)
        self._node.look()

    def _go_on(self, hooks: Hooks) -> None:
        with patch.object(asyncio, "create_task", self._node.keep_later):
            super()._go_on(hooks)


class GrantsPart(GrantsJob):
    """The part of the utility."""

    def __init__(self, node: "CliqueUtility") -> None:
        self._node = node
        clock: Any = node  # it has ``now``
        super().__init__(file_of(UTILITY), node.database, clock, write=node.write, time=lambda: node.world.monotonic)
        plug(self.socket, 0, node)

    def _beat(self, group: int, sender: ControllerId, beat: Beat) -> None:
        check_fresh(self._node, beat)
        super()._beat(group, sender, beat)

    def _message(self, group: int, sender: ControllerId, message: CliqueMessage) -> None:
        check_fresh(self._node, message)
        super()._message(group, sender, message)

    def _do(self, outcomes: Iterable[StepOutcome]) -> None:
        outcomes = list(outcomes)
        for message in (out.done.message for each in outcomes for out in each.messages if isinstance(out.done, Tell)):
            if isinstance(message, Grant):
                self._node.world.given.add((message.microgrid, message.epoch))
        with patch.object(asyncio, "get_running_loop", _Loop):
            super()._do(outcomes)


class _Loop:
    """A loop whose tasks end at once."""

    @staticmethod
    def create_task(work: Coroutine[object, None, None]) -> None:
        finish(work)
