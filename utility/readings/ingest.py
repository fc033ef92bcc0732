"""Takes messages from the connection to the database: a bounded queue, one writing thread, shared transactions.

The queue serves owners in turn, by the work of their messages (P3, P7), and within an owner the gateways that may relay
for it: no backlog delays the others'. Whom a gateway names otherwise counts as its own: naming many gains it nothing.
Dead letters come into it at a bounded rate (``bounds``). A full queue drops the newest message of the owner with most
messages in it (or most bytes, if the bytes are too many), of its gateway with most of them. What is dropped gets no
acknowledgement, and is counted: that gateway sends it again.
When the store fails, is damaged or has no space, nothing is acknowledged, and the service keeps running.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from commonwatt.model.control import PUBLIC_WEIGHT
from commonwatt.model.effects import Effect, Publish, perform
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import EpochSeconds, MicrogridId, quarter_of
from commonwatt.protocol.batches import MAX_BATCH_BLOCKS, MAX_BATCH_BYTES, Mark, batch_counts, batch_owner
from commonwatt.protocol.topics import BATCHES, parse_gateway_up
from commonwatt.runtime.clock import Clock
from commonwatt.runtime.fair_queue import FairQueue
from commonwatt.runtime.watchdog import WorkProgress
from utility.cliques.jobs import GrantsJob
from utility.database.base import OperationalError, SQLAlchemyError
from utility.database.checks import is_away, is_damage, is_full
from utility.database.database import Database
from utility.database.health import DISK_FULL, STORE_DAMAGED, Health
from utility.outbox.changes import Append, CommittedCounts, CoreStep, Refused, SawGateway, SawPlant, UtilityChange
from utility.outbox.store import last_report, open_commands, open_purchases
from utility.readings.bounds import BatchPace, Overload
from utility.readings.core import CommandsOpen, Core, FromGateway, is_confirmed
from utility.readings.metrics import ReadingsMetrics
from utility.readings.store.gateways import last_heartbeats
from utility.readings.store.quarantine import release_confirmed
from utility.readings.store.quarters import newest_of_two
from utility.readings.store.writer import MovedError, Writer
from utility.registry.snapshot import RegistrySnapshot
from utility.registry.store.registry import load_snapshot, registry_revision

# Most messages in the queue: after an outage each gateway of a town sends a window of four batches at once.
MAX_QUEUED = 4000
# Most bytes of all messages in the queue; a broker also forwards messages larger than a batch may be.
MAX_QUEUED_BYTES = 200 * MAX_BATCH_BYTES
MAX_GROUP = 64  # most messages in one transaction
# Work of a transaction, in blocks to append, from which it takes no further message.
MAX_GROUP_WORK = 64 * MAX_BATCH_BLOCKS

WEIGHT = 4.0
"""Length of an owner's turn in quanta of the queue: four full batches, a gateway's window and one of live data.

With turns of one batch, a transaction of few gateways was too small for the writing thread to keep up its rate."""

MESSAGE_WORK, EVENT_WORK, DEAD_LETTER_WORK = 200, 10, 10
"""Work of a message by itself, of an event and of a dead letter, in blocks to append."""

log = logging.getLogger(__name__)

_T = TypeVar("_T")
Message = tuple[str, bytes]  # topic and payload


@dataclass
class _Done:
    """Result of the writing thread: committed changes, and the messages that may be published now."""

    committed: list[tuple[list[UtilityChange], CommittedCounts]] = field(default_factory=list)
    messages: list[Publish] = field(default_factory=list)


class Ingest:
    """Feeds messages to the core and performs its effects. The core and the writer run on one thread of their own.

    Args:
        publish: Sends a message to a gateway.
        gap_age_s: Age from which a missing quarter-hour is a gap.
    """

    def __init__(
        self,
        database: Database,
        *,
        clock: Clock,
        metrics: ReadingsMetrics,
        publish: Callable[[Publish], object],
        gap_age_s: int,
        health: Health,
    ) -> None:
        with database.reads.begin() as connection:
            core = Core(database.store_id, load_snapshot(connection), gap_age_s, newest_of_two(connection))
            heartbeats, plant = last_heartbeats(connection), last_report(connection)
        self.plant = plant  # the time of receipt and the last report of the town's plant; ``None``: there was none
        # The last refusal of each gateway's batches since the start; a gateway sends refused batches again.
        self.refused: dict[str, Refused] = {}
        self.trust = Trust.NONE  # how far gateways may trust the utility's time
        self.writing = WorkProgress()  # the writing thread's current step, for a watchdog
        self.health = health  # the state of the database
        self.takeover: GrantsJob | None = None  # what grants microgrids to controllers; ``None``: nothing does
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._publish = publish
        self._writer = Writer(database)
        self._thread = ThreadPoolExecutor(1, "writer")
        self._overload = Overload()
        # Each message with the time at which it came.
        self._queue: FairQueue[str, tuple[float, Message]] = FairQueue(
            max_items=MAX_QUEUED, max_bytes=MAX_QUEUED_BYTES, weight=self._weight
        )
        self._pace = BatchPace()
        self._lags = False
        self._filled = asyncio.Event()
        self._busy_since: float | None = None
        self._released_to: int | None = 0
        self._core = core
        self.over_quota = core.over_quota
        # Time of each registered gateway's last message, clock seconds; without any message, when this service began to
        # wait for it. Gateways whose meters were all removed are left out.
        self.silent_since: dict[str, float] = {controller: float(time) for controller, (time, _) in heartbeats.items()}
        # The last heartbeat of each gateway.
        self.said = {controller: said for controller, (_, said) in heartbeats.items() if said is not None}
        core.said = dict(self.said)
        self._await_gateways()

    def registered(self) -> int:
        """Return how many gateways are registered."""
        return len(self._core.registry.controllers)

    @property
    def registry(self) -> RegistrySnapshot:
        """The town's present register."""
        return self._core.registry

    def offer(self, topic: str, payload: bytes) -> None:
        """Put a message into the queue, a flood of dead letters at a bounded rate; what is too much is counted."""
        # The topic without its leaf is the sender's: the broker's access rules refuse other publishers.
        sender = topic.rpartition("/")[0]
        wait_s = self._pace.wait_s(sender, batch_counts(payload)[2], time.monotonic())
        if wait_s is None:
            self._metrics.messages.labels("dropped").inc()
        elif wait_s:
            asyncio.get_running_loop().call_later(wait_s, self._put, sender, topic, payload)
        else:
            self._put(sender, topic, payload)

    def _put(self, sender: str, topic: str, payload: bytes) -> None:
        dropped = self._queue.overflowed
        owner = self._owner(sender, topic, payload)
        came = self._clock.now(), (topic, payload)
        self._queue.put(owner, came, work=work_of(payload), size=len(payload), sender=sender)
        self._metrics.messages.labels("dropped").inc(self._queue.overflowed - dropped)
        self._metrics.queue.set(len(self._queue))
        self._busy_since = self._busy_since or self._clock.now()
        self._filled.set()

    @property
    def queue_s(self) -> float:
        """Clock seconds since the queue was last empty; no message has waited longer."""
        since = self._busy_since  # another thread may empty the queue meanwhile
        return 0.0 if since is None else self._clock.now() - since

    def _owner(self, sender: str, topic: str, payload: bytes) -> str:
        """Return in whose turn a message is served: the owner's whom it names, or the sender's own."""
        parsed = parse_gateway_up(topic)
        if parsed is None:
            return sender
        named = batch_owner(payload) if parsed.leaf == BATCHES else ""
        return named if self._core.registry.may_relay(parsed.controller, named) else parsed.controller

    def _weight(self, owner: MicrogridId) -> float:
        return WEIGHT * (PUBLIC_WEIGHT if owner in self._core.registry.public else 1.0)

    async def run(self) -> None:
        """Commit messages as they arrive, until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            while taken := self._queue.take(
                items=MAX_GROUP, work=MAX_GROUP_WORK, size=MAX_QUEUED_BYTES, one_turn_each=True
            ):
                self._metrics.queue.set(len(self._queue))
                self._judge_lag(min(came for came, _ in [*taken, *self._queue.heads()]))
                if accepted := [message for _, message in taken if self._takes_in(message)]:
                    with self._metrics.commit_seconds.time():
                        await self.take_in(accepted)
                else:
                    await asyncio.sleep(0)
            self._busy_since = None

    def _judge_lag(self, oldest: float) -> None:
        """Judge from the time at which the oldest waiting message came whether gateways are to relay less often."""
        now = self._clock.now()
        self._core.slow_s = self._overload.look(max(0.0, now - oldest), now)
        if (lags := self._overload.lags(now)) != self._lags:
            log.warning(
                "messages wait for minutes: gateways are told to relay whole quarter-hours only"
                if lags
                else "messages waited for less than 10 s for half an hour: gateways relay as before"
            )
        self._lags = lags
        self._metrics.lags.set(lags)

    def _takes_in(self, message: Message) -> bool:
        """Return whether a message is handled; any other gets no acknowledgement, and its gateway sends it again."""
        parsed = parse_gateway_up(message[0])
        if self.health.damaged:
            self._metrics.messages.labels(STORE_DAMAGED).inc()
        elif self.health.short and parsed is not None and parsed.leaf == BATCHES:
            # Commands' outcomes and heartbeats need little space.
            self._metrics.messages.labels(DISK_FULL).inc()
        else:
            return True
        return False

    async def poll(self, send_due: Callable[[Database, EpochSeconds], object] = lambda _, __: None) -> None:
        """Send the commands that are due, load a changed registry, and have ``send_due`` add what was planned."""
        if self.takeover is not None:
            self._core.sending.managers = self.takeover.groups.managers()
        effects = await self.in_thread(self._look, int(self._clock.now()))
        self._await_gateways()
        await perform(effects, self._write, self._publish)
        await self._release_confirmed()
        # With an unsynchronized clock a planned change may seem due.
        if self.trust is not Trust.NONE and not self.health.alarms():
            await self.in_thread(send_due, self._database, int(self._clock.now()))

    async def _release_confirmed(self) -> None:
        """Decide on what waited for the clock, some of it at each poll, once the clock is confirmed."""
        now = Now(self._clock.now(), self.trust)
        if not is_confirmed(now):
            self._released_to = 0
        elif self._released_to is not None and not self.health.alarms():
            commit, latest = self._writer.commit, self._core.latest(now)
            decide = partial(release_confirmed, self._database, commit, latest=latest, now=now)
            self._released_to = await self.in_thread(decide, self._released_to)

    async def _write(self, changes: list[UtilityChange]) -> None:
        self._committed(changes, await self.in_thread(self._writer.commit, changes))

    def _await_gateways(self) -> None:
        """Start the silence of newly registered gateways: a gateway that never sends is reported like a silent one.

        A gateway whose meters were all removed is not awaited: it may be switched off for good. After the clock was set
        back a gateway is silent from now on: its last message has a time to come.
        """
        now, registry = self._clock.now(), self._core.registry
        for controller in registry.controllers:
            if registry.is_closed(controller, quarter_of(int(now))):
                self.silent_since.pop(controller, None)
                self.said.pop(controller, None)
            else:
                self.silent_since[controller] = min(now, self.silent_since.get(controller, now))

    async def in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        """Run ``work`` on the writing thread, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._watched, work, *arguments)

    def _watched(self, work: Callable[..., _T], *arguments: object) -> _T:
        with self.writing.step():
            return work(*arguments)

    def close(self) -> None:
        """Wait for the running transaction; no further one begins."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def take_in(self, messages: Sequence[Message]) -> None:
        """Decide on messages and commit the changes, in one call on the writing thread; then publish the answers."""
        steps, outcome = await self.in_thread(self._judge_and_commit, messages)
        await self._finish(messages, steps, outcome)

    def _judge_and_commit(self, messages: Sequence[Message]) -> tuple[list[CoreStep], "_Done | Exception"]:
        steps, outcome = self._try(messages)
        # Judged again: acknowledgements have the mark of their commit, and the database may be another.
        return self._try(messages) if isinstance(outcome, MovedError) else (steps, outcome)

    def _try(self, messages: Sequence[Message]) -> tuple[list[CoreStep], "_Done | Exception"]:
        try:
            if self._writer.prepare():
                self._core.marks = self._writer.marks
                self._take_store_id()
        except SQLAlchemyError as error:
            return [CoreStep("failed") for _ in messages], error
        steps = self._judge(messages)
        return steps, self._commit(steps)

    def _judge(self, messages: Sequence[Message]) -> list[CoreStep]:
        now = Now(self._clock.now(), self.trust)
        steps = []
        for topic, payload in messages:
            try:
                steps.append(self._core.handle(FromGateway(topic, payload), now))
            except Exception as error:
                # An error with one message must not stop the others; without an acknowledgement it is sent again.
                if is_away(error):
                    self.health.failed(error, "the reading for a message", 1)
                else:
                    log.exception("message on %s of %d bytes could not be handled", topic, len(payload))
                steps.append(CoreStep("failed"))
        return steps

    def _commit(self, steps: Sequence[CoreStep]) -> "_Done | Exception":
        """Commit steps in one transaction; return its result, or the error."""
        done = _Done()

        async def commit(changes: list[UtilityChange]) -> None:
            done.committed.append((changes, self._writer.commit(changes)))

        try:
            # `perform` commits, then publishes; it needs an event loop, so this thread runs one for it.
            with asyncio.Runner() as runner:
                runner.run(perform([effect for step in steps for effect in step.effects], commit, done.messages.append))
        except Exception as error:
            return error
        return done

    async def _finish(
        self, messages: Sequence[Message], steps: Sequence[CoreStep], outcome: "_Done | Exception"
    ) -> None:
        """Publish the answers to committed steps; after an error that only one may cause, commit them one by one."""
        if isinstance(outcome, Exception):
            # One step that the database refuses must not delay the others.
            is_general = isinstance(outcome, (OperationalError, MovedError)) or is_away(outcome) or is_damage(outcome)
            if len(steps) > 1 and not is_general:
                for each in messages:
                    await self.take_in([each])
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
            if step.deposed is not None and self.takeover is not None:
                self.takeover.deposed(step.deposed.controller, step.deposed.microgrid, step.deposed.epoch)
            if step.lost is not None:
                await self.in_thread(self._notice, step.lost)
            if step.refused is not None:
                self._metrics.refusals.labels(step.refused.reason).inc()
                self.refused[step.refused.controller] = step.refused

    def _notice(self, lost: Mark) -> None:
        try:
            self._writer.notice(lost)
        except SQLAlchemyError as error:
            self.health.failed(error, "the noting of a database that went back", 1)
        self._take_store_id()

    def _take_store_id(self) -> None:
        self._metrics.went_back.inc(self._core.store_id != self._database.store_id)
        self._core.store_id = self._database.store_id

    def _store_failed(self, error: Exception, messages: int) -> None:
        self._metrics.store_errors.inc()
        self._metrics.messages.labels("store_error").inc(messages)
        what = f"the storing of {messages} messages, which are not acknowledged and are sent again,"
        self.health.failed(error, what, messages)
        if not is_full(error) and not self._database.waits():
            # After an I/O error a connection's cached state of the files may be wrong.
            self._database.disconnect()

    def _committed(self, changes: Sequence[UtilityChange], outcome: CommittedCounts) -> None:
        """Count committed changes, and record the gateways that they came from."""
        self._metrics.committed(outcome)
        self.health.committed()
        for change in changes:
            if isinstance(change, Append):
                self.silent_since[change.sender] = change.received
                self._core.committed(change)
            elif isinstance(change, SawPlant):
                self.plant = change.time, change.report
            elif isinstance(change, SawGateway):
                self.silent_since[change.controller] = change.time
                self.said[change.controller] = change.heartbeat
                if self.takeover is not None:
                    self.takeover.heartbeat(change.controller, change.heartbeat.manages)

    def _look(self, now: int) -> tuple[Effect[UtilityChange], ...]:
        self.health.look(self._database.free_bytes())
        with self._database.reads.begin() as connection:
            if registry_revision(connection) != self._core.registry.revision:
                self._core.registry = load_snapshot(connection)
            waiting = [*open_commands(connection), *open_purchases(connection)]
        self.health.answered()
        return self._core.handle(CommandsOpen(tuple(waiting)), Now(now, self.trust)).effects


def work_of(payload: bytes) -> int:
    """Return the work of a message, in blocks to append, as its header states; nothing is unpacked."""
    blocks, events, dead_letters = batch_counts(payload)
    return MESSAGE_WORK + blocks + EVENT_WORK * events + DEAD_LETTER_WORK * dead_letters
