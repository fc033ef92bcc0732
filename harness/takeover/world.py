"""A seeded world of one clique: three controllers, the utility and the meters of three microgrids, on a virtual clock.

The controllers, the utility and the meters run the rules of the product. Datagrams and messages take their time and may
be lost; processes are killed, stopped and started again, with their store, an old one or none; lines are cut one way or
both ways.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

from commonwatt.cliques.formation import orders
from commonwatt.cliques.signs import BEAT_S, PATIENT_S, PAUSE_S, Beat, Line
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.clique_datagrams import Datagrams, Party
from commonwatt.protocol.clique_messages import CliqueMessage, Known, SendBeat, Tell
from commonwatt.protocol.commands import Epoch
from commonwatt.protocol.topics import UTILITY
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import AskMeters, Begin, Effect, Keep, Kept
from gateway.takeover.member import Member
from gateway.takeover.post import Post
from gateway.takeover.states import State
from harness.takeover.states import TRANSITIONS
from harness.worlds.later import Later
from utility.takeover.grants import Done, Granted, Grants, KeepGranted

NAMES: tuple[ControllerId, ...] = ("r001", "r002", "r003")
RANKS = {name: rank for rank, name in enumerate(NAMES, 1)}
ORDERS = orders([NAMES], dict.fromkeys(NAMES, "residential"))
METERS = 6  # meters of a microgrid
COMMIT_S = (0.01, 0.06)  # seconds that a commit and the first command take
DELAY_S = (0.03, 0.25)  # seconds that a message takes
ACKNOWLEDGED_S, SILENT_S = 0.4, 3.0  # seconds after which a meter says that a controller acknowledged, or not
COMMAND_S = 5.0  # seconds between two commands of a manager to each meter
OLD_S = PATIENT_S + 1  # seconds after which a datagram that never came proves nothing any more


@dataclass
class Machine:
    """A controller's machine: what of it lasts, and its process."""

    name: ControllerId  # its name
    store: dict[MicrogridId, Kept]  # what is durable
    boot: int = 0  # starts so far
    core: Takeover | None = None  # its process; ``None``: it does not run
    stopped: bool = False  # whether its process is paused
    waits: list[Callable[[], None]] = field(default_factory=list)  # what waits for a paused process
    older: dict[MicrogridId, Kept] = field(default_factory=dict)  # its store of an earlier time
    unconfirmed: set[MicrogridId] = field(default_factory=set)  # of which nobody said anything since its start or pause
    paused_at: float = 0.0  # when it was paused
    states: dict[MicrogridId, State] = field(default_factory=dict)  # its process's at the last step
    datagrams: dict[str, Datagrams] = field(default_factory=dict)  # its process's, to each other one
    stolen: bool = False  # whether a thief has its credentials in place of its process


@dataclass
class Recorded:
    """A datagram that went over a line."""

    source: str  # who sent it
    to: str  # to whom
    data: bytes  # the datagram
    at: float  # when it was sent
    came: bool = False  # whether it came


@dataclass
class MeterAt:
    """A meter."""

    microgrid: MicrogridId  # its microgrid
    number: int  # its number there
    guard: EpochGuard = field(default_factory=EpochGuard)  # what it keeps
    obeyed: list[tuple[float, Epoch]] = field(default_factory=list)  # each first command under an epoch
    refused: int = 0  # commands of a manager in force that it refused
    says: Epoch | None = None  # an epoch that it makes up; ``None``: it tells the truth


class World(Later):
    """The world.

    Args:
        seed: Of every chance.
        loss: The part of messages that is lost.
        has_utility: Whether the utility runs.
        tick_s: Seconds between two steps of a core.
        bursts: Mean seconds in which each controller's line loses everything, and between those (Gilbert, Elliott).
    """

    def __init__(
        self,
        seed: int,
        *,
        loss: float = 0.0,
        has_utility: bool = True,
        tick_s: float = 0.1,
        bursts: tuple[float, float] | None = None,
    ) -> None:
        self._tick_s = tick_s
        self._bursts = bursts
        self._bad: dict[str, tuple[bool, float]] = {}
        self.sent = 0  # beats sent by controllers
        self.recorded: list[Recorded] = []
        self.chance = random.Random(seed)
        self._random = random.Random(seed)
        super().__init__()
        self.loss = loss
        self.cut: set[tuple[str, str]] = set()  # lines that are cut, from one to another
        self.blind: set[tuple[ControllerId, MicrogridId, int]] = set()  # meters that a controller does not reach
        self.story: list[str] = []
        self.grants: dict[tuple[MicrogridId, Epoch], ControllerId] = {}
        self.broken: list[str] = []  # what did not hold
        self.transitions: set[tuple[State, State]] = set()  # which states followed another one
        self.machines = {name: Machine(name, {m: Kept((0, RANKS[name]), (0, 0)) for m in NAMES}) for name in NAMES}
        self.meters = {(grid, n): MeterAt(grid, n) for grid in NAMES for n in range(METERS)}
        self.database: dict[MicrogridId, Granted] = {}
        self.utility: Grants | None = None
        self.utilitys: dict[str, Datagrams] = {}  # the datagrams of the utility's process, to each controller
        for name, machine in self.machines.items():
            machine.store[name] = Kept((1, RANKS[name]), (1, RANKS[name]))
            self.grants[name, (1, RANKS[name])] = name
            self.start(name)
        if has_utility:
            self.start_utility()
        for name in NAMES:
            self.after(self.chance.random() * tick_s, self._ticks(name))
        self.after(self.chance.random() * tick_s, self._utility_ticks)
        self.after(1, self._command)

    # Faults

    def tell(self, text: str) -> None:
        """Write a line of the story."""
        self.story.append(f"{self.now:8.2f} s  {text}")

    def kill(self, name: ControllerId) -> None:
        """End a controller's process, without a word."""
        self.tell(f"{name} is killed")
        self.machines[name].core = None
        self.machines[name].stopped = self.machines[name].stolen = False
        self.machines[name].waits = []

    def start(self, name: ControllerId, store: str = "its own") -> None:
        """Start a controller, with its own store, an ``old`` or an ``empty`` one."""
        machine = self.machines[name]
        if store == "empty":
            machine.store = {m: Kept((0, RANKS[name]), (0, 0)) for m in NAMES}
            machine.store[name] = Kept((1, RANKS[name]), (1, RANKS[name]))
        elif store == "old" and machine.older:
            machine.store = dict(machine.older)
        machine.boot += 1
        machine.unconfirmed, machine.states = set(NAMES), {}
        posts = [
            Post(microgrid=m, own=name, order=ORDERS[m], ranks=RANKS, meters=METERS) for m in NAMES if name in ORDERS[m]
        ]
        machine.core, machine.stolen = Takeover(name, posts, machine.store, self.now, machine.boot), False
        machine.datagrams = self._letters(name)
        self.tell(f"{name} starts with {store} store")

    def _letters(self, own: str) -> dict[str, Datagrams]:
        """Return the datagrams of a process that starts, to each other one."""
        parties = [
            Party(
                group=0,
                name=other,
                rank=RANKS.get(other, 0),
                address="",
                key="-".join(sorted((own, other))).encode(),
                microgrids=NAMES,
            )
            for other in (*NAMES, UTILITY)
            if other != own
        ]
        return {party.name: Datagrams(RANKS.get(own, 0), party, self._random.randbytes) for party in parties}

    def stop(self, name: ControllerId) -> None:
        """Pause a process (SIGSTOP)."""
        self.tell(f"{name} is stopped")
        self.machines[name].stopped = True
        self.machines[name].paused_at = self.now

    def go_on(self, name: ControllerId) -> None:
        """Let a paused process go on (SIGCONT)."""
        machine = self.machines[name]
        if machine.stopped:
            self.tell(f"{name} goes on")
            machine.stopped = False
            if self.now - machine.paused_at > PAUSE_S:
                machine.unconfirmed = set(NAMES)
            waits, machine.waits = machine.waits, []
            for action in waits:
                action()

    def start_utility(self) -> None:
        """Start the utility from its database."""
        self.tell("the utility starts")
        self.utility, self.utilitys = Grants(ORDERS, RANKS, self.database, self.now), self._letters(UTILITY)

    def stop_utility(self) -> None:
        """End the utility."""
        self.tell("the utility is killed")
        self.utility = None

    # What happens by itself

    def _ticks(self, name: ControllerId) -> Callable[[], None]:
        def tick() -> None:
            machine = self.machines[name]
            if machine.core is not None and not machine.stopped:
                for grid, member in machine.core.members.items():
                    reached = METERS - sum(at[:2] == (name, grid) for at in self.blind)
                    member.means.connected, member.means.able = reached, reached * 3 >= METERS * 2
                self.perform(name, machine.core.tick(self.now))
                self._check(name, machine)
            self.after(self._tick_s, tick)

        return tick

    def _utility_ticks(self) -> None:
        if self.utility is not None:
            self.done(self.utility.tick(self.now))
        self.after(self._tick_s, self._utility_ticks)

    def _command(self) -> None:
        for name, machine in self.machines.items():
            if machine.core is not None and not machine.stopped:
                for grid, member in machine.core.members.items():
                    if member.commands:
                        self._command_all(name, grid, member)
        self.after(COMMAND_S, self._command)

    def _see(self, name: ControllerId, machine: Machine) -> None:
        """See which states of a process follow which."""
        for grid, member in machine.core.members.items() if machine.core is not None else ():
            before, machine.states[grid] = machine.states.get(grid, member.state), member.state
            if before != member.state:
                self.transitions.add((before, member.state))
                if (before, member.state) not in TRANSITIONS:
                    self.fail(f"state: {name} in {grid}: from {before} to {member.state}")

    def _check(self, name: ControllerId, machine: Machine) -> None:
        """Check what a process may do: it commands only under a granted epoch that is durable and not in doubt."""
        assert machine.core is not None
        for grid, member in machine.core.members.items():
            if not member.commands:
                continue
            if self.grants.get((grid, member.kept.held)) != name:
                self.fail(f"I-b: {name} commands {grid} under {member.kept.held}, which nobody granted")
            if machine.store[grid] != member.kept:
                self.fail(f"I-b: {name} commands {grid} under {member.kept.held}, which is not durable")
            if grid in machine.unconfirmed:
                self.fail(f"I-c: {name} commands {grid}, though nobody confirmed its epoch since it was stopped")

    def counters(self) -> Iterator[int]:
        """Yield the counters that honest controllers and the utility know."""
        for machine in self.machines.values():
            if machine.core is not None:
                yield from (member.kept.highest[0] for member in machine.core.members.values())
        if self.utility is not None:
            yield from (max(each.seen[0], each.top) for each in self.utility.granted.values())

    def fail(self, text: str) -> None:
        """Note what did not hold, the first of its kind."""
        if not any(text[:3] == each[:3] for each in self.broken):
            self.tell(text)
            self.broken.append(text)

    def _command_all(self, name: ControllerId, grid: MicrogridId, member: Member) -> None:
        for n in range(METERS):
            if self.reaches(name, grid, n):
                self.after(
                    self.chance.uniform(*DELAY_S),
                    self._obey(name, self.meters[grid, n], member.epoch_for(self.number(grid, n))),
                )

    def _obey(self, name: ControllerId, meter: MeterAt, epoch: Epoch) -> Callable[[], None]:
        def obey() -> None:
            if not self.reaches(name, meter.microgrid, meter.number):
                return
            why = meter.guard.why_not(epoch, self.now)
            if why is None:
                if epoch > meter.guard.epoch:
                    meter.obeyed.append((self.now, epoch))
                meter.guard.take(epoch, self.now)
            elif epoch > meter.guard.epoch:
                meter.refused += 1
            self._meter_says(name, meter, None)

        return obey

    @staticmethod
    def number(grid: MicrogridId, n: int) -> int:
        """Return a meter's id."""
        return NAMES.index(grid) * METERS + n

    def _meter_says(self, name: ControllerId, meter: MeterAt, heard: bool | None) -> None:
        number = self.number(meter.microgrid, meter.number)
        epoch = meter.says or meter.guard.epoch

        def said() -> None:
            core = self.machines[name].core
            if core is not None and self.reaches(name, meter.microgrid, meter.number):
                member = core.members[meter.microgrid]
                self.machines[name].unconfirmed.discard(meter.microgrid)
                self.perform(name, member.meter_said(number, epoch, self.now, heard))

        self.after(self.chance.uniform(*DELAY_S), lambda: self._at(name, said))

    def _at(self, name: ControllerId, action: Callable[[], None]) -> None:
        """Do something in a controller's process; a paused one does it later, a dead one never."""
        machine = self.machines[name]
        if machine.core is None and not machine.stolen:
            return
        if machine.stopped:
            machine.waits.append(action)
        else:
            action()

    # Lines

    def reaches(self, name: ControllerId, grid: MicrogridId, n: int) -> bool:
        """Return whether a controller and a meter hear each other."""
        return (name, grid, n) not in self.blind

    def send(self, source: str, to: str, deliver: Callable[[], None]) -> None:
        """Send a message or a datagram; it may be lost."""
        if (source, to) in self.cut or self.chance.random() < self.loss or self._in_burst(source, to):
            return

        def arrive() -> None:
            if (source, to) not in self.cut:
                deliver()

        self.after(self.chance.uniform(*DELAY_S), arrive)

    def _in_burst(self, *ends: str) -> bool:
        """Return whether the line of one of two ends loses everything now."""
        return self._bursts is not None and any(self._is_bad(end, self._bursts) for end in ends if end != UTILITY)

    def _is_bad(self, name: str, bursts: tuple[float, float]) -> bool:
        is_bad, until = self._bad.get(name, (False, self.now + self.chance.expovariate(1 / bursts[1])))
        while until <= self.now:
            is_bad = not is_bad
            until += self.chance.expovariate(1 / bursts[0 if is_bad else 1])
        self._bad[name] = is_bad, until
        return is_bad

    def settle(self) -> None:
        """Begin with lines that are known for long."""
        self.run(12 + self.chance.random() * 4)
        for line in self.lines():
            line.since = None if line.since is None else -1e6
        if self.utility is not None:
            self.utility.head_end_lost(-1e6)
        self.run(8)

    # Effects

    def perform(self, name: ControllerId, effects: Iterable[Effect]) -> None:
        """Do what a controller's core asks for."""
        machine = self.machines[name]
        for effect in effects:
            match effect:
                case Keep(microgrid, kept):
                    if not machine.older and self.now > 100:
                        machine.older = deepcopy(machine.store)
                    machine.store[microgrid] = kept
                case Begin(microgrid, epoch, _):
                    self._begin(name, microgrid, epoch)
                case Tell() | SendBeat():
                    self.sent += isinstance(effect, SendBeat)
                    self.write(name, effect)
                case AskMeters(microgrid, about, count):
                    self._ask_meters(name, microgrid, about, count)
        self._see(name, machine)

    def _begin(self, name: ControllerId, grid: MicrogridId, epoch: Epoch) -> None:
        self.tell(f"{name} manages {grid} under {epoch}")
        if (grid, epoch) in self.grants:
            self.fail(f"I-b: {epoch} of {grid} was granted twice")
        self.grants[grid, epoch] = name
        self.machines[name].unconfirmed.discard(grid)
        if self.machines[name].store[grid].held != epoch:
            self.fail(f"I-b: {name} begins under {epoch} of {grid} before it is durable")

        def first() -> None:
            core = self.machines[name].core
            if core is not None and not self.machines[name].stopped and core.members[grid].commands:
                self._command_all(name, grid, core.members[grid])

        self.after(self.chance.uniform(*COMMIT_S), first)

    def letters(self, own: str) -> dict[str, Datagrams]:
        """Return the datagrams of a running process, to each other one."""
        return self.utilitys if own == UTILITY else self.machines[own].datagrams

    def write(self, source: str, effect: Tell | SendBeat) -> None:
        """Send a message or a beat as a datagram."""
        letters, now = self.letters(source)[effect.to], self.now
        data = letters.beat(effect.beat, now) if isinstance(effect, SendBeat) else letters.message(effect.message, now)
        assert data is not None
        self._mail(source, effect.to, data)

    def _mail(self, source: str, to: str, data: bytes) -> None:
        self.recorded.append(Recorded(source, to, data, self.now))
        self.send(source, to, partial(self._take, self.recorded[-1]))

    def _take(self, recorded: Recorded) -> None:
        """Let a datagram come to a process; a paused one takes it later."""
        if recorded.to != UTILITY:
            self._at(recorded.to, lambda: self._take_now(recorded))
        elif self.utility is not None:
            self._take_now(recorded)

    def _take_now(self, recorded: Recorded) -> None:
        source, to = recorded.source, recorded.to
        came, recorded.came = recorded.came, True
        letters = self.letters(to)[source]
        taken = letters.take(recorded.data, self.now)
        for answer in taken.answers if taken.is_theirs else letters.greeting(recorded.data, self.now):
            self._mail(to, source, answer)
        for said in taken.said:
            is_old = isinstance(said, Beat) and said.is_fresh and self.now - recorded.at > OLD_S
            if came or is_old:
                self.fail(f"I-g: {to} takes a recorded datagram of {source}: {said}")
            self._hear(source, to, said)

    def _hear(self, source: str, to: str, said: Beat | CliqueMessage) -> None:
        if to == UTILITY:
            assert self.utility is not None
            of, now = self.utility, self.now
            self.done(of.beat(source, said, now) if isinstance(said, Beat) else of.handle(source, said, now))
        elif (core := self.machines[to].core) is not None:
            if isinstance(said, Known):
                self.machines[to].unconfirmed.discard(said.microgrid)
            now = self.now
            self.perform(to, core.beat(source, said, now) if isinstance(said, Beat) else core.handle(source, said, now))

    def replay(self, recorded: Recorded) -> None:
        """Let a recorded datagram come again."""
        self._take(recorded)

    def age(self, days: float) -> None:
        """Let sessions have numbers as after days of beats."""
        beats = int(days * 86_400 / BEAT_S)
        for own in (*NAMES, UTILITY):
            for session in (each for letters in self.letters(own).values() for each in letters._beats):
                session._came.newest += beats
                session._sent = deque(((number + beats, at) for number, at in session._sent), session._sent.maxlen)

    def _ask_meters(self, name: str, grid: str, about: str | None, count: int) -> None:
        near = [n for n in range(METERS) if self.reaches(name, grid, n)]
        for n in self.chance.sample(near, min(count, len(near))):
            meter = self.meters[grid, n]
            heard = about is not None and self.acknowledges(about, grid) and self.reaches(about, grid, n)
            wait_s = 0.0 if about is None else ACKNOWLEDGED_S if heard else SILENT_S
            answer = None if about is None else heard
            delay_s = wait_s + self.chance.uniform(*DELAY_S)
            self.after(delay_s, partial(self._meter_says, name, meter, answer))

    def done(self, done: list[Done]) -> None:
        """Do what the utility asks for."""
        for one in done:
            match one:
                case KeepGranted(microgrid, granted):
                    self.database[microgrid] = granted
                case Tell() | SendBeat():
                    self.write(UTILITY, one)

    # What is looked at

    def managers(self, grid: MicrogridId) -> list[ControllerId]:
        """Return who believes to manage a microgrid."""
        return [
            name
            for name, machine in self.machines.items()
            if machine.core is not None and not machine.stopped and machine.core.members[grid].commands
        ]

    def believing(self, grid: MicrogridId, name: ControllerId) -> int:
        """Return how many meters obey a controller that believes to manage."""
        core = self.machines[name].core
        assert core is not None
        member = core.members[grid]
        held = [self.meters[grid, n].guard.epoch for n in range(METERS)]
        return sum(epoch == member.epoch_for(self.number(grid, n)) for n, epoch in enumerate(held))

    def managed(self, grid: MicrogridId) -> ControllerId | None:
        """Return who manages a microgrid in truth: able to, and believed by two thirds of its meters."""
        able = [name for name in self.managers(grid) if self.means(name, grid)]
        return next((name for name in able if self.believing(grid, name) * 3 >= METERS * 2), None)

    def acknowledges(self, name: ControllerId, grid: MicrogridId) -> bool:
        """Return whether a controller's gateway acknowledges what meters put."""
        machine = self.machines[name]
        return machine.core is not None and not machine.stopped and machine.core.members[grid].means.commits

    def means(self, name: ControllerId, grid: MicrogridId) -> bool:
        """Return whether a controller runs and could command a microgrid."""
        machine = self.machines[name]
        return machine.core is not None and not machine.stopped and bool(machine.core.members[grid].means)

    def set_commits(self, name: ControllerId, *, works: bool) -> None:
        """Let a controller's store take commits, or none."""
        self.tell(f"the store of {name} takes {'commits again' if works else 'no commits'}")
        core = self.machines[name].core
        for member in core.members.values() if core is not None else ():
            member.means.commits = works

    def cut_off(self, name: ControllerId, *others: str) -> None:
        """Cut the lines between a controller and some others, both ways; by default all."""
        for other in others or (*NAMES, UTILITY):
            self.cut |= {(name, other), (other, name)}
        self.tell(f"{name} is cut off from {', '.join(others) or 'all'}")

    def hide(self, name: ControllerId, grids: tuple[MicrogridId, ...] = NAMES, meters: int = METERS) -> None:
        """Let a controller not reach the first meters of microgrids."""
        self.blind |= {(name, grid, n) for grid in grids for n in range(meters)}
        self.tell(f"{name} does not reach {meters} meters of {', '.join(grids)}")

    def heal(self) -> None:
        """Mend all lines, and let every process run."""
        self.tell("everything is healed")
        self.cut.clear()
        self.blind.clear()
        for name, machine in self.machines.items():
            self.go_on(name)
            if machine.core is None:
                self.start(name)

    def lines(self) -> Iterator[Line]:
        """Yield every line that a process watches."""
        for machine in self.machines.values():
            if machine.core is not None:
                yield from machine.core.signs.lines.values()
        if self.utility is not None:
            yield from self.utility.signs.lines.values()
