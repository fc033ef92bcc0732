"""Decides on what gateways and the plant send: message and time in, effects out (docs/architecture.md).

The shell commits the writes of a step, then publishes; so only durable data is acknowledged.
The core's state only saves work and bounds junk; it need not survive a restart.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from heapq import nlargest
from typing import Any, TypeAlias

import numpy as np

from commonwatt.codec.packing import pack, unpack
from commonwatt.codec.packing_arrays import Payloads
from commonwatt.model.blocks import concatenate, from_records, make_blocks
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import EVENT_BYTES, KNOWN_STATES, RecordType, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MADE, MAX_EPOCH, QUARTER_S, ControllerId, EpochSeconds, MeterId, MicrogridId, Quarter
from commonwatt.protocol.batches import MAX_MARKS, Batch, BatchAck, BatchFlag, BatchRefusal, Mark, unpack_batch
from commonwatt.protocol.controller_commands import MAX_OUTCOME_BYTES, ControllerOutcome
from commonwatt.protocol.dead_letters import (
    DeadLetter,
    DeadLetterSource,
    LocalReason,
    event_dead_letter,
    message_dead_letter,
)
from commonwatt.protocol.heartbeats import TOLD_AT_TIMES, Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.plant_messages import MAX_QUARTERS, PlantOutcome, PlantQuarter, PlantReport
from commonwatt.protocol.topics import ACKS, BATCHES, OUTCOMES, PLANT, STATUS, gateway_down, parse_gateway_up
from utility.outbox.changes import (
    Append,
    ClosePurchase,
    CoreStep,
    KeepDeadLetter,
    KeepPlantQuarters,
    OpenCommand,
    Refused,
    SawGateway,
    SawPlant,
    UtilityChange,
)
from utility.readings.gaps import settled_before
from utility.readings.quarantine import (
    count_of_others,
    is_assigned,
    quarantined_dead_letters,
    records_of_other_accounts,
    sort_out,
    sort_out_events,
    told_accounts,
)
from utility.readings.sending import Sending
from utility.registry.snapshot import RegistrySnapshot, Rows


@dataclass(frozen=True, slots=True)
class FromGateway:
    """A gateway's message, received over the head-end broker."""

    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class CommandsOpen:
    """The commands that wait for their outcomes."""

    commands: tuple[OpenCommand, ...]


Event: TypeAlias = FromGateway | CommandsOpen

MOST_RUNS = MAX_MARKS - 2  # earlier runs with data that are kept


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run."""

    last: int  # its last commit that the database has; 0: none
    noticed: bool = False  # whether it is known that later ones are lost


@dataclass
class Marks:
    """The run of this service, its commits, and the earlier runs, as the database has them."""

    run: int = 0  # a random number; 0: none was begun yet
    counter: int = 0  # this run's commits of what gateways sent
    earlier: dict[int, EarlierRun] = field(default_factory=dict)  # the earlier runs, the oldest first

    @property
    def next(self) -> Mark:
        """The mark of the next commit."""
        return self.run, self.counter + 1

    @property
    def history(self) -> tuple[Mark, ...]:
        """The last mark of every run that the database has; this run's is that of the next commit."""
        return (*((run, one.last) for run, one in self.earlier.items() if one.last), self.next)

    def lacks(self, mark: Mark) -> bool:
        """Return whether a mark that a gateway saw is of a lost commit that nobody noticed yet."""
        run, counter = mark
        if run == self.run:
            return counter > self.counter
        known = self.earlier.get(run, EarlierRun(0))
        return counter > known.last and not known.noticed


KEPT_QUARTERS = 5 * 366 * 96  # finished quarters that are kept: five years


def is_confirmed(now: Now) -> bool:
    """Return whether the utility's time is confirmed; a clock before the release date is wrong, trusted or not."""
    return now.trust >= Trust.HARDWARE and now >= MADE


def from_plant(leaf: str, payload: bytes, now: Now, latest: EpochSeconds) -> CoreStep:
    """Store the plant's report, or the outcome of a purchase; an unreadable message is counted only.

    Args:
        leaf: The end of the topic.
        latest: Latest possible present time.
    """
    try:
        if leaf == STATUS:
            report = unpack_json(PlantReport, payload)
            return CoreStep(
                "plant", (Write(SawPlant(time=now, report=report)), Write(_keep(report.quarters, now, latest)))
            )
        if leaf != OUTCOMES:
            return CoreStep("malformed")
        outcome = unpack_json(PlantOutcome, payload)
    except ProtocolError:
        return CoreStep("malformed")
    state = "done" if outcome.result in ("done", "repeated") else "refused"
    keep = _keep(outcome.quarters, now, latest)
    # The quarters are stored as rows of their own; the last one of a full message shows that there may be more.
    left = keep.quarters[-1:] if len(outcome.quarters) == MAX_QUARTERS else ()
    told = outcome.model_copy(update={"quarters": left}).pack().decode()
    closing = ClosePurchase(id=outcome.id, state=state, outcome=told)
    return CoreStep("outcome", (Write(closing), Write(keep)))


def _keep(quarters: Iterable[PlantQuarter], now: Now, latest: EpochSeconds) -> KeepPlantQuarters:
    """Keep the quarters that can be over, and delete old ones by the utility's clock: the plant's may be wrong."""
    is_trusted = is_confirmed(now)
    end = (now if is_trusted else latest) // QUARTER_S
    over = tuple(row for row in quarters if row.quarter < end)
    return KeepPlantQuarters(over, oldest=end - KEPT_QUARTERS if is_trusted else 0)


MAX_JUNK_A_DAY = 100  # dead letters stored of one sender's unreadable messages in a day; further ones are only counted
# Dead letters in a day of one sender's rejected blocks and events, and of others' meters; a batch with more waits.
MAX_QUARANTINED_A_DAY = 100_000

MAX_RELAYED_A_DAY, MAX_RELAYED_BYTES_A_DAY = 500_000, 32 * 1024 * 1024
"""Dead letters and events of one sender in a day, and bytes of these and of what is kept apart; with more it waits.

A gateway keeps fewer of its meters (``gateway.collect``). An event against a stored one is a dead letter.
"""

CLOCK_BEHIND_S = 7 * 86_400
"""Seconds that the utility's clock may be behind before good readings are rejected as from the future.

A gateway rejects readings slightly ahead of its clock. Readings in batches were already accepted by gateways, and
deleted by meters: a utility with a wrong clock must not reject all of them.
"""

UNCONFIRMED_S = 8 * 86_400
"""The same while the clock is not confirmed, after the latest of three times: the clock's, the release date, and the
newest data of the second of all senders: no sender alone can move it."""

_Fault: TypeAlias = tuple[BatchRefusal, str, str]
_DAY_S = 86_400
# The first fields of a batch: magic, four bytes, time, store, sequence.
_HEAD = struct.Struct(">4s4xIQQ")


class Core:
    """The utility's decisions about messages."""

    def __init__(
        self,
        store_id: int,
        registry: RegistrySnapshot,
        gap_age_s: int,
        newest: Mapping[ControllerId, Quarter] | None = None,
    ) -> None:
        self.registry = registry  # the registry; the shell replaces it when it changed
        # The newest committed quarter of each sender that has sent; at a start, of the two newest senders.
        self.newest = dict(newest or {})
        self.sending = Sending()  # the open commands
        # Where the database is in its history; the shell replaces it. ``None``: acknowledgements have no marks.
        self.marks: Marks | None = None
        # Each gateway's last heartbeat, for what is not in each.
        self.said: dict[ControllerId, Heartbeat] = {}
        self.slow_s = 0  # seconds for which acknowledgements slow gateways down; 0: they say nothing
        self.store_id = store_id  # the id of the store; the shell replaces it when the database went back
        self._gap_age_s = gap_age_s
        # Senders of which no more dead letters are kept today, each with the reason of its refused batches.
        self.over_quota: dict[ControllerId, str] = {}
        self._junk: Counter[str] = Counter()
        self._quarantined: Counter[str] = Counter()
        self._relayed: Counter[str] = Counter()
        self._relayed_bytes: Counter[str] = Counter()
        self._day = 0

    def handle(self, event: Event, now: Now) -> CoreStep:
        """Decide on one event."""
        match event:
            case FromGateway(topic, payload):
                return self._receive(topic, payload, now)
            case CommandsOpen(commands):
                return CoreStep("commands", tuple(self.sending.due(commands, now)))

    def committed(self, append: Append) -> None:
        """Note the newest quarter of committed data."""
        if len(append.blocks):
            newest = int(append.blocks.quarter.max())
            self.newest[append.sender] = max(newest, self.newest.get(append.sender, 0))

    def latest(self, now: Now) -> EpochSeconds:
        """Return the latest possible present time."""
        if is_confirmed(now):
            return now + CLOCK_BEHIND_S
        second = nlargest(2, self.newest.values())[1:] or [0]
        return min(max(now, MADE, second[0] * QUARTER_S) + UNCONFIRMED_S, MAX_EPOCH)

    def _receive(self, topic: str, payload: bytes, now: Now) -> CoreStep:
        if now // _DAY_S != self._day:
            self._day = now // _DAY_S
            self._junk.clear()
            self._quarantined.clear()
            self._relayed.clear()
            self._relayed_bytes.clear()
            self.over_quota.clear()
        parsed = parse_gateway_up(topic)
        if parsed is not None and parsed.controller == PLANT:
            return from_plant(parsed.leaf, payload, now, self.latest(now))
        if parsed is None or parsed.controller not in self.registry.controllers:
            # Unknown senders are dropped (P8); the head-end admits none, so a registry update is pending.
            if parsed is None or parsed.leaf != BATCHES:
                return CoreStep("unknown_sender")
            answer = self._head_ack(parsed.controller, payload, now, BatchRefusal.NOT_REGISTERED)
            return CoreStep("unknown_sender", answer)
        if parsed.leaf == BATCHES:
            return self._batch(parsed.controller, payload, now)
        source = DeadLetterSource.GATEWAY_OUTCOME if parsed.leaf == OUTCOMES else DeadLetterSource.STATUS
        try:
            if parsed.leaf == OUTCOMES:
                return self._outcome(parsed.controller, payload, now)
            return self._heartbeat(parsed.controller, payload, now)
        except ProtocolError:
            return CoreStep("malformed", self._junk_dead_letter(parsed.controller, source, payload, now))

    def _batch(self, sender: ControllerId, payload: bytes, now: Now) -> CoreStep:
        try:
            batch = unpack_batch(payload)
            rows = self.registry.rows(batch.keys.meter)
            if fault := self._judge(sender, batch, rows):
                return self._send_back(sender, batch, now, fault)
            assert rows is not None
            blocks = unpack(batch.keys, batch.payloads)
        except ProtocolError as error:
            return self._refuse(sender, payload, now, error)
        judged_at, future = self.latest(now), Rejection.FUTURE if is_confirmed(now) else LocalReason.AHEAD
        limits = self.registry.limits(rows, batch.keys)
        assigned = self.registry.assigned(rows, sender, batch.owner)
        found = sort_out(blocks, batch.payloads, limits, assigned, now, judged_at, future)
        meters, is_its = self.registry.meters, partial(is_assigned, sender=sender, owner=batch.owner)
        events, events_apart = sort_out_events(batch.events, meters, is_its, judged_at, future)
        # They are kept as long as the readings of their time: nobody's clock keeps them for ever.
        relayed = [replace(one, time=min(one.time, judged_at)) for one in batch.dead_letters]
        rest, records = records_of_other_accounts(relayed, meters, is_its, judged_at, future)
        until = judged_at if is_confirmed(now) else MAX_EPOCH
        dead_letters, quarantined = quarantined_dead_letters(rest, meters, is_its, until)
        more = from_records(records)
        apart = (*found.dead_letters, *(event_dead_letter(*event, why, now) for event, why in events_apart))
        ahead = tuple((one, make_blocks([], [], [])) for one in apart if one.reason == LocalReason.AHEAD)
        of_others = count_of_others(batch.dead_letters, meters, is_its)
        apart_count = len(apart) + len(found.quarantined) + of_others
        if fault := self._must_wait(sender, batch, apart_count, [*apart, *(one for one, _ in found.quarantined)]):
            _, self.over_quota[sender], _ = fault
            return self._send_back(sender, batch, now, fault)
        append = Append(
            sender=sender,
            owner=batch.owner,
            received=now,
            blocks=concatenate([found.blocks, more]) if records else found.blocks,
            payloads=Payloads.of([*found.payloads, *pack(more)]) if records else found.payloads,
            events=events,
            dead_letters=[*dead_letters, *(one for one in apart if one.reason != LocalReason.AHEAD)],
            quarantined=quarantined + found.quarantined + ahead,
            told=tuple(told_accounts(records, meters)),
            size=len(payload),
        )
        result = "stored" if sender == batch.owner else "stored_for_another"
        kept = (*append.dead_letters, *(dead_letter for dead_letter, _ in append.quarantined))
        if not assigned.all() or any(dead_letter.reason == LocalReason.NOT_ASSIGNED for dead_letter in kept):
            result = "not_assigned"
        unknown = sum(bool((e.previous_state | e.new_state) & ~KNOWN_STATES) for _, e in events)
        ack = self._ack(
            sender,
            now,
            store=batch.store,
            sequence=batch.sequence,
            blocks=len(batch.keys),
            events=len(batch.events),
            dead_letters=len(batch.dead_letters),
            slow_s=self.slow_s,
            marks=self._marks(batch.flags),
        )
        return CoreStep(result, (Write(append), ack), unknown_states=unknown)

    def _send_back(self, sender: ControllerId, batch: Batch, now: Now, fault: _Fault) -> CoreStep:
        """Refuse a whole batch: its gateway keeps it, and /status shows the reason."""
        status, reason, text = fault
        refused = Refused(controller=sender, time=now, status=status, reason=reason, text=text)
        ack = self._ack(sender, now, status=status, store=batch.store, sequence=batch.sequence, slow_s=self.slow_s)
        return CoreStep(status.name.lower(), (ack,), refused)

    def _must_wait(
        self, sender: ControllerId, batch: Batch, apart: int, kept_apart: Iterable[DeadLetter]
    ) -> _Fault | None:
        """Return why a batch must wait at its gateway; ``None``: it is accepted, and its dead letters are counted."""
        new_rows = len(batch.dead_letters) + len(batch.events)
        new_bytes = sum(len(one.content) for one in (*batch.dead_letters, *kept_apart))
        rows = self._relayed[sender] + new_rows
        size = self._relayed_bytes[sender] + new_bytes + EVENT_BYTES * len(batch.events)
        if (new_rows or apart) and (rows > MAX_RELAYED_A_DAY or size > MAX_RELAYED_BYTES_A_DAY):
            text = f"{self._relayed[sender]} dead letters and events from {sender} were kept today; see: dead-letters"
            return BatchRefusal.BUSY, "dead_letters_full", text
        if apart and self._quarantined[sender] + apart > MAX_QUARANTINED_A_DAY:
            text = (
                f"{self._quarantined[sender]} blocks and events from {sender}, with dead letters of others' meters,"
                " were quarantined today; see: dead-letters"
            )
            return BatchRefusal.BUSY, "quarantine_full", text
        self._quarantined[sender] += apart
        self._relayed[sender], self._relayed_bytes[sender] = rows, size
        return None

    def _judge(self, sender: ControllerId, batch: Batch, rows: Rows | None) -> _Fault | None:
        """Return a fault if the registry lacks the owner, a meter, or a record type of one of the owner's meters."""
        # Data of other owners' meters is quarantined later, so that it does not delay the rest of the batch.
        owner = batch.owner
        if owner not in self.registry.controllers:
            return BatchRefusal.NOT_REGISTERED, "unknown_owner", f"microgrid {owner!r} is not registered"
        used: set[tuple[int, int | None]] = {(record.meter_id, None) for _, record in batch.events}
        if rows is None or self._lacks_a_type(sender, batch, rows):
            used |= {(meter, record_type) for meter, record_type, _ in batch.keys}
        # The smallest id is named, so that a batch sent again is refused with the same text.
        for meter, record_type in sorted(used, key=lambda one: (one[0], one[1] or 0)):
            if fault := self._judge_meter(owner, meter, record_type):
                reason, text = fault
                return BatchRefusal.NOT_REGISTERED, reason, text
        # No record can have such a time, and no column could store it.
        if len(beyond := np.flatnonzero(batch.keys.quarter > MAX_EPOCH // QUARTER_S)):
            meter, _, quarter = batch.keys[beyond[0]]
            return BatchRefusal.MALFORMED, "malformed", f"meter {meter}: quarter {quarter} is beyond all time"
        return None

    def _lacks_a_type(self, sender: ControllerId, batch: Batch, rows: Rows) -> bool:
        """Return whether a block to be joined has a type that its meter does not record."""
        unrecorded = ~self.registry.recorded(rows, batch.keys)
        return bool(unrecorded.any() and (unrecorded & self.registry.assigned(rows, sender, batch.owner)).any())

    def _judge_meter(self, owner: MicrogridId, meter: int, record_type: int | None) -> tuple[str, str] | None:
        """Return a reason and a text if a meter is unregistered, or is the owner's and does not record this type."""
        registered = self.registry.meters.get(meter)
        if registered is None:
            return "unknown_meter", f"meter {meter} of {owner} is not registered"
        is_its = registered.microgrid == owner
        if is_its and record_type is not None and record_type not in registered.record_types:
            names = {int(kind): kind.name.lower() for kind in RecordType}
            kind = names.get(record_type, str(record_type))
            return "other_type", f"meter {meter} of {owner} is not registered with records of type {kind}"
        return None

    def _ack(self, sender: ControllerId, now: Now, **found: Any) -> Publish:
        """Return an acknowledgement, with the other fields of ``BatchAck``."""
        ack = BatchAck(trust=now.trust, time=now, utility_store=self.store_id, **found)
        return Publish(gateway_down(sender, ACKS), ack.pack())

    def _marks(self, flags: BatchFlag) -> tuple[Mark, ...]:
        if self.marks is None or not flags & BatchFlag.MARK:
            return ()
        return (self.marks.next, *(self.marks.history if flags & BatchFlag.HISTORY else ()))

    def _refuse(self, sender: ControllerId, payload: bytes, now: Now, error: ProtocolError) -> CoreStep:
        """Store the start of an unreadable batch, and refuse the batch if its header is readable."""
        status = BatchRefusal(error.code)
        name = status.name.lower()
        dead_letter = self._junk_dead_letter(sender, DeadLetterSource.BATCH, payload, now)
        refused = Refused(controller=sender, time=now, status=status, reason=name, text=str(error))
        return CoreStep(name, dead_letter + self._head_ack(sender, payload, now, status), refused)

    def _outcome(self, controller: ControllerId, payload: bytes, now: Now) -> CoreStep:
        outcome = unpack_json(ControllerOutcome, payload, MAX_OUTCOME_BYTES)
        # By the later of two clocks, quarters that are not over yet could be marked as absent.
        settled = settled_before(min(now, outcome.time), self._gap_age_s)
        absent = tuple(
            (meter, record_type, quarter, int(mask, 16))
            for meter, record_type, quarter, mask in outcome.absent or ()
            if quarter < settled and self._may_hold(controller, meter)
        )
        return self.sending.answered(controller, outcome, absent)

    def _heartbeat(self, controller: ControllerId, payload: bytes, now: Now) -> CoreStep:
        """Store a heartbeat, for people, and the sharing minima that its meters reported (T6)."""
        # The received bytes are not stored: their unknown keys are unchecked, and the stored text is shown as JSON.
        heartbeat = unpack_json(Heartbeat, payload)
        if (before := self.said.get(controller)) is not None:
            kept = {key: getattr(before, key) for key in TOLD_AT_TIMES if getattr(heartbeat, key) is None}
            heartbeat = heartbeat.model_copy(update=kept)
        self.said[controller] = heartbeat
        minima = tuple(
            (meter, percent, said or now)  # 0: the gateway's clock was not trusted then
            for meter, (percent, said) in heartbeat.minima.items()
            if self._may_hold(controller, meter)
        )
        seen = SawGateway(controller=controller, time=now, heartbeat=heartbeat, minima=minima)
        mark = heartbeat.mark
        is_lost = self.marks is not None and mark is not None and self.marks.lacks(mark)
        return CoreStep("seen", (Write(seen),), lost=mark if is_lost else None)

    def _may_hold(self, controller: ControllerId, meter_id: MeterId) -> bool:
        """Return whether a meter is assigned to a controller."""
        meter = self.registry.meters.get(meter_id)
        return meter is not None and controller in meter.controllers

    def _head_ack(
        self, sender: ControllerId, payload: bytes, now: Now, status: BatchRefusal
    ) -> tuple[Effect[UtilityChange], ...]:
        if len(payload) < _HEAD.size or not payload.startswith(b"CWB1"):
            return ()
        _, _, store, sequence = _HEAD.unpack_from(payload)
        return (self._ack(sender, now, status=status, store=store, sequence=sequence),)

    def _junk_dead_letter(
        self, sender: ControllerId, source: DeadLetterSource, content: bytes, now: Now
    ) -> tuple[Effect[UtilityChange], ...]:
        self._junk[sender] += 1
        if self._junk[sender] > MAX_JUNK_A_DAY:
            return ()
        reason = LocalReason.BAD_BATCH if source is DeadLetterSource.BATCH else LocalReason.BAD_MESSAGE
        dead_letter = message_dead_letter(0, source, reason, content, now)
        return (Write(KeepDeadLetter(sender=sender, dead_letter=dead_letter)),)
