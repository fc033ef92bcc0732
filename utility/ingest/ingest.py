"""From the connection to the database: a bounded queue, one writing thread, many messages in one transaction.

The queue serves gateways in turn, by the work of what they send (P7): the backlog of one does not delay another's. When
it is full, the newest message of the gateway with most in it (most messages, or most bytes if those are too many) is
dropped without an acknowledgement and counted: that gateway sends it again.
When the store fails, is damaged, or has no room, nothing is acknowledged, and the service lives on.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Self, TypeVar

from sqlalchemy.exc import OperationalError

from commonwatt.model.effects import Effect, Publish, perform
from commonwatt.model.trust import Now, Trust
from commonwatt.model.units import ControllerId
from commonwatt.protocol.batches import MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, batch_counts
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.topics import BATCHES, parse_gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.fair_queue import FairQueue
from commonwatt.runtime.watchdog import Work
from utility.changes import Append, Change, Committed, SawGateway
from utility.core import Core, Refused, Step
from utility.events import CommandsOpen, FromGateway
from utility.health import DISK_FULL, STORE_DAMAGED, Health
from utility.metrics import UtilityMetrics
from utility.store.checks import is_damage, is_full
from utility.store.database import Database
from utility.store.registry import last_heartbeats, load_snapshot, open_commands, registry_revision
from utility.store.writer import Writer

MAX_QUEUED = 4000
"""Messages that wait: each gateway of a town that comes back sends a window of four batches at once."""

MAX_QUEUED_BYTES = 200 * MAX_BATCH_BYTES
"""What those that wait may have together; a broker passes on larger ones than a batch may be."""

MAX_GROUP = 64
"""Messages in one transaction."""

MAX_GROUP_WORK = 64 * MAX_BATCH_BLOCKS
"""No further message goes into a transaction that is so much work, in blocks to append."""

PUBLIC_WEIGHT = 2.0
"""The turn of a public microgrid's gateway is so much longer than another's."""

MESSAGE_WORK, EVENT_WORK, DEAD_LETTER_WORK = 200, 10, 10
"""A message by itself, an event and a dead letter are as much work as so many blocks."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Message = tuple[str, bytes]
"""Topic and payload."""


@dataclass
class _Done:
    """What the writing thread did: the changes it committed, and the messages that may be published now."""

    committed: list[tuple[list[Change], Committed]] = field(default_factory=list)
    messages: list[Publish] = field(default_factory=list)


class Ingest:
    """Feeds the core, does its effects. The core and the writer live on one thread, which is theirs alone.

    Attributes:
        silent_since: When each registered gateway was last heard, clock seconds; of one that never was, when this
            service began to wait for it.
        said: The last heartbeat of each gateway.
        refused: The last refusal of each gateway's batches since the start; what is refused comes again.
        trust: How far gateways may trust the time that they are sent.
        writing: What the writing thread is at, for a watchdog to see.
        health: What is wrong with the database.
    """

    def __init__(
        self,
        database: Database,
        core: Core,
        heartbeats: dict[ControllerId, tuple[int, Heartbeat | None]],
        *,
        clock: Clock,
        metrics: UtilityMetrics,
        publish: Callable[[Publish], object],
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
        self._queue: FairQueue[str, Message] = FairQueue(
            max_items=MAX_QUEUED, max_bytes=MAX_QUEUED_BYTES, weight=self._weight
        )
        self._filled = asyncio.Event()
        self._core = core
        self.silent_since: dict[str, float] = {controller: float(time) for controller, (time, _) in heartbeats.items()}
        self._await_gateways()
        self.said = {controller: said for controller, (_, said) in heartbeats.items() if said is not None}

    @classmethod
    def load(
        cls,
        database: Database,
        *,
        clock: Clock,
        metrics: UtilityMetrics,
        publish: Callable[[Publish], object],
        gap_age_s: int,
        health: Health,
    ) -> Self:
        """Read the registry and the last heartbeats, and make the ingest.

        Args:
            database: Where readings are stored.
            clock: The time.
            metrics: What is counted.
            publish: Sends a message to a gateway.
            gap_age_s: Age from which a missing quarter-hour is a gap.
            health: The state of the database.
        """
        with database.reads.begin() as connection:
            core = Core(database.store_id, load_snapshot(connection), gap_age_s)
            heartbeats = last_heartbeats(connection)
        return cls(database, core, heartbeats, clock=clock, metrics=metrics, publish=publish, health=health)

    def registered(self) -> int:
        """Return how many gateways are registered."""
        return len(self._core.registry.controllers)

    def offer(self, topic: str, payload: bytes) -> None:
        """Take a message, or drop one when too many wait."""
        dropped = self._queue.overflowed
        # The topic without its leaf is the sender's: the broker's access rules refuse other publishers.
        self._queue.put(topic.rpartition("/")[0], (topic, payload), work=work_of(payload), size=len(payload))
        self._metrics.messages.labels("dropped").inc(self._queue.overflowed - dropped)
        self._metrics.queue.set(len(self._queue))
        self._filled.set()

    def _weight(self, sender: ControllerId) -> float:
        parsed = parse_gateway_up(f"{sender}/{BATCHES}")
        return PUBLIC_WEIGHT if parsed is not None and parsed.controller in self._core.registry.public else 1.0

    async def run(self) -> None:
        """Commit what comes, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while messages := self._queue.take(
                items=MAX_GROUP, work=MAX_GROUP_WORK, size=MAX_QUEUED_BYTES, one_turn_each=True
            ):
                self._metrics.queue.set(len(self._queue))
                if accepted := [message for message in messages if self._takes_in(message)]:
                    with self._metrics.commit_seconds.time():
                        await self.take_in(accepted)
                else:
                    await asyncio.sleep(0)

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
        await perform(effects, self._write, self._publish)

    async def _write(self, changes: list[Change]) -> None:
        self._committed(changes, await self.in_thread(self._writer.commit, changes))

    def _await_gateways(self) -> None:
        """Begin to wait for newly registered gateways: one that never speaks must be missed like one that stopped."""
        now = self._clock.now()
        for controller in self._core.registry.controllers:
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

    async def take_in(self, messages: Sequence[Message]) -> None:
        """Judge messages and commit what is to be kept of them, in one visit to the writing thread; then answer."""
        steps, outcome = await self.in_thread(self._judge_and_commit, messages)
        await self._finish(steps, outcome)

    def _judge_and_commit(self, messages: Sequence[Message]) -> tuple[list[Step], "_Done | Exception"]:
        steps = self._judge(messages)
        return steps, self._commit(steps)

    def _judge(self, messages: Sequence[Message]) -> list[Step]:
        now = Now(self._clock.now(), self.trust)
        steps = []
        for topic, payload in messages:
            try:
                steps.append(self._core.handle(FromGateway(topic, payload), now))
            except Exception:
                # A fault of ours with one message must not stop the others'; without acknowledgement it comes again.
                log.exception("message on %s of %d bytes could not be judged", topic, len(payload))
                steps.append(Step("failed"))
        return steps

    def _commit(self, steps: Sequence[Step]) -> "_Done | Exception":
        """Commit steps in one transaction; return what may be published now, or why it failed."""
        done = _Done()

        async def commit(changes: list[Change]) -> None:
            done.committed.append((changes, self._writer.commit(changes)))

        try:
            # The one place that commits, then publishes; on this thread, which has a loop of its own for it.
            with asyncio.Runner() as runner:
                runner.run(perform([effect for step in steps for effect in step.effects], commit, done.messages.append))
        except Exception as error:
            return error
        return done

    async def _finish(self, steps: Sequence[Step], outcome: "_Done | Exception") -> None:
        """Answer what is committed; try again one by one what failed for another reason than the store's."""
        if isinstance(outcome, Exception):
            # Whatever one of them holds that the database won't take, the others are not to wait for it.
            if len(steps) > 1 and not isinstance(outcome, OperationalError) and not is_damage(outcome):
                for step in steps:
                    await self._finish([step], await self.in_thread(self._commit, [step]))
            else:
                self._store_failed(outcome, len(steps))
            return
        for changes, committed in outcome.committed:
            self._committed(changes, committed)
        for message in outcome.messages:
            self._publish(message)
        for step in steps:
            self._metrics.messages.labels(step.result).inc()
            self._metrics.unknown_states.inc(step.unknown_states)
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

    def _committed(self, changes: Sequence[Change], outcome: Committed) -> None:
        """Note what was committed."""
        self._metrics.committed(outcome)
        self.health.committed()
        for change in changes:
            if isinstance(change, Append):
                self.silent_since[change.sender] = change.received
            elif isinstance(change, SawGateway):
                self.silent_since[change.controller] = change.time
                self.said[change.controller] = change.heartbeat

    def _look(self, now: int) -> tuple[Effect[Change], ...]:
        self.health.look(self._database.free_bytes())
        with self._database.reads.begin() as connection:
            if registry_revision(connection) != self._core.registry.revision:
                self._core.registry = load_snapshot(connection)
            waiting = open_commands(connection)
        return self._core.handle(CommandsOpen(tuple(waiting)), Now(now, self.trust)).effects


def work_of(payload: bytes) -> int:
    """Return how much work a message is, in blocks to append, by what its head says; nothing is unpacked."""
    blocks, events, dead_letters = batch_counts(payload)
    return MESSAGE_WORK + blocks + EVENT_WORK * events + DEAD_LETTER_WORK * dead_letters
