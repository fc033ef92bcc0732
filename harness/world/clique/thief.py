"""A thief with the credentials of one controller: it says anything, to all."""

import random
from typing import TYPE_CHECKING

from commonwatt.cliques.signs import Beat, Bits
from commonwatt.model.effects import Publish
from commonwatt.model.units import ControllerId
from commonwatt.network.clique_socket import CliqueSocket
from commonwatt.protocol.clique_messages import Ask, CliqueMessage, Grant, Known, SendBeat, Tell, Vote, Who, Yield
from commonwatt.protocol.commands import EPOCH_STEP, Command, Epoch
from commonwatt.protocol.topics import COMMANDS, meter_down
from commonwatt.town.clique_file import parties
from harness.world.clique.part import NAMES, PLACES, RANKS, Recorded, file_of, plug
from harness.world.network import Link

if TYPE_CHECKING:
    from harness.world.clique.world import CliqueWorld

SAYS_EVERY_S = 0.2  # seconds between two things that it says


class Thief:
    """One that took a controller's place; ``until``: when it loses it."""

    def __init__(self, world: "CliqueWorld", name: ControllerId, until: float, chance: random.Random) -> None:
        self.world, self.name = world, name
        self.up = True  # whether it has the credentials
        self.taking: Recorded | None = None
        self._until, self._chance = until, chance
        self._highest = 1  # the highest counter that it said
        rank = RANKS[name]
        made = CliqueSocket(name, rank, parties(file_of(name)), _ignore, _ignore, lambda: world.monotonic)
        self._socket = plug(made, rank, self)
        world.thieves[name] = self
        world.tell(name, "is STOLEN")
        self._link = Link(world, f"{name}-thief", self, world.brokers[name], world.gateways[name].local.device)
        self._link.reconnect()
        self._fleet = world.fleets[chance.choice(NAMES)]
        # The meter whose epoch it raises sends by itself: no controller may ask it any more.
        self._meter = chance.choice([n for n, core in self._fleet.meters.items() if core.description.push])
        world.spoilt.add(self._meter)
        self._say()

    def connected(self, link: Link) -> None:
        """Not listen."""

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Not listen."""

    def take(self, recorded: Recorded) -> None:
        """Take a datagram, to agree on sessions."""
        self._socket._take(recorded.data, (recorded.source,))

    def _say(self) -> None:
        world, chance = self.world, self._chance
        if world.time >= self._until:
            self.up = False
            del world.thieves[self.name]
            return
        to = chance.choice([name for name in PLACES if name != self.name])
        some = frozenset(name for name in NAMES if chance.random() < 0.5)
        beat = Beat(Bits(able=some, manages=some), is_answer=chance.random() < 0.5)
        self._socket.send(0, SendBeat(to, beat) if chance.random() < 0.3 else Tell(to, self._message()))
        epoch = self._fleet.meters[self._meter].desired_states.epoch[0] + 1, RANKS[self.name]
        command = Command(id="thief", cmd="get", issuer=self.name, epoch=epoch, what="state")
        topic = meter_down(self._fleet.microgrid, self._meter, COMMANDS)
        self._link.send(Publish(topic, command.pack()), self._fleet.link_to(self._meter, self.name))
        world.after(SAYS_EVERY_S, self._say)

    def _message(self) -> CliqueMessage:
        chance, grid = self._chance, self._chance.choice(NAMES)
        match chance.randrange(6):
            case 0:
                return Who(microgrid=grid)
            case 1:
                return Ask(microgrid=grid, lost=self._epoch(), nonce=chance.randrange(9))
            case 2:
                return Vote(microgrid=grid, nonce=chance.randrange(9), saw="lost", highest=self._epoch())
            case 3:
                return Yield(microgrid=grid, epoch=self._epoch())
            case 4:
                return Grant(microgrid=grid, epoch=self._epoch(), replaces=self._epoch())
            case _:
                return Known(microgrid=grid, highest=self._epoch(), manages=True)

    def _epoch(self) -> Epoch:
        """Return an epoch a step above the last one, or a bit, or far beyond."""
        step = self._chance.choice((0, 1, 1, EPOCH_STEP, EPOCH_STEP, 2**31))
        counter = min(self._highest + step, 2**32 - 1)
        self._highest = counter if step <= EPOCH_STEP else self._highest
        return counter, self._chance.choice((RANKS[self.name], *RANKS.values()))


def _ignore(*_: object) -> None:
    """Pass over what comes."""
