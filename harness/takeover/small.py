"""Every schedule of faults in a small world: three controllers, one microgrid with three meters, no utility.

    python -m harness.takeover.small

Time passes in ticks of 1.1 s, three to a beat. In a tick each controller does what is due, then all messages are
delivered, in order. Before a tick a controller may be killed, started again with its store or an empty one, stopped,
let go on, or cut off from the others; any message may be lost, or come a tick late. The bounds say how many faults
there are at most; then everything is mended, and one controller must manage the microgrid, obeyed by its meters.
"""

import argparse
import hashlib
import pickle
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from unittest.mock import patch

from commonwatt.cliques.signs import Beat
from commonwatt.device.commands.epoch_guard import EpochGuard
from commonwatt.model.units import ControllerId
from commonwatt.protocol.clique_datagrams import Datagrams, Party
from commonwatt.protocol.clique_messages import SendBeat, Tell
from commonwatt.protocol.commands import Epoch
from gateway.takeover import member
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import AskMeters, Begin, Effect, Keep, Kept
from gateway.takeover.post import Post

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


class BrokenError(AssertionError):
    """An invariant is violated; the text is the schedule that led to it."""


@dataclass
class Seen:
    """What an exploration saw."""

    schedules: int = 0  # different schedules to their ends
    states: int = 0  # different states
    takeovers: int = 0  # ends in which another one manages
    seconds: float = 0.0  # its duration


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
    cores: dict[ControllerId, Takeover] = field(default_factory=dict)  # the running processes
    stores: dict[ControllerId, Kept] = field(default_factory=dict)  # what is durable
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
    story: list[str] = field(default_factory=list)

    @property
    def now(self) -> float:
        """The time, seconds."""
        return self.tick * TICK_S

    def start(self, name: ControllerId, kept: Kept) -> None:
        """Start a controller with a store."""
        self.stores[name] = kept
        self.boots[name] = self.boots.get(name, 0) + 1
        post = Post(microgrid=GRID, own=name, order=NAMES, ranks=RANKS, meters=METERS)
        core = self.cores[name] = Takeover(name, [post], {GRID: kept}, self.now, self.boots[name])
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

    def deliver(self, index: int = 0) -> None:
        """Deliver a message."""
        source, to, data = self.waiting.pop(index)
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
        self.must(not letters.take(data, self.now).said, f"I-g: {to} takes a datagram of {source} twice")
        for said in taken.said:
            now = self.now
            self.perform(to, core.beat(source, said, now) if isinstance(said, Beat) else core.handle(source, said, now))

    def perform(self, name: ControllerId, effects: list[Effect]) -> None:
        """Do what a core asks for."""
        for effect in effects:
            match effect:
                case Keep(_, kept):
                    self.stores[name] = kept
                case Begin(_, epoch, _):
                    self.must(epoch not in self.grants, f"I-b: {epoch} was granted twice")
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
        self.must(self.grants.get(core.kept.held) == name, f"I-b: {name} commands under {core.kept.held}, not granted")
        self.must(self.stores[name] == core.kept, f"I-b: {name} commands under {core.kept.held}, not durable")
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

    def must(self, holds: bool, what: str) -> None:
        """Check an invariant."""
        if not holds:
            raise BrokenError("\n".join([what, *self.story]))

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
                self.start(name, Kept(own, own if own[0] else (0, 0)))
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
            self.pass_tick()
            while self.waiting:
                self.deliver()
        managers = [name for name in NAMES if self.cores[name].members[GRID].commands]
        self.must(len(managers) == 1, f"I-c, I-d: {managers} manage it")
        core = self.cores[managers[0]].members[GRID]
        for source, to, data in self.recorded:  # at any later time
            said = self.letters[to, source].take(data, self.now).said
            self.must(not said, f"I-g: {to} takes a recorded datagram of {source}")
        believing = sum(guard.epoch == core.epoch_for(n) for n, guard in enumerate(self.meters))
        self.must(believing == METERS, f"I-e: {believing} meters obey {managers[0]}")


def first() -> Small:
    """Return the world before any fault."""
    world = Small()
    world.grants[1, 1] = NAMES[0]
    for name in NAMES:
        own = (1, 1) if name == NAMES[0] else (0, RANKS[name])
        world.start(name, Kept(own, own if own[0] else (0, 0)))
    for _ in range(BEGUN_TICKS):
        world.pass_tick()
        while world.waiting:
            world.deliver()
    return world


@contextmanager
def _soon() -> Iterator[None]:
    """Let a return come after seconds."""
    with ExitStack() as stack:
        for name, value in (("RETURN_AFTER_S", 5.5), ("ANSWER_S", 3.3), ("RETRY_S", 5.5), ("RETRY_MOST_S", 5.5)):
            stack.enter_context(patch.object(member, name, value))
        yield


class Explorer:
    """Visits every schedule within some bounds."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds, self.seen = bounds, Seen()
        self._known: set[bytes] = set()

    def explore(self) -> Seen:
        """Visit all.

        Raises:
            BrokenError: With the schedule.
        """
        began = time.perf_counter()
        with _soon():
            self._visit(pickle.dumps(first()), self.bounds.faults, self.bounds.losses)
        self.seen.states = len(self._known)
        self.seen.seconds = time.perf_counter() - began
        return self.seen

    def _visit(self, packed: bytes, faults: int, losses: int) -> None:
        """Visit what may follow a state at the begin of a tick."""
        stack = [(packed, faults, losses)]
        while stack:
            packed, faults, losses = stack.pop()
            world: Small = pickle.loads(packed)
            if (faults == 0 and losses == 0) or world.tick >= BEGUN_TICKS + self.bounds.ticks:
                self._end(world)
                continue
            choices: list[tuple[str, ControllerId] | None] = [None, *(world.faults() if faults else ())]
            for choice in choices:
                after: Small = pickle.loads(packed)
                if choice is not None:
                    after.do(*choice)
                after.pass_tick()
                left = faults - (choice is not None)
                found = self._deliveries(after, losses)
                stack += [(state, left, rest) for state, rest in found if self._is_new(state, left, rest)]

    def _deliveries(self, world: Small, losses: int) -> Iterator[tuple[bytes, int]]:
        """Yield the states after all messages of a tick, each of which may be lost or late."""
        while world.waiting:
            if losses:
                for fault in ("lost", "late"):
                    other: Small = pickle.loads(pickle.dumps(world))
                    source, to, data = other.waiting.pop(0)
                    other.story.append(f"{other.now:5.1f} s  {len(data)} bytes of {source} to {to} are {fault}")
                    other.late += [(source, to, data)] if fault == "late" else []
                    yield from self._deliveries(other, losses - 1)
            world.deliver()
        yield pickle.dumps(world), losses

    def _is_new(self, state: bytes, faults: int, losses: int) -> bool:
        world: Small = pickle.loads(state)
        world.story, world.recorded = [], []
        key = pickle.dumps((world, faults, losses))
        if key in self._known:
            return False
        self._known.add(key)
        return True

    def _end(self, world: Small) -> None:
        self.seen.schedules += 1
        while world.tick < BEGUN_TICKS + self.bounds.ticks:
            world.pass_tick()
            while world.waiting:
                world.deliver()
        world.mend()
        self.seen.takeovers += len(world.grants) > 1


def main() -> None:
    """Explore within the given bounds, and print what was seen."""
    parser = argparse.ArgumentParser(
        description="Visit every schedule of faults of a small world of three controllers."
    )
    parser.add_argument("--faults", type=int, default=2, help="faults of controllers, at most (default: 2)")
    parser.add_argument("--losses", type=int, default=0, help="messages lost or late, at most (default: 0)")
    parser.add_argument("--ticks", type=int, default=12, help="ticks of 1.1 s in which they happen (default: 12)")
    seen = Explorer(Bounds(**vars(parser.parse_args()))).explore()
    print(f"{seen.schedules:,} schedules, {seen.states:,} states, {seen.takeovers:,} takeovers, {seen.seconds:.0f} s")


if __name__ == "__main__":
    main()
