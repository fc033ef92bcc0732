"""What a controller has of its machine: threads for the disk, its free space, and the byte count of the line.

Threads for what a disk does: opening stores, and the syncs of their commits.
A call that takes long does not keep its place: other stores' calls go on beside it, though its disk never answers. The
threads are daemons, so that a call that never returns does not keep the process from ending.

Reads the LTE line's byte count, and logs a warning when the allowance is at risk.
The core keeps the byte count by day (``gateway.line.line``).
"""

import asyncio
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

from commonwatt.model.units import ENOUGH_BYTES, ByteCount
from commonwatt.network.lte import ByteTally, interface_byte_count
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.sqlite import SqliteError, is_full
from gateway.core import HostedMicrogrid
from gateway.line.line import INTERFACE, UTILITY, in_words

AT_ONCE = 16  # most calls at a time that do not take long
LONG_S = 1.0  # real seconds after which a call takes long, and another one may run beside it

_P = ParamSpec("_P")
_T = TypeVar("_T")


class StoreThreads:
    """Runs calls, the first ones first; threads are started when needed, and used again."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    async def run(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Return what a call returns, on another thread; a call that has begun ends also if this is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        async with self._places:
            self._begin(partial(self._work, partial(call, *arguments, **options), done, loop))
            await asyncio.wait([done], timeout=LONG_S)
        return await done

    def _begin(self, work: Callable[[], None]) -> None:
        with self._lock:
            has_idle = self._idle > 0
            self._idle -= has_idle
        self._calls.put(work)
        if not has_idle:
            threading.Thread(target=self._serve, name="store", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._calls.get()()

    def _work(self, call: Callable[[], Any], done: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with self._lock:
            self._idle += 1
        with suppress(RuntimeError):  # The loop has closed meanwhile.
            loop.call_soon_threadsafe(_settle, done, result, failure)


def _settle(done: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)


THREADS = StoreThreads()
"""Those of the process."""

DISK_SPACE_TO_OPEN_BYTES = 1024 * 1024  # free bytes below which the ballast is deleted before the store is opened

log = logging.getLogger(__name__)
BALLAST_BYTES = 8 * 1024 * 1024
"""Bytes of ballast beside a store: the most SQLite's log needs while rows are changed or deleted, but not added."""


class StoreDisk:
    """The disk that a controller's stores are on; the ballast lies beside the store of its own microgrid."""

    def __init__(self, store: Path) -> None:
        self.free_bytes = 0  # its free bytes at the last check
        self.size_bytes = 0  # its size in bytes at the last check
        self._ballast = Ballast(store)

    def make_disk_space_to_open(self) -> None:
        """Make the ballast, or delete it if the store needs the space to be opened."""
        if self._ballast.space()[0] < DISK_SPACE_TO_OPEN_BYTES:
            self._ballast.give_up()

    def look(self, cores: Mapping[Path, HostedMicrogrid]) -> None:
        """Report the free disk space to the cores, by their stores' files; log when one begins or ceases to refuse."""
        try:
            self.free_bytes, self.size_bytes = self._ballast.space()
        except OSError as error:
            log.error("the disk's free space can't be read (%s)", error)
            return
        for store, core in cores.items():
            try:
                changed = core.disk_space(self.free_bytes)
            except SqliteError as error:
                log.error("the free pages of store %s can't be read (%s)", store, error)
            else:
                if changed:
                    self._log(store, refuses=core.upkeep.short)

    def _log(self, store: Path, *, refuses: bool) -> None:
        if refuses:
            log.error(
                "low disk space for store %s, %d bytes: records are refused, the oldest acknowledged data is deleted",
                store,
                self.free_bytes,
            )
        else:
            log.warning("enough disk space again for store %s: records are accepted", store)

    def failed(self, error: SqliteError) -> None:
        """Delete the ballast if the store failed because the disk is full, for the writes that are necessary."""
        if is_full(error):
            self._ballast.give_up()


class Ballast:
    """A file beside a store that is deleted when the disk is full."""

    def __init__(self, store: Path) -> None:
        self._path = store.with_name(store.name + ".ballast")

    def space(self) -> tuple[int, int]:
        """Return the free bytes on the disk, and its size in bytes; create the ballast if space allows."""
        size, _, free = shutil.disk_usage(self._path.parent)
        if free >= ENOUGH_BYTES + BALLAST_BYTES and not self._path.exists():
            self._make()
            free -= BALLAST_BYTES
        return free, size

    def _make(self) -> None:
        try:
            with self._path.open("xb") as file:
                os.posix_fallocate(file.fileno(), 0, BALLAST_BYTES)
        except OSError as error:
            log.warning("%s can't be made: %s", self._path, error.strerror)
            self._path.unlink(missing_ok=True)

    def give_up(self) -> None:
        """Delete the ballast, to free space for necessary writes."""
        if self._path.exists():
            log.error("the disk of %s is full: its ballast is given up", self._path)
            self._path.unlink(missing_ok=True)


class LineWatch:
    """Reads the line's byte count, and checks the core's forecast.

    Args:
        interface: The network interface whose counters are the line's; ``None``: the gateway's own connections to
            the utility are counted.
    """

    def __init__(self, interface: str | None) -> None:
        self.tally = ByteTally()  # the byte count of those connections
        self.month: LineMonth | None = None  # the line's month at the last check; ``None``: nothing was counted yet
        self._interface = interface
        self._level = "unknown"

    def look(self) -> tuple[str, str, ByteCount] | None:
        """Return a side of the line, its counter's run and byte count; ``None`` while the interface is absent."""
        if self._interface is None:
            return UTILITY, str(self.tally.run), self.tally.total()
        found = interface_byte_count(self._interface)
        return None if found is None else (INTERFACE, *found)

    def judge(self, month: LineMonth | None) -> None:
        """Log a warning when the line's level changes to at risk or exceeded."""
        level = "unknown" if month is None else month.level
        if level != self._level and level in ("at_risk", "exceeded"):
            log.warning("the LTE line is %s: %s", level.replace("_", " "), "; ".join(in_words(month)))
        self._level, self.month = level, month
