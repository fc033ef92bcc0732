"""A watchdog thread, which ends a process that makes no progress.

The service manager (systemd, the demonstration) then restarts it; acknowledged data is committed, so
no data is lost. Time is counted in checks, not by a clock, so that a paused process does not count as stuck.
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

log = logging.getLogger(__name__)


EXIT_STUCK = 70  # exit code: a thread or the loop made no progress, see the log; restart the service
LOOK_EVERY_S = 1.0  # real seconds between two checks
STUCK_AFTER_S = 30.0  # time without progress after which a warning is logged and counted
END_AFTER_S = 60.0  # time without progress after which the process is ended

JUMP_S = 2.0
"""Seconds of difference between the machine's clock and the monotonic clock since the last check that count as a
jump. A program that slews the clock stays far below this in a second."""


Mark = Callable[[], object]  # a function that returns a progress value: a new value after each step, None while idle


class LoopProgress:
    """Progress of continuous work, such as a loop."""

    def __init__(self) -> None:
        self._done = 0

    def step(self) -> None:
        """Record a step of progress."""
        self._done += 1

    def mark(self) -> object:
        """Return the number of steps."""
        return self._done


class WorkProgress:
    """Progress of work with idle times, such as a writer thread."""

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
        """Return the number of the running piece of work; ``None`` while idle."""
        return self._mark


@dataclass
class _Watched:
    mark: Mark
    seen: object = None
    looks: int = 0
    fed: bool = True


class Watchdog:
    """Checks the watched work once a second, on a separate thread."""

    def __init__(
        self,
        notifier: Notifier,
        *,
        look_every_s: float | None = None,
        stuck_after_s: float | None = None,
        end_after_s: float | None = None,
    ) -> None:
        self.stuck: Counter[str] = Counter()  # how often each watched name made no progress for long
        self.jumps = 0  # how often the machine's clock jumped
        self.failures = 0  # exceptions in callbacks of the loop that no other code caught; each is logged
        # Called on the loop with the seconds by which the machine's clock jumped.
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
        """Watch a progress function under a name."""
        self._watched[name] = _Watched(mark)
        self.stuck[name] += 0

    def steps(self, name: str) -> LoopProgress:
        """Watch continuous work; return its steps."""
        steps = LoopProgress()
        self.watch(name, steps.mark)
        return steps

    def thread(self, name: str, thread: threading.Thread) -> None:
        """Watch that a thread is alive."""
        self.watch(name, lambda: None if thread.is_alive() else "its thread has ended")

    def ready(self, status: str) -> None:
        """Notify systemd that the service has started, with a short status text."""
        self._notifier.tell("READY=1", f"STATUS={status}")

    def stopping(self) -> None:
        """Notify systemd that the service is stopping on request."""
        self._notifier.tell("STOPPING=1")

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Watch the running loop and all registered work while the block runs."""
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

    async def _beat(self, loop: LoopProgress) -> None:
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
            try:
                with calling_after(self._look_s, os._exit, EXIT_STUCK):
                    log.critical("%s has made no progress for %g s: ending", name, self._waited_s(watched))
                    logging.shutdown()
            finally:  # No call here may wait for the stuck thread.
                os._exit(EXIT_STUCK)

    def _tell(self, level: int, text: str, *arguments: object) -> None:
        """Log with a time limit: a blocked log pipe would stop all other threads too."""
        with calling_after(self._log_within_s, os._exit, EXIT_STUCK):
            log.log(level, text, *arguments)

    def _waited_s(self, watched: _Watched) -> float:
        return round(watched.looks * self._look_s, 3)

    def _pulse(self) -> None:
        """Notify systemd's watchdog, unless watched work made no progress since the last notification."""
        if self._notifier.watchdog_s is not None and all(watched.fed for watched in self._watched.values()):
            self._notifier.tell("WATCHDOG=1")
        for watched in self._watched.values():
            watched.fed = watched.seen is None

    def _look_at_clock(self) -> None:
        before = time.monotonic()
        wall = time.time()
        if time.monotonic() - before > self._look_s / 10:
            return  # the readings were interrupted: compare at the next check
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
def calling_after(patience_s: float, call: Callable[..., object], *arguments: object) -> Iterator[None]:
    """Call a function, on a thread of its own, if the block takes longer."""
    timer = threading.Timer(patience_s, call, arguments)
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
