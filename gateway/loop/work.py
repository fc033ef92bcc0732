"""The work of a controller: events in, one transaction of each store, then messages out, in an endless loop."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import MeterId, MicrogridId
from commonwatt.runtime.clock import Clock
from commonwatt.sqlite import SqliteError, is_full
from commonwatt.town.registry import RegisteredMeter
from gateway.controller import JOBS, Controller
from gateway.events import Committed, Event, FromMeter, NotStored, Tick
from gateway.loop.hosted_store import HostedStore, Step
from gateway.loop.inbox import Inbox
from gateway.loop.machine import THREADS, StoreDisk
from gateway.store.changes import Change
from gateway.store.store import GoneError

log = logging.getLogger(__name__)

HANGS_AFTER_S = 10.0  # real seconds of one use of the stores after which their disk does not answer
BEGIN_AT_ONCE = 4
"""Most controllers of a host whose groups of events begin in one turn of its loop: beats and answers of all the others
are looked at between two turns, also when each controller has work."""

_BEGIN = asyncio.Semaphore(BEGIN_AT_ONCE)

REOPEN_AFTER_S = 1.0  # real seconds between a failure of the store and opening it again


class Work:
    """Passes events to the cores, and performs the effects that they return.

    Args:
        controller: The cores.
        store: The store of the controller's own microgrid.
        clock: The clock, which only has to advance evenly.
    """

    def __init__(
        self,
        controller: Controller,
        store: HostedStore,
        inbox: Inbox,
        clock: Clock,
        disk: StoreDisk,
        publish: Callable[[Publish], object],
    ) -> None:
        self.controller = controller
        self.own = store
        self.stores: dict[MicrogridId, HostedStore] = {controller.home: store}  # those of all hosted microgrids
        self.failures = 0  # events on which a core failed
        self.since: float | None = None  # since when the stores are in use, ``time.monotonic``; ``None``: they are not
        self._lock = asyncio.Lock()
        self._calls: set[asyncio.Task[None]] = set()
        self._inbox = inbox
        self._clock = clock
        self._disk = disk
        self._publish = publish

    @property
    def opened(self) -> dict[MicrogridId, HostedStore]:
        """The stores that this thread may use: another one may open the others again."""
        return {microgrid: store for microgrid, store in self.stores.items() if not store.opening}

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Use the stores while nobody else does: also not a commit, which is on another thread."""
        async with self._lock:
            self.since = time.monotonic()
            try:
                yield
            finally:
                self.since = None

    @property
    def hangs(self) -> bool:
        """Whether a store has been in use for so long that its disk does not answer."""
        return self.since is not None and time.monotonic() - self.since > HANGS_AFTER_S

    async def settled(self) -> None:
        """Wait until no thread opens one of the stores any more, after the end of ``run``."""
        if self._calls:
            await asyncio.wait(self._calls)

    async def host(self, microgrid: MicrogridId, path: Path, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Begin to host another microgrid, with a store of its own.

        Raises:
            StoreError: Its store can't be opened.
        """
        assert microgrid not in self.stores
        store = await THREADS.run(HostedStore.open, path, self._now())
        async with self.alone():
            self.controller.host(microgrid, store.store, meters)
            self.stores[microgrid] = store

    async def run(self, look: Callable[[], None], schedule: Callable[[], None]) -> None:
        """Take events, call the cores, commit and publish; ``look`` comes before each group, ``schedule`` after it."""
        async with asyncio.TaskGroup() as reopening:
            step = Step()
            while True:
                await self._inbox.filled()
                # The effects of a commit join the next group, so that each group is one commit.
                while step or self._inbox.is_due:
                    async with _BEGIN:
                        await asyncio.sleep(0)
                    async with self.alone():
                        look()
                        done, step = step, await self._perform(step, self._inbox.take())
                    for microgrid, error in done.failed.items():
                        reopening.create_task(self.reopen(microgrid, error))
                    schedule()

    async def _perform(self, step: Step, group: list[Event]) -> Step:
        """Perform a step with the effects of a group of events; return the effects that its commits allow."""
        now = self._now()
        self._handle(step, group, now)
        if step.writes:
            group += (joined := self._inbox.join(len(group)))
            self._handle(step, joined, now)
        await step.perform(self.stores, self._publish)
        for core in self.controller.hosted.values():
            for change in core.modes.changes.take_unlogged():
                log.info("%s: %s", core.microgrid, change)
        after = Step()
        if step.failed:
            for microgrid in step.failed:
                self.stores[microgrid].opening = True
            of_meters = [event for event in group if isinstance(event, FromMeter)]
            lost = [event for event in of_meters if self.controller.receivers(event)[0] in step.failed]
            self._handle(after, lost, now)
        touched = dict.fromkeys(microgrid for event in group for microgrid in self.controller.receivers(event))
        self._handle(after, map(Committed, touched), now)
        return after

    def _handle(self, step: Step, events: Iterable[Event], now: int) -> None:
        """Add the effects of events to a step; log and count an exception, so that other events continue."""
        for event in events:
            for microgrid in self.controller.receivers(event):
                handled = event
                if self.stores[microgrid].opening:  # Puts are refused; all else is sent again, or due.
                    if not isinstance(event, FromMeter):
                        continue
                    handled = NotStored(event.topic, event.payload)
                if microgrid in step.failed:
                    continue
                try:
                    step.add(microgrid, self.controller.handle(microgrid, handled, now))
                except SqliteError as error:
                    step.failed[microgrid] = error
                except Exception:
                    self.failures += 1
                    log.exception("the core failed on %.200r", event)

    async def finish(self, events: list[Event]) -> dict[MicrogridId, SqliteError]:
        """Handle the last events and store the line's byte count; return which stores failed."""
        step = Step()
        self._handle(step, events, self._now())
        step.add(self.controller.home, self.controller.line.keep())
        await step.perform(self.stores, self._publish)
        return step.failed

    async def keep(self, changes: list[Change]) -> SqliteError | None:
        """Commit changes to the own microgrid's store beside the cores' steps; return why they are not durable."""
        async with self.alone():
            if self.own.opening:
                return SqliteError("the store is not open")
            try:
                await self.own.commit(changes)
            except SqliteError as error:
                return error
            return None

    async def reopen(self, microgrid: MicrogridId, error: SqliteError) -> None:
        """Open a store again and make a new core from it; nothing of the failed step was acknowledged."""
        store = self.stores[microgrid]
        failure: Exception = error
        self._disk.failed(error)
        while True:
            store.figures.failures += 1
            store.failure = str(failure)
            log.error("store %s failed (%s): nothing was acknowledged; opening it again", store.path, failure)
            await asyncio.sleep(REOPEN_AFTER_S)
            try:
                await self._open_again(store, failure, is_gone=isinstance(error, GoneError))
                async with self.alone():
                    self._opened(microgrid, store, error)
            except (SqliteError, StoreError, OSError) as again:
                failure = again
            else:
                return

    async def _open_again(self, store: HostedStore, failure: Exception, *, is_gone: bool) -> None:
        call = asyncio.create_task(THREADS.run(store.open_again, failure, self._now(), gone=is_gone))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        await asyncio.shield(call)

    def _opened(self, microgrid: MicrogridId, store: HostedStore, error: SqliteError) -> None:
        """Make a microgrid's core anew, from its store that is open again."""
        self.controller.host(microgrid, store.store, self.controller.hosted[microgrid].meters)
        core = self.controller.hosted[microgrid]
        core.reopened(self._now())
        if is_full(error):  # Until the next check: the ballast's space is for commands, not for records.
            core.disk_space(0)
        store.opening = False
        for job in JOBS:  # None came meanwhile.
            self._inbox.queue(Tick(job))

    def look(self) -> None:
        """Read what is shown of each open store and its microgrid."""
        for microgrid, store in self.opened.items():
            try:
                store.look(self.controller.hosted[microgrid], self.controller.view(microgrid, self._now()))
            except SqliteError as error:
                store.figures.failures += 1
                log.error("store %s can't be read (%s)", store.path, error)

    def _now(self) -> int:
        return int(self._clock.now())
