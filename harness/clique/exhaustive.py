"""Every schedule of faults in a small world: three controllers, one microgrid with three meters, no utility.

    python -m harness.clique.exhaustive

Time passes in ticks of 1.1 s, three to a beat. In a tick each controller does what is due, then all messages are
delivered, in order. Before a tick a controller may be killed, started again with its store or an empty one, stopped,
let go on, or cut off from the others; any message may be lost, or come a tick late. The bounds say how many faults
there are at most; then everything is mended, and one controller must manage the microgrid, obeyed by its meters.
"""

import hashlib
import pickle
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Self
from unittest.mock import patch

from commonwatt.clique.beats import Beat
from commonwatt.clique.messages import Datagrams, Party, SendBeat, Tell
from commonwatt.device.commands import EpochGuard
from commonwatt.model.units import ControllerId
from commonwatt.protocol.commands import Epoch
from gateway.clique import member
from gateway.clique.core import CliqueCore
from gateway.clique.effects import AskMeters, Begin, CliqueEffect, EpochPair, Keep, Post
from harness.world.exhaustive import search
from harness.world.exhaustive.search import BrokenError as BrokenError
from harness.world.exhaustive.search import must

NAMES: tuple[ControllerId, ...] = ("r001", "r002", "r003")
RANKS = {name: rank for rank, name in enumerate(NAMES, 1)}
GRID = "r001"
METERS = 3
TICK_S = 1.1
BEGUN_TICKS = 6  # ticks before the first fault
MENDED_TICKS = 26  # ticks after which one controller manages again
LINES = (*NAMES, "utility")


@dataclass(frozen=True)
class Bounds:
    """Most faults of a schedule, and its ticks."""

    faults: int = 2  # faults of controllers
    losses: int = 0  # messages that are lost or late
    ticks: int = 12  # ticks in which they happen


@dataclass
class Numbers:
    """Random bytes that are the same in each run: a core's copies are equal states."""

    of: str  # the start that they are of
    drawn: int = 0

    def __call__(self, count: int) -> bytes:
        """Return so many bytes that were not returned before."""
        self.drawn += 1
        return hashlib.sha256(f"{self.of} {self.drawn}".encode()).digest()[:count]


@dataclass
class Small:
    """The world; a copy of it is a state."""

    tick: int = 0
    cores: dict[ControllerId, CliqueCore] = field(default_factory=dict)  # the running processes
    stores: dict[ControllerId, EpochPair] = field(default_factory=dict)  # what is durable
    boots: dict[ControllerId, int] = field(default_factory=dict)
    stopped: dict[ControllerId, list[tuple[str, bytes]]] = field(default_factory=dict)  # what waits for a stopped one
    cut: set[ControllerId] = field(default_factory=set)  # controllers whom no other one hears
    meters: list[EpochGuard] = field(default_factory=lambda: [EpochGuard() for _ in range(METERS)])
    grants: dict[Epoch, ControllerId] = field(default_factory=dict)
    letters: dict[tuple[ControllerId, ControllerId], Datagrams] = field(default_factory=dict)  # of, and to
    waiting: list[tuple[ControllerId, ControllerId, bytes]] = field(default_factory=list)  # datagrams under way
    late: list[tuple[ControllerId, ControllerId, bytes]] = field(default_factory=list)  # for the next tick
    recorded: list[tuple[ControllerId, ControllerId, bytes]] = field(default_factory=list)  # those that came
    # Of meters: when, to whom, of which meter, and whether the one asked about acknowledged.
    answers: list[tuple[int, ControllerId, int, bool | None]] = field(default_factory=list)
    story: list[str] = field(default_factory=list)  # of the present step

    @property
    def now(self) -> float:
        """The time, seconds."""
        return self.tick * TICK_S

    def start(self, name: ControllerId, kept: EpochPair) -> None:
        """Start a controller with a store."""
        self.stores[name] = kept
        self.boots[name] = self.boots.get(name, 0) + 1
        post = Post(microgrid=GRID, own=name, order=NAMES, ranks=RANKS, meters=METERS)
        core = self.cores[name] = CliqueCore(name, [post], {GRID: kept}, self.now, self.boots[name])
        for other in NAMES:
            key = "-".join(sorted((name, other))).encode()
            party = Party(group=0, name=other, rank=RANKS[other], address="", key=key, microgrids=(GRID,))
            numbers = Numbers(f"{name} {other} {self.boots[name]}")
            self.letters[name, other] = Datagrams(RANKS[name], party, numbers)
        for line in core.signs.lines.values():
            line.since = -1e6 if line is not core.signs.lines["utility"] else None
        core.members[GRID].means.connected = METERS

    # A tick

    def pass_tick(self) -> None:
        """Let every controller do what is due."""
        self.tick += 1
        self.waiting += self.late
        self.late = []
        for name in NAMES:
            if name in self.cores and name not in self.stopped:
                self.perform(name, self.cores[name].tick(self.now))
                core = self.cores[name].members[GRID]
                if core.commands:
                    self.command(name)
        due = [each for each in self.answers if each[0] <= self.tick]
        self.answers = [each for each in self.answers if each[0] > self.tick]
        for _, name, meter, heard in due:
            self.answered(name, meter, heard)

    def tick_and_deliver(self) -> None:
        """Let a tick pass in which no message is lost or late."""
        self.pass_tick()
        while self.waiting:
            self.deliver()

    def deliver(self) -> None:
        """Deliver a message."""
        source, to, data = self.waiting.pop(0)
        if to not in self.cores or source in self.cut or to in self.cut:
            return
        if to in self.stopped:
            self.stopped[to].append((source, data))
            return
        letters, core = self.letters[to, source], self.cores[to]
        taken = letters.take(data, self.now)
        self.waiting += [
            (to, source, answer) for answer in (taken.answers if taken.is_theirs else letters.greeting(data, self.now))
        ]
        self.recorded.append((source, to, data))
        must(not letters.take(data, self.now).said, f"I-g: {to} takes a datagram of {source} twice")
        for said in taken.said:
            now = self.now
            self.perform(to, core.beat(source, said, now) if isinstance(said, Beat) else core.handle(source, said, now))

    def perform(self, name: ControllerId, effects: list[CliqueEffect]) -> None:
        """Do what a core asks for."""
        for effect in effects:
            match effect:
                case Keep(_, kept):
                    self.stores[name] = kept
                case Begin(_, epoch, _):
                    must(epoch not in self.grants, f"I-b: {epoch} was granted twice")
                    self.grants[epoch] = name
                case Tell(to, message) if to != "utility":
                    data = self.letters[name, to].message(message, self.now)
                    assert data is not None
                    self.waiting.append((name, to, data))
                case SendBeat(to, beat) if to != "utility":
                    self.waiting.append((name, to, self.letters[name, to].beat(beat, self.now)))
                case AskMeters(_, about, _):
                    heard = None if about is None else about in self.cores and about not in self.stopped
                    at = self.tick + (3 if heard is False else 1)
                    self.answers += [(at, name, meter, heard) for meter in range(METERS)]
                case _:
                    pass

    def command(self, name: ControllerId) -> None:
        """Let a manager command its meters."""
        core = self.cores[name].members[GRID]
        must(self.grants.get(core.kept.held) == name, f"I-b: {name} commands under {core.kept.held}, not granted")
        must(self.stores[name] == core.kept, f"I-b: {name} commands under {core.kept.held}, not durable")
        for n, guard in enumerate(self.meters):
            epoch = core.epoch_for(n)
            if guard.why_not(epoch, self.now) is None:
                guard.take(epoch, self.now)
            self.perform(name, core.meter_said(n, guard.epoch, self.now))

    def answered(self, name: ControllerId, meter: int, heard: bool | None) -> None:
        """Let a controller have a meter's answer."""
        if name in self.cores and name not in self.stopped:
            core = self.cores[name].members[GRID]
            self.perform(name, core.meter_said(meter, self.meters[meter].epoch, self.now, heard))

    # Faults

    def faults(self) -> Iterator[tuple[str, ControllerId]]:
        """Yield the faults that may happen now."""
        for name in NAMES:
            if name not in self.cores:
                yield from (("is started again", name), ("is started with an empty store", name))
            elif name in self.stopped:
                yield "goes on", name
            else:
                yield from (("is killed", name), ("is stopped", name))
            if name not in self.cut:
                yield "is cut off", name

    def do(self, what: str, name: ControllerId) -> None:
        """Let a fault happen."""
        self.story.append(f"{self.now:5.1f} s  {name} {what}")
        match what:
            case "is killed":
                del self.cores[name]
            case "is started again":
                self.start(name, self.stores[name])
            case "is started with an empty store":
                own = (1, 1) if name == NAMES[0] else (0, RANKS[name])
                self.start(name, EpochPair(own, own if own[0] else (0, 0)))
            case "is stopped":
                self.stopped[name] = []
            case "goes on":
                self.waiting += [(source, name, message) for source, message in self.stopped.pop(name)]
            case "is cut off":
                self.cut.add(name)

    def mend(self) -> None:
        """Mend everything: all run, and hear each other; then one manages."""
        self.story.append(f"{self.now:5.1f} s  everything is mended")
        self.cut.clear()
        for name in NAMES:
            if name in self.stopped:
                self.do("goes on", name)
            if name not in self.cores:
                self.do("is started again", name)
        for _ in range(MENDED_TICKS):
            self.tick_and_deliver()
        managers = [name for name in NAMES if self.cores[name].members[GRID].commands]
        must(len(managers) == 1, f"I-c, I-d: {managers} manage it")
        core = self.cores[managers[0]].members[GRID]
        for source, to, data in self.recorded:  # at any later time
            said = self.letters[to, source].take(data, self.now).said
            must(not said, f"I-g: {to} takes a recorded datagram of {source}")
        believing = sum(guard.epoch == core.epoch_for(n) for n, guard in enumerate(self.meters))
        must(believing == METERS, f"I-e: {believing} meters obey {managers[0]}")


def first() -> Small:
    """Return the world before any fault."""
    world = Small()
    world.grants[1, 1] = NAMES[0]
    for name in NAMES:
        own = (1, 1) if name == NAMES[0] else (0, RANKS[name])
        world.start(name, EpochPair(own, own if own[0] else (0, 0)))
    for _ in range(BEGUN_TICKS):
        world.tick_and_deliver()
    return world


@dataclass(frozen=True)
class State:
    """A world at the begin of a tick."""

    key: bytes  # of worlds alike
    packed: bytes = field(compare=False)
    tick: int
    faults: int  # still to come
    losses: int  # still to come


def _state(world: Small, faults: int, losses: int) -> State:
    world.story = []
    packed = pickle.dumps(world)
    world.recorded = []
    return State(hashlib.sha256(pickle.dumps(world)).digest(), packed, world.tick, faults, losses)


class Explorer(search.Explorer[State]):
    """Visits every schedule of faults of a small world of three controllers."""

    def __init__(self, bounds: Bounds) -> None:
        super().__init__()
        self.bounds = bounds
        self.takeovers = 0  # ends in which another one manages
        self._last = BEGUN_TICKS + bounds.ticks

    def explore(self, progress: bool = False) -> Self:
        with patch.multiple(member, RETURN_AFTER_S=5.5, ANSWER_S=3.3, RETRY_S=5.5, RETRY_MOST_S=5.5):  # they come soon
            return super().explore(progress)

    def first(self) -> State:
        return _state(first(), self.bounds.faults, self.bounds.losses)

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        if state.tick >= self._last or not (state.faults or state.losses):
            return
        world: Small = pickle.loads(state.packed)
        choices: list[tuple[str, ControllerId] | None] = [None, *(world.faults() if state.faults else ())]
        for choice in choices:
            after: Small = pickle.loads(state.packed)
            if choice is not None:
                after.do(*choice)
            after.pass_tick()
            for delivered, losses in self._deliveries(after, state.losses):
                text = "; ".join(delivered.story) or f"{delivered.now:5.1f} s"
                yield text, _state(delivered, state.faults - (choice is not None), losses)

    def _deliveries(self, world: Small, losses: int) -> Iterator[tuple[Small, int]]:
        """Yield the worlds after all messages of a tick, each of which may be lost or late."""
        while world.waiting:
            if losses:
                for fault in ("lost", "late"):
                    other: Small = pickle.loads(pickle.dumps(world))
                    source, to, data = other.waiting.pop(0)
                    other.story.append(f"{other.now:5.1f} s  {len(data)} bytes of {source} to {to} are {fault}")
                    other.late += [(source, to, data)] if fault == "late" else []
                    yield from self._deliveries(other, losses - 1)
            world.deliver()
        yield world, losses

    def end(self, state: State) -> None:
        world: Small = pickle.loads(state.packed)
        while world.tick < self._last:
            world.tick_and_deliver()
        world.mend()
        self.takeovers += len(world.grants) > 1


if __name__ == "__main__":
    search.main(Explorer, Bounds)
