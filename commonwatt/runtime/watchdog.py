"""A thread that sees whether the rest of the process gets on, and ends the process when it does not.

Its service manager (systemd, the demonstration) then starts it again; what was acknowledged is committed, so
nothing of it is lost. Patience is counted in looks, not by a clock: a paused process is not treated as stuck.
"""

import asyncio
import logging
import os
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from commonwatt.runtime.systemd import Notifier

EXIT_STUCK = 70
"""Exit code: something made no progress, see the log; start it again."""

LOOK_EVERY_S = 1.0
"""Real seconds between two looks."""

STUCK_AFTER_S = 30.0
"""Time without progress after which a warning is logged and counted."""

END_AFTER_S = 60.0
"""So long without progress ends the process."""

JUMP_S = 2.0
"""The machine's clock has jumped when it went so much further, or less far, than the monotonic one since the last
look. A program that steers the clock stays far below that in a second."""

log = logging.getLogger(__name__)

Mark = Callable[[], object]
"""Tells where something stands: another value after each step, ``None`` while there is nothing to do."""


class Steps:
    """Counts the steps of something that always goes on, such as a loop."""

    def __init__(self) -> None:
        self._done = 0

    def step(self) -> None:
        """Note progress."""
        self._done += 1

    def mark(self) -> object:
        """Return where it stands."""
        return self._done


class Work:
    """Something that has nothing to do at times, such as a thread that writes."""

    def __init__(self) -> None:
        self._begun = 0
        self._mark: int | None = None

    @contextmanager
    def step(self) -> Iterator[None]:
        """Do one piece of work, one at a time."""
        self._begun += 1
        self._mark = self._begun
        try:
            yield
        finally:
            self._mark = None

    def mark(self) -> object:
        """Return which piece is being worked on, if any is."""
        return self._mark


@dataclass
class _Watched:
    mark: Mark
    seen: object = None
    looks: int = 0
    fed: bool = True


class Watchdog:
    """Looks at what is watched once a second, on a thread of its own.

    Attributes:
        stuck: How often what made no progress for long.
        jumps: How often the machine's clock jumped.
        failures: Exceptions in callbacks of the loop that no other code caught; each is logged.
        on_jump: Called on the loop with the seconds by which the machine's clock jumped.
    """

    def __init__(
        self,
        notifier: Notifier,
        *,
        look_every_s: float | None = None,
        stuck_after_s: float | None = None,
        end_after_s: float | None = None,
    ) -> None:
        self.stuck: Counter[str] = Counter()
        self.jumps = 0
        self.failures = 0
        self.on_jump: list[Callable[[float], None]] = []
        self._notifier = notifier
        # systemd is notified twice within its time-out.
        look_s = LOOK_EVERY_S if look_every_s is None else look_every_s
        pulse_s = (notifier.watchdog_s or look_s * 2) / 2
        self._look_s = min(look_s, pulse_s)
        self._looks_a_pulse = max(1, int(pulse_s / self._look_s))
        stuck_s = STUCK_AFTER_S if stuck_after_s is None else stuck_after_s
        end_s = END_AFTER_S if end_after_s is None else end_after_s
        self._stuck_looks = int(stuck_s / self._look_s)
        self._end_looks = int(end_s / self._look_s)
        self._log_within_s = end_s - stuck_s
        self._watched: dict[str, _Watched] = {}
        self._drift: float | None = None
        self._over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None

    def watch(self, name: str, mark: Mark) -> None:
        """Watch something as well, under a name of its own."""
        self._watched[name] = _Watched(mark)
        self.stuck[name] += 0

    def steps(self, name: str) -> Steps:
        """Watch something that always goes on."""
        steps = Steps()
        self.watch(name, steps.mark)
        return steps

    def work(self, name: str) -> Work:
        """Watch something that has nothing to do at times."""
        work = Work()
        self.watch(name, work.mark)
        return work

    def thread(self, name: str, thread: threading.Thread) -> None:
        """Watch that a thread has not ended."""
        self.watch(name, lambda: None if thread.is_alive() else "its thread has ended")

    def ready(self, status: str) -> None:
        """Tell systemd that the service has started, and in a few words how it is."""
        self._notifier.tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """Notify systemd that the service is stopping on request."""
        self._notifier.tell("STOPPING=1")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the running loop, and all else, while the block runs."""
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(self._unhandled)
        beat = asyncio.create_task(self._beat(self.steps("loop")))
        thread = threading.Thread(target=self._look_on, name="watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            beat.cancel()
            thread.join()

    async def _beat(self, loop: Steps) -> None:
        while True:
            loop.step()
            await asyncio.sleep(self._look_s / 2)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        self.failures += 1
        loop.default_exception_handler(context)

    def _look_on(self) -> None:
        looks = 0
        while not self._over.wait(self._look_s):
            looks += 1
            for name, watched in list(self._watched.items()):
                self._look(name, watched)
            self._look_at_clock()
            if looks % self._looks_a_pulse == 0:
                self._pulse()

    def _look(self, name: str, watched: _Watched) -> None:
        mark = watched.mark()
        if mark is None or mark != watched.seen:
            if watched.looks >= self._stuck_looks:
                self._tell(logging.WARNING, "%s goes on", name)
            watched.seen, watched.looks, watched.fed = mark, 0, True
            return
        watched.looks += 1
        if watched.looks == self._stuck_looks:
            self.stuck[name] += 1
            waited_s = self._waited_s(watched)
            self._tell(logging.ERROR, "%s has made no progress for %g s; all threads:\n%s", name, waited_s, _stacks())
        if watched.looks == self._end_looks:
            with _ending_after(self._look_s):
                log.critical("%s has made no progress for %g s: ending", name, self._waited_s(watched))
                logging.shutdown()
            # Nothing that would have to wait for what is stuck.
            os._exit(EXIT_STUCK)

    def _tell(self, level: int, text: str, *arguments: object) -> None:
        """Log without waiting for ever: a log that is not read would stop all other threads too."""
        with _ending_after(self._log_within_s):
            log.log(level, text, *arguments)

    def _waited_s(self, watched: _Watched) -> float:
        return round(watched.looks * self._look_s, 3)

    def _pulse(self) -> None:
        """Tell systemd, unless something stands where it stood at the last time."""
        if self._notifier.watchdog_s is not None and all(watched.fed for watched in self._watched.values()):
            self._notifier.tell("WATCHDOG=1")
        for watched in self._watched.values():
            watched.fed = watched.seen is None

    def _look_at_clock(self) -> None:
        before = time.monotonic()
        wall = time.time()
        if time.monotonic() - before > self._look_s / 10:
            return  # it was interrupted in between: the next look will tell
        drift = wall - before
        by_s = 0.0 if self._drift is None else drift - self._drift
        self._drift = drift
        if abs(by_s) > JUMP_S:
            self.jumps += 1
            self._tell(logging.WARNING, "the machine's clock jumped by %+.0f s", by_s)
            assert self._loop is not None
            for listener in self.on_jump:
                self._loop.call_soon_threadsafe(listener, by_s)


@contextmanager
def _ending_after(patience_s: float) -> Iterator[None]:
    """End the process if the block takes longer."""
    timer = threading.Timer(patience_s, os._exit, (EXIT_STUCK,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"{names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()  # noqa: SLF001 - the documented way to see all threads
    )
