"""From the connection to the database: a bounded queue, one writing thread, many messages in one transaction.

A message that finds the queue full is dropped without an acknowledgement and counted: its gateway sends it again.
When the store fails, is damaged, or has no room, nothing is acknowledged, and the service lives on.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy.exc import OperationalError

from commonwatt.model.effects import Effect, Publish, perform
from commonwatt.protocol.batches import MAX_BATCH_BYTES
from commonwatt.protocol.commands import Heartbeat, unpack_json
from commonwatt.protocol.messages import Trust
from commonwatt.protocol.topics import BATCHES, parse_gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.watchdog import Work
from utility.core import Core, Refused, Step
from utility.health import DISK_FULL, STORE_DAMAGED, Health
from utility.metrics import UtilityMetrics
from utility.store.changes import Append, Change, SawGateway
from utility.store.checks import is_damage, is_full
from utility.store.database import Database
from utility.store.registry import last_heartbeats, load_known, open_commands, registry_revision
from utility.store.writer import Writer

MAX_QUEUED = 4000
"""Messages that wait: each gateway of a town that comes back sends a window of four batches at once."""

MAX_QUEUED_BYTES = 200 * MAX_BATCH_BYTES
"""What those that wait may have together; a broker passes on larger ones than a batch may be."""

MAX_GROUP = 64
"""Messages in one transaction."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Message = tuple[str, bytes]
"""Topic and payload."""


class Ingest:
    """Feeds the core, does its effects. The core and the writer live on one thread, which is theirs alone.

    Attributes:
        silent_since: When each registered gateway was last heard, clock seconds; of one that never was, when this
            service began to wait for it.
        said: The last heartbeat of each gateway.
        refused: The last refusal of each gateway's batches since the start; what is refused comes again.
        trust: How far gateways may trust the time they are told.
        writing: What the writing thread is at, for a watchdog to see.
        health: What is wrong with the database.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        metrics: UtilityMetrics,
        publish: Callable[[Publish], object],
        gap_age_s: int,
        health: Health,
    ) -> None:
        self.refused: dict[str, Refused] = {}
        self.trust = Trust.NONE
        self.writing = Work()
        self.health = health
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._publish = publish
        self._writer = Writer(database)
        self._thread = ThreadPoolExecutor(1, "writer")
        self._queue: asyncio.Queue[Message] = asyncio.Queue(MAX_QUEUED)
        self._queued_bytes = 0
        with database.reads.begin() as connection:
            self._core = Core(database.store_id, load_known(connection), gap_age_s)
            heartbeats = last_heartbeats(connection)
        self.silent_since: dict[str, float] = {controller: float(time) for controller, (time, _) in heartbeats.items()}
        self._await_gateways()
        self.said = {controller: said for controller, (_, said) in heartbeats.items() if said is not None}

    def registered(self) -> int:
        """Return how many gateways are registered."""
        return len(self._core.known.controllers)

    def offer(self, topic: str, payload: bytes) -> None:
        """Take a message, or drop it when too many wait."""
        if self._queue.full() or self._queued_bytes + len(payload) > MAX_QUEUED_BYTES:
            self._metrics.messages.labels("dropped").inc()
        else:
            self._queue.put_nowait((topic, payload))
            self._queued_bytes += len(payload)
        self._metrics.queue.set(self._queue.qsize())

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            messages = [await self._queue.get()]
            while len(messages) < MAX_GROUP and not self._queue.empty():
                messages.append(self._queue.get_nowait())
            self._queued_bytes -= sum(len(payload) for _, payload in messages)
            self._metrics.queue.set(self._queue.qsize())
            if accepted := [message for message in messages if self._takes_in(message)]:
                with self._metrics.commit_seconds.time():
                    steps = await self.in_thread(self._decide, accepted)
                    await self._do(steps)

    def _takes_in(self, message: Message) -> bool:
        """Tell whether a message is looked at; one that is not is not acknowledged, and comes again."""
        parsed = parse_gateway_up(message[0])
        if self.health.damaged:
            self._metrics.messages.labels(STORE_DAMAGED).inc()
        elif self.health.short and parsed is not None and parsed.leaf == BATCHES:
            # What people command, and what gateways answer, needs little.
            self._metrics.messages.labels(DISK_FULL).inc()
        else:
            return True
        return False

    async def poll(self) -> None:
        """Send the commands that are due, and take over a changed registry."""
        effects = await self.in_thread(self._look, int(self._clock.now()))
        self._await_gateways()
        await perform(effects, self._commit, self._publish)

    def _await_gateways(self) -> None:
        """Begin to wait for whoever is newly registered: who is never heard must be missed as one that stopped."""
        now = self._clock.now()
        for controller in self._core.known.controllers:
            self.silent_since.setdefault(controller, now)

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Do ``work`` on the writing thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, work, *arguments)

    def _watched(self, work: Callable[..., _T], *arguments: object) -> _T:
        with self.writing.step():
            return work(*arguments)

    def close(self) -> None:
        """Let the transaction on its way end, and no other begin."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _decide(self, messages: Sequence[Message]) -> list[Step]:
        now = int(self._clock.now())
        self._core.trust = self.trust
        steps = []
        for topic, payload in messages:
            try:
                steps.append(self._core.receive(topic, payload, now))
            except Exception:
                # A fault of ours with one message must not stop the others'; without acknowledgement it comes again.
                log.exception("message on %s of %d bytes could not be judged", topic, len(payload))
                steps.append(Step("failed"))
        return steps

    async def _do(self, steps: Sequence[Step]) -> None:
        """Commit the steps in one transaction, or failing that, for another reason than the store's, one by one."""
        try:
            await perform([effect for step in steps for effect in step.effects], self._commit, self._publish)
        except Exception as error:
            # Whatever one of them holds that the database won't take, the others are not to wait for it.
            if len(steps) > 1 and not isinstance(error, OperationalError) and not is_damage(error):
                for step in steps:
                    await self._do([step])
            else:
                self._store_failed(error, len(steps))
        else:
            for step in steps:
                self._metrics.messages.labels(step.result).inc()
                if step.refused is not None:
                    self._metrics.refusals.labels(step.refused.reason).inc()
                    self.refused[step.refused.controller] = step.refused

    def _store_failed(self, error: Exception, messages: int) -> None:
        log.error("store failed, %d messages are not acknowledged and will come again: %s", messages, error)
        self._metrics.store_errors.inc()
        self._metrics.messages.labels("store_error").inc(messages)
        self.health.failed(error)
        if not is_full(error):
            # After an I/O error what a connection believes of the files may be wrong.
            self._database.disconnect()

    async def _commit(self, changes: list[Change]) -> None:
        self._metrics.committed(await self.in_thread(self._writer.commit, changes))
        self.health.committed()
        for change in changes:
            if isinstance(change, Append):
                self.silent_since[change.sender] = change.received
            elif isinstance(change, SawGateway):
                self.silent_since[change.controller] = change.time
                self.said[change.controller] = unpack_json(Heartbeat, change.heartbeat.encode())

    def _look(self, now: int) -> list[Effect[Change]]:
        self.health.look(self._database.free_bytes())
        with self._database.reads.begin() as connection:
            if registry_revision(connection) != self._core.known.revision:
                self._core.known = load_known(connection)
            waiting = open_commands(connection)
        return self._core.tick(waiting, now)
