"""Base of the simulated shells: pass messages to the core, commit, publish; crash at any point."""

import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from typing import Generic, TypeVar

from commonwatt.model import effects
from commonwatt.model.effects import Effect, Publish
from harness.world.disks import Disk
from harness.world.network import Link
from harness.world.stage import Stage

W = TypeVar("W")
T = TypeVar("T")


class Crash(Exception):  # noqa: N818 - not an error: it is what is tested
    """A crash of the process at this point."""


class Node(ABC, Generic[W]):
    """A process with a core and a store.

    A crash is a power cut: of the store's files it leaves what a disk may have of them (``harness.world.disks``).
    """

    wrong_s: tuple[int, ...] = ()  # largest error of its clock, seconds
    max_waiting: int

    def __init__(self, world: Stage, name: str) -> None:
        self.name = name  # its name in the story
        self.up = False  # whether it runs
        # Points (before a commit, after it, after each message) until its crash; ``None``: no crash.
        self.doom: int | None = None
        self.starts = 0  # number of its starts
        self.disk = Disk(world.folder / name, random.Random(f"{world.seed}/{name}/disk"))  # of its machine
        # Present error of its clock, seconds. The services' clock never jumps while they run
        # (``commonwatt.runtime.clock``); the cores must tolerate jumps nevertheless.
        self.offset = 0
        self.jumped = False  # whether its clock jumped since the start
        self.world = world
        self.rng: random.Random = world.rng
        self.waiting: list[tuple[str, str, bytes]] = []
        self.links: list[Link] = []
        self._in_doubt: Sequence[W] = ()
        self._working = False
        self._down_s = 1.0

    # Methods of each kind of node.

    @abstractmethod
    def build(self) -> None:
        """Make the core from the store alone."""

    def started(self) -> None:
        """Set timers."""

    @abstractmethod
    def work(self) -> None:
        """Pass waiting messages to the core, and perform the effects."""

    @abstractmethod
    def commit(self, changes: Sequence[W]) -> None:
        """Check and commit changes."""

    @abstractmethod
    def note(self, changes: Sequence[W]) -> None:
        """Note in the ledger what is durable now."""

    @abstractmethod
    def has(self, changes: Sequence[W]) -> bool:
        """Return whether the store has changes that a power cut left in doubt; it has all or none."""

    @abstractmethod
    def transmit(self, message: Publish) -> None:
        """Publish a message on the right link."""

    @abstractmethod
    def open_store(self) -> None:
        """Open the store from its files, or make it."""

    @abstractmethod
    def close_store(self) -> None:
        """Close the store's files."""

    # Life.

    def boot(self) -> None:
        """Start."""
        self.up, self.doom = True, None
        self.starts += 1
        self.jumped = False
        wrong = bool(self.wrong_s) and self.rng.random() < self.world.wrong_clocks
        self.offset = self.rng.choice(self.wrong_s) if wrong else 0
        self.world.tell(self.name, f"start {self.starts}" + (f", its clock WRONG by {self.offset} s" if wrong else ""))
        self.guarded(self._begin)

    def _begin(self) -> None:
        self.build()
        self.started()
        for link in self.links:
            link.reconnect()

    def clock(self) -> int:
        """Return this process's time."""
        return self.world.clock() + self.offset

    def jump(self, offset: int) -> None:
        """Let the clock jump while it runs."""
        self.world.tell(self.name, f"its clock JUMPS by {offset - self.offset} s, is wrong by {offset} s")
        self.offset, self.jumped = offset, True

    def fill(self, for_s: float) -> None:
        """Let the disk be full for a while."""
        if not self.disk.full:
            self.world.tell(self.name, f"its disk is FULL for {for_s:.0f} s")
            self.world.story.count("full disks")
            self.disk.full = True
            self.world.after(for_s, self.empty)

    def empty(self) -> None:
        """Free the disk's space again."""
        if self.disk.full:
            self.world.tell(self.name, "room on its disk again")
            self.disk.full = False

    def strike(self, points: int, down_s: float) -> None:
        """Crash after this number of points."""
        if self.up and self.doom is None:
            self.doom, self._down_s = points, down_s

    def crash(self, down_s: float) -> None:
        """Lose all state outside the store, and what a power cut takes of its files; start again later."""
        self.world.tell(self.name, f"CRASH, back in {down_s:.0f} s")
        self.world.story.count("crashes")
        self.up, self.doom = False, None
        self.waiting.clear()
        for link in self.links:
            link.disconnect()
        self.disk.cut_power()
        self.close_store()
        self.disk.restore_power()
        # A damaged store may need space for its replacement; it is replaced once there is some.
        full, self.disk.full = self.disk.full, False
        self.open_store()
        self.disk.full = full
        in_doubt, self._in_doubt = self._in_doubt, ()
        if in_doubt and self.has(in_doubt):
            self.note(in_doubt)
        self.world.after(down_s, self.boot)

    def lose_files(self) -> None:
        """Begin with an empty disk."""
        self.empty()
        self.close_store()
        self.disk.empty()
        self.open_store()

    def close(self) -> None:
        """Close the store, and forget the disk."""
        self.close_store()
        self.disk.close()

    def guarded(self, action: Callable[[], None]) -> None:
        """Run a step; it may end in a crash."""
        try:
            action()
        except Crash:
            self.crash(self._down_s)

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Run a step later, if this process still runs then."""
        starts = self.starts

        def step() -> None:
            if self.up and self.starts == starts:
                self.guarded(action)

        self.world.after(delay, step)

    def refused(self, error: object) -> None:
        """Tell that the store took no changes."""
        self.world.tell(self.name, f"can't store: {error}")
        self.world.story.count("failed commits")

    # Work.

    def connected(self, link: Link) -> None:
        """Handle a connected link."""

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Queue a message; the worker handles all queued messages in one transaction."""
        if self.up:
            self.put_in(link.name, topic, payload)

    def put_in(self, what: str, topic: str = "", payload: bytes = b"") -> None:
        """Queue a call, handled in one transaction with the queued messages; drop it if the queue is full."""
        if len(self.waiting) >= self.max_waiting:
            self.world.story.count(f"dropped by {self.name}")
            return
        self.waiting.append((what, topic, payload))
        self._wait()

    def _wait(self) -> None:
        if not self._working:
            self._working = True
            slow = self.rng.random() < self.world.slow
            self.world.after(self.rng.uniform(1, 20) if slow else 0.05, self._work)

    def _work(self) -> None:
        self._working = False
        if self.up and self.waiting:
            self.guarded(self.work)
            if self.waiting:
                self._wait()

    def perform(self, wanted: Sequence[Effect[W]]) -> None:
        """Perform effects by the function that all shells share."""
        if wanted:
            finish(effects.perform(wanted, self._commit, self._publish))

    async def _commit(self, changes: list[W]) -> None:
        self._point()
        if self.doom == 0:
            self.disk.cut_power(syncs=1)
        self.save(changes)
        self._point()

    def save(self, changes: Sequence[W]) -> None:
        """Commit changes, and note them; if the power goes off meanwhile, once it is known whether they are there."""
        self.commit(changes)
        if self.disk.cut:
            self._in_doubt = changes
            raise Crash
        self.note(changes)

    def _publish(self, message: Publish) -> None:
        self.transmit(message)
        self._point()

    def _point(self) -> None:
        if self.doom is not None:
            if self.doom == 0:
                raise Crash
            self.doom -= 1


def finish(work: Coroutine[object, None, T]) -> T:
    """Run a coroutine that never really waits; return its result."""
    try:
        work.send(None)
    except StopIteration as end:
        found: T = end.value
        return found
    raise AssertionError("a step waited")
