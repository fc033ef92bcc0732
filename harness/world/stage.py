"""What every node of a simulated world has: its clock and queue, its network's faults, its chances and its story."""

import heapq
import random
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NoReturn

from commonwatt.model.effects import Publish
from harness.world.masks import Key
from harness.world.story import Story

MEMORY = Path("/dev/shm")  # a folder in memory, where there is one


@dataclass(frozen=True, kw_only=True)
class Weather:
    """The faults of a world's network."""

    loss: float  # probability that a message is lost
    double: float  # probability that it arrives twice
    repeated: float  # probability that its client sends a QoS 1 message again, up to a minute later
    late: float  # probability that it arrives up to a minute late
    held: float  # probability that it is delayed by up to an hour, and still arrives


CALM = Weather(loss=0, double=0, repeated=0, late=0, held=0)


class Stage(ABC):
    """The world as its nodes see it."""

    start: int  # when it begins, epoch seconds

    def __init__(self, seed: int) -> None:
        self.seed = seed  # its seed
        self.time = float(self.start)  # the present time, epoch seconds
        self.rng = random.Random(f"{seed}/world")
        self.net = random.Random(f"{seed}/net")
        self._folder = TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.folder = Path(self._folder.name)  # of its disks
        self.story = Story()
        self.sent = 0
        self.weather: Weather = CALM  # the network's present faults
        self.slow = 0.0  # probability that a step waits for its disk
        self.wrong_clocks = 0.0  # probability that a gateway or the utility starts with a wrong clock
        self._numbers = count()
        self._queue: list[tuple[float, int, Callable[[], None]]] = []

    def clock(self) -> int:
        """Return the time that cores receive."""
        return int(self.time)

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Schedule work for later."""
        heapq.heappush(self._queue, (self.time + delay, next(self._numbers), action))

    def run_until(self, end: float, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass, or until something holds, which is looked at every 15 s."""
        looked = self.time
        while self._queue and self._queue[0][0] <= end:
            self.time, _, action = heapq.heappop(self._queue)
            self.story.now = self.time - self.start
            action()
            if self.time - looked >= 15:
                looked = self.time
                if stop():
                    return
        self.time = end

    def tell(self, who: str, what: str, message: Publish | None = None) -> None:
        """Record an event, and its message."""
        self.story.tell(who, what, message)

    @abstractmethod
    def fail(self, what: str, key: Key | None = None, slots: int = 0) -> NoReturn:
        """End the world: an invariant is violated for some slots of a block."""
