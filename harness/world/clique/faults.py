"""Faults of a clique by seed: what takes controllers away from others; a thief with credentials of one."""

import random
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from commonwatt.clique.beats import BACK_WITHIN_S, Beat, Bits
from commonwatt.clique.cliques import parties
from commonwatt.clique.datagrams import CliqueSocket
from commonwatt.clique.messages import Ask, CliqueMessage, Grant, Known, SendBeat, Tell, Vote, Who, Yield
from commonwatt.model.effects import Publish
from commonwatt.model.units import ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import EPOCH_STEP, Command, Epoch
from commonwatt.protocol.controller_commands import Action
from commonwatt.protocol.topics import COMMANDS, meter_down
from harness.world.clique.gateway import CliqueGateway
from harness.world.clique.part import NAMES, PLACES, RANKS, Recorded, file_of, plug
from harness.world.faults import ONCE, Faults, Kinds
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


LONGEST_S = 140.0  # seconds of a fault


class CliqueFaults(Faults):
    """The faults of a world of a clique."""

    _world: "CliqueWorld"

    def kinds(self) -> Kinds:
        """Return each kind of fault."""
        often, seldom = (None, 300, 1200), (None, None, 600)
        return {
            "weather": (self._weather, (None, None, ONCE)),
            "no utility": (self._no_utility, (None, None, ONCE)),
            "controller lost": (self._lost, (200, 600)),
            "controller back soon": (self._back_soon, seldom),
            "store of a controller lost": (self._empty, seldom),
            "old epochs": (self._old, seldom),
            "pause": (self._pause, often),
            "cut off": (self._cut_off, often),
            "cut lines": (self._cut_lines, often),
            "blind": (self._blind, often),
            "full disk of a controller": (self._full, seldom),
            "utility lost": (self._utility_lost, often),
            "broker lost": (self._broker_lost, seldom),
            "lie": (self._lie, often),
            "replay": (self._replay, seldom),
            "theft": (self._theft, (None, None, 400)),
            "meter off": (self._power, (None, None, 900)),
            "pin": (self._pin, (None, 200, 400)),
            "pin to a dead broker": (self._pin_to_dead, (None, None, 400)),
            "controller revoked": (self._revoke, (None, None, 500)),
        }

    def heal(self) -> None:
        """End all faults."""
        world = self._world
        world.cut.clear()
        world.line_loss = 0.0
        for gateway in world.gateways.values():
            gateway.go_on()
        for fleet in world.fleets.values():
            fleet.says.clear()
        world.revoke(None)
        super().heal()
        self._changed()

    def _changed(self) -> None:
        self._world.watch.changed = max(self._world.watch.changed, self._world.monotonic)

    def _seconds(self) -> float:
        """Return the duration of a fault, which ends before the healing."""
        self._changed()
        return max(0.1, min(self._rng.uniform(1.0, LONGEST_S), self._until - self._world.time))

    def _then(self, seconds: float, action: Callable[[], None]) -> None:
        def then() -> None:
            self._changed()
            action()

        self._world.after(seconds, then)

    def _one(self) -> CliqueGateway:
        return self._world.gateways[self._rng.choice(NAMES)]

    def _weather(self) -> None:
        self._world.line_loss = self._rng.choice((0.01, 0.1))

    def _no_utility(self) -> None:
        """Let the utility be away until the healing."""
        self._world.utility.crash(self._until - self._world.time)

    def _lost(self) -> None:
        """End a controller's process, or cut the power of its machine."""
        gateway, seconds = self._one(), self._seconds()
        if gateway.up:
            if self._rng.random() < 0.5:
                gateway.broker.crash(seconds)
            gateway.crash(seconds)
            self._then(seconds, lambda: None)

    def _back_soon(self) -> None:
        """Let a controller stop, say so, and be back."""
        gateway, seconds = self._one(), self._seconds()
        if gateway.runs:
            for beat in gateway.part.takeover.leave():
                gateway.part.socket.send(0, beat)
            gateway.crash(seconds)
            self._world.watch.changed = self._world.monotonic + BACK_WITHIN_S

    def _empty(self) -> None:
        gateway, seconds = self._one(), self._seconds()
        if gateway.up and not gateway.store.closed:
            gateway.lose_store(seconds)
            self._then(seconds, lambda: None)

    def _old(self) -> None:
        gateway, seconds = self._one(), self._seconds()
        if gateway.up and not gateway.store.closed:
            gateway.set_back(seconds)
            self._then(seconds, lambda: None)

    def _pause(self) -> None:
        gateway = self._one()
        gateway.pause()
        self._then(self._seconds(), gateway.go_on)

    def _cut_off(self) -> None:
        """Cut a controller off from everybody, and from all meters or not."""
        gateway, seconds = self._one(), self._seconds()
        others = [name for name in PLACES if name != gateway.name]
        self._cut({line for each in others for line in ((gateway.name, each), (each, gateway.name))}, seconds)
        gateway.head_end.partition(seconds)
        if self._rng.random() < 0.7:
            self._hide(gateway, [link for link in gateway.broker.links if link is not gateway.local], seconds)

    def _cut_lines(self) -> None:
        """Cut some lines, each one way or both ways."""
        name, rng = self._rng.choice(NAMES), self._rng
        others = [each for each in PLACES if each != name and rng.random() < 0.6]
        lines = {line for each in others for line in ((name, each), (each, name)) if rng.random() < 0.7}
        self._cut(lines, self._seconds())

    def _cut(self, lines: set[tuple[str, str]], seconds: float) -> None:
        self._world.tell("world", f"lines are CUT: {sorted(lines)}")
        self._world.cut |= lines
        self._then(seconds, lambda: self._world.cut.difference_update(lines))

    def _blind(self) -> None:
        """Hide some meters of a microgrid from a controller."""
        gateway, fleet = self._one(), self._world.fleets[self._rng.choice(NAMES)]
        meters = self._rng.sample(list(fleet.meters), self._rng.randint(1, len(fleet.meters)))
        self._hide(gateway, [fleet.link_to(meter, gateway.name) for meter in meters], self._seconds())

    def _hide(self, gateway: CliqueGateway, links: Iterable[Link], seconds: float) -> None:
        self._world.tell("world", f"meters are HIDDEN from {gateway.name}")
        for link in links:
            link.partition(seconds)
        self._then(seconds, lambda: None)

    def _full(self) -> None:
        """Fill a controller's disk."""
        seconds = self._seconds()
        self._one().fill(seconds)
        self._then(seconds, lambda: None)

    def _utility_lost(self) -> None:
        utility, seconds = self._world.utility, self._seconds()
        if utility.up:
            utility.crash(seconds)
            self._then(seconds, lambda: None)

    def _broker_lost(self) -> None:
        seconds = self._seconds()
        self._one().broker.crash(seconds)
        self._then(seconds, lambda: None)

    def _lie(self) -> None:
        """Let a meter make up an epoch, or two a counter that no manager could have."""
        rng, fleet = self._rng, self._world.fleets[self._rng.choice(NAMES)]
        # What a meter made up once is not forgotten: another lie, of another meter, would be a second word for it.
        if not self._world.story.counts["lies"]:
            self._world.story.count("lies")
            rank, counter = rng.randint(1, 4), rng.choice((3, 9, 5_000, 2**31))
            meters = rng.sample(list(fleet.meters), 1 if counter < 2**31 else 2)
            fleet.says = dict.fromkeys(meters, (counter, rank))
            self._world.tell("world", f"meters make up epochs: {fleet.says}")
            self._then(self._seconds(), fleet.says.clear)

    def _replay(self) -> None:
        """Send what was recorded of a controller, or of the utility, again and again."""
        world, rng, place = self._world, self._rng, self._rng.choice(PLACES)
        recorded = [each for each in world.recorded if place in (each.source, each.to)]
        until = world.time + self._seconds()
        world.tell("world", f"{len(recorded)} recorded datagrams of and to {place} are SENT AGAIN")

        def again() -> None:
            if world.time < until:
                for each in rng.choices(recorded, k=3):
                    world.arrive(each)
                world.after(rng.random(), again)

        if recorded:
            again()

    def _theft(self) -> None:
        """Give a controller's credentials to a thief, in place of its process; what it manages is not managed."""
        world, gateway, seconds = self._world, self._one(), self._seconds()
        if gateway.up and not world.thieves and not world.story.counts["thefts"]:
            world.story.count("thefts")  # Two thieves are two words.
            gateway.crash(seconds + 1)
            Thief(world, gateway.name, world.time + seconds, self._rng)
            self._then(seconds + 1, lambda: None)

    def _pin(self) -> None:
        """Let an operator give some meters other orders of brokers, or take all pins of a microgrid away."""
        rng, microgrid = self._rng, self._rng.choice(NAMES)
        meters = [meter for meter in self._world.fleets[microgrid].meters if rng.random() < 0.6]
        self._assign(microgrid, meters, rng.sample(NAMES, len(NAMES)) if rng.random() < 0.7 else [])

    def _pin_to_dead(self) -> None:
        """Let a controller die, or its broker, and all meters of a microgrid be pinned to it."""
        gateway, microgrid = self._one(), self._rng.choice(NAMES)
        seconds = max(0.1, min(2 * LONGEST_S, self._until - self._world.time))
        dies = gateway.broker if self._rng.random() < 0.5 else gateway
        if dies.up:
            dies.crash(seconds)
            self._changed()
            self._then(seconds, lambda: None)
            others = [name for name in NAMES if name != gateway.name]
            self._assign(microgrid, list(self._world.fleets[microgrid].meters), [gateway.name, *others])

    def _assign(self, microgrid: MicrogridId, meters: Sequence[MeterId], brokers: Sequence[ControllerId]) -> None:
        orders = [[brokers, [str(meter) for meter in meters]]] if brokers and meters else []
        self._command(microgrid, {"cmd": Action.ASSIGN, "orders": orders})

    def _revoke(self) -> None:
        """Let the authority revoke a controller, and readmit it later; its machine is not stopped."""
        if self._world.signed is None:
            self._world.revoke(self._one().name)
            self._then(self._seconds(), lambda: self._world.revoke(None))
