"""The core of a meter: records readings in two logs, delivers them and executes commands (M1-M9).

The core takes an event and the time, and returns effects: changes to commit, then messages to publish. It reads no
clock and no random source; ``wake_at`` is the time of the next ``tick``. It is built from its stored state alone,
so a new object is a meter after a power cut.
"""

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Unpack

from commonwatt.device import commands
from commonwatt.device.changes import Description, DesiredStates, MeterChange, MeterState, StoredMeter
from commonwatt.device.commands import (
    DONE,
    Commanded,
    Deferred,
    HeldStates,
    OpenQuestions,
    Question,
    Verdict,
    possible,
    puts_of,
)
from commonwatt.device.records import (
    PUT_QOS,
    TOLERANCE_S,
    Aggregation,
    Delivery,
    ReportedTime,
    SlotsReading,
    Tally,
    TimeReport,
    average,
    consolidate,
    event,
    next_put,
    open_group,
    packed,
    quantised,
    stored_log,
    without_far_future,
)
from commonwatt.model.control import PUT_S
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import Log, RecordType, State, sensed
from commonwatt.model.time import Trust
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MeterId, MilliwattHours
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Command, Kind, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import unpack_put_ack
from commonwatt.town.town import Battery


class LowLevel:
    """The lowest mark that a level sent since the battery was last at its minimum was below."""

    def __init__(self) -> None:
        self._mark = 0  # 0: at the minimum or above; 1: below it; each whole percent of the capacity below adds 1
        self._sent_at: EpochSeconds | None = None  # when the meter last sent a level by itself

    def is_due(self, battery: Battery, level: MilliwattHours, at: EpochSeconds) -> bool:
        """Return whether the level passed a further mark, or is back at the minimum; if so, count it as sent."""
        mark = _mark(battery, level)
        # After the clock was set back, the earlier time does not count.
        recent = self._sent_at is not None and 0 <= at - self._sent_at < SLOT_S
        if recent or self._mark >= mark > 0 or mark == self._mark:
            return False
        self._mark, self._sent_at = mark, at
        return True

    def sent(self, battery: Battery, level: MilliwattHours) -> None:
        """Count a level that was sent on request."""
        mark = _mark(battery, level)
        self._mark = mark and max(mark, self._mark)


def _mark(battery: Battery, level: MilliwattHours) -> int:
    deficit = -(-battery.capacity * battery.minimum_percent // 100) - level
    return 1 + deficit * 100 // battery.capacity if deficit > 0 else 0


class Timers:
    """One timer for each meter."""

    def __init__(self) -> None:
        self._at: dict[MeterId, float | None] = {}
        self._heap: list[tuple[float, MeterId]] = []

    def set(self, meter: MeterId, at: float | None) -> None:
        """Replace a meter's timer; ``None``: remove it."""
        if self._at.get(meter) != at:
            self._at[meter] = at
            if at is not None:
                heapq.heappush(self._heap, (at, meter))

    @property
    def next(self) -> float | None:
        """The time of the first timer; ``None``: no timer is set."""
        while self._heap and self._at.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> list[MeterId]:
        """Remove and return the meters whose timers are due."""
        meters = []
        while (at := self.next) is not None and at <= now:
            meter = heapq.heappop(self._heap)[1]
            self._at[meter] = None
            meters.append(meter)
        return meters


CATCH_UP_RECORDS = 60  # backlog, in records, from which the next batch follows an acknowledgement at once

_LEAF = {Log.HISTORY: topics.RECORDS, Log.EVENT: topics.EVENTS}
_ALGORITHM: dict[str, Aggregation | None] = {"none": None, "lossless": consolidate, "lossy": average}

Effects = list[Effect[MeterChange]]


@dataclass(frozen=True, kw_only=True)
class MeterLimits:
    """A meter's resolution and log capacity."""

    resolution: MilliwattHours = 100  # readings are multiples of this many milliwatt-hours
    log_records: int = 2_000_000  # records the history log can hold; at nine tenths it is consolidated (M7)


class MeterCore:
    """One meter."""

    def __init__(self, description: Description, limits: MeterLimits, stored: StoredMeter, tally: Tally) -> None:
        """Build a meter from its stored state; a meter new to the store has a state of a new generation only."""
        self.description = description  # its entry in the registry
        self.state = stored.state  # its durable state
        self.desired_states = HeldStates(stored.desired_states)  # its desired states
        self.history = stored_log(Log.HISTORY, stored)  # its history log
        self.events = stored_log(Log.EVENT, stored)  # its event log
        self._limits = limits
        self._tally = tally
        self._deliveries = {Log.HISTORY: Delivery(self.history, tally), Log.EVENT: Delivery(self.events, tally)}
        self.clique = frozenset({description.microgrid})  # the controllers about which it can be asked
        self.deferred = Deferred()  # its commands that an adapter answers
        self._questions = OpenQuestions()
        self._written: MeterState | None = None
        self._put_at: float | None = None
        self._reported_time = ReportedTime()
        # When the batch in flight was first sent; absent if that was before the start.
        self._asked: dict[Log, float] = {}
        self._relieved: int | None = None
        self._level_at: EpochSeconds | None = None
        self._low_level = LowLevel()
        self._sensed = sensed(self.state.bits)

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        end = self.desired_states.next_end
        ends = None if end is None else end - self.state.offset_s
        times = (self._put_at, ends, self._questions.next, *(d.retry_at for d in self._deliveries.values()))
        return min((time for time in times if time is not None), default=None)

    @property
    def bits(self) -> State:
        """Its present state bits."""
        return State(0) if self.state.stopped else State.INITIALIZED | self.desired_states.bits | self._sensed

    def commanded(self, at: EpochSeconds) -> Commanded:
        """Return the desired states in force during the slot that starts at ``at``; a stopped meter has none."""
        return Commanded() if self.state.stopped else self.desired_states.commanded(at)

    def boot(self, now: float, *, power_lost: bool) -> Effects:
        """Start the meter; after a power loss also log two events: off at the last measured slot, on now."""
        if self.description.push:
            self._put_at = next_put(self.description.id, now)
        self.desired_states.own_clock.pass_time(now)
        # The reported time was relative to another run of this clock. The earlier end counts; states end at once if
        # the clock is behind the last record, since the length of the outage is then unknown.
        self.desired_states.sooner(max(0, self.state.offset_s))
        self._set(offset_s=0, trust=Trust.NONE)
        self.desired_states.expire(now if now >= self.state.last_slot - TOLERANCE_S else float("inf"))
        off: Effects = []
        if power_lost and self.state.bits:
            off = self._event(State(0), max(self.state.changed_at, self.state.last_slot))
        return [Write(self._desired_states()), *off, *self._note(self.time(now)), *self._save()]

    def time(self, now: float) -> float:
        """Return the time set by the controller; timers use the meter's own clock."""
        return now + self.state.offset_s

    def set_back(self, slot_end: EpochSeconds) -> Effects:
        """Continue measuring after this slot; records of later slots came from a clock that was ahead."""
        self._set(last_slot=min(self.state.last_slot, slot_end))
        return self._save()

    def measure(self, slot_end: EpochSeconds, readings: Mapping[RecordType, MilliwattHours]) -> Effects:
        """Record the slot that ends at ``slot_end``, one record a type (M1)."""
        if self.state.stopped or slot_end <= self.state.last_slot:
            return []
        relief = self._relieve(slot_end)
        found, remainders = quantised(self.description, readings, self.state.remainders, self._limits.resolution)
        measured = {"last_slot": slot_end, "level": found.get(RecordType.STORED)}
        if self._is_full(len(found)):
            # An explicit gap: no ids are assigned, and no record contains the energy of this slot.
            self._tally["gap", "log_full"] += 1
            kept = self._save(**measured, gaps=self.state.gaps + 1)
        else:
            slot = [SlotsReading(kind, slot_end - SLOT_S, slot_end, value) for kind, value in found.items()]
            kept = self._add(slot, **measured, remainders=remainders)
        return [*relief, *kept, *self._fallen(slot_end)]

    def record(self, readings: Sequence[SlotsReading]) -> Effects:
        """Record readings that end at different times, ascending for each type: those of a foreign meter (K5)."""
        if self.state.stopped or not readings:
            return []
        relief = self._relieve(readings[-1].end)
        if self._is_full(len(readings)):
            self._tally["gap", "log_full"] += 1
            slots = sum((reading.end - reading.start) // SLOT_S for reading in readings)
            return [*relief, *self._save(gaps=self.state.gaps + slots)]
        last_slot = max(self.state.last_slot, *(reading.end for reading in readings))
        return [*relief, *self._add(readings, last_slot=last_slot)]

    def sense(self, bits: State, now: float) -> Effects:
        """Set the state bits of the boundary that this meter senses; a change is an event, and is sent at once."""
        if bits == self._sensed or self.state.stopped:
            return []
        self._sensed = bits
        return [*self._note(self.time(now)), *self._save(), *self._send(Log.EVENT, now)]

    def report_level(self, at: EpochSeconds, level: MilliwattHours | None) -> Effects:
        """Set the present level of the battery, which ``get`` of levels reports; records may be made of it later.

        ``None``: it is not known any more.
        """
        self._level_at = at
        return [*self._save(level=level), *self._fallen(at)]

    def tick(self, now: float) -> Effects:
        """Do the due work: end states, answer questions, send the minute's puts, send batches again."""
        effects = self._expire(now)
        for question in self._questions.due(now):
            effects.append(self._told(question, now, acknowledged=question.silence))
        if self._put_at is not None and self._put_at <= now:
            self._put_at = next_put(self.description.id, now)
            for log, delivery in self._deliveries.items():
                put_s = self.desired_states.put_s if log is Log.HISTORY else PUT_S
                if delivery.is_due(self.description.id, now, put_s):
                    effects += self._send(log, now)
        return effects + [effect for log in self.overdue(now) for effect in self._send(log, now)]

    def receive(self, leaf: str, payload: bytes, now: float, via: str = "") -> Effects:
        """Handle a message: an acknowledgement or a command, from the broker ``via``; empty: the only one."""
        effects = self._expire(now)
        if leaf == topics.ACKS:
            return effects + self._acknowledged(payload, now, via)
        if leaf == topics.COMMANDS:
            return effects + self._commanded(payload, now, via)
        self._tally["message", "unknown_topic"] += 1
        return effects

    def _expire(self, now: float) -> Effects:
        """Set ended states to their default, and count the time on the meter's own clock."""
        self.desired_states.own_clock.pass_time(now)
        ended = self.desired_states.expire(self.time(now))
        if ended is None:
            return [Write(self._desired_states())] if self.desired_states.is_due else []
        return [Write(self._desired_states()), *self._note(ended), *self._save()]

    # Delivery.

    def overdue(self, now: float) -> list[Log]:
        """Return the logs whose batch in flight has been sent, and was not answered in time."""
        return [log for log, one in self._deliveries.items() if one.retry_at is not None and one.retry_at <= now]

    def send_again(self, now: float) -> Effects:
        """Send the batches in flight to another broker, as if for the first time."""
        effects: Effects = []
        for log, delivery in self._deliveries.items():
            delivery.begin_again()
            effects += self._send(log, now) if delivery.log.frozen else []
        return effects

    def ask_again(self, about: str) -> Effects:
        """Send the puts of the open questions about a controller whose session has just begun."""
        puts = self._questions.about(about)
        return [replace(self._publish(_LEAF[put.log], put.pack()), via=about) for put in puts]

    def _send(self, log: Log, now: float, to_id: int | None = None) -> Effects:
        """Send the batch in flight again, or freeze the next one, durably, and send it."""
        algorithm, before = None, None
        mode = self.desired_states.value(Kind.AGGREGATION)
        if log is Log.HISTORY:
            algorithm = _ALGORITHM[mode]
            before = open_group(self.state.last_slot, self.time(now)) if mode == "lossy" else None
        if self._deliveries[log].log.batch() is None:
            self._asked[log] = now
        put, changes = self._deliveries[log].send(now, to_id, algorithm, before)
        effects: Effects = [*(Write(change) for change in changes), *self._save()]
        if put is not None:
            effects.append(self._publish(_LEAF[log], put.pack(), PUT_QOS))
        return effects

    def _acknowledged(self, payload: bytes, now: float, via: str) -> Effects:
        """Delete the acknowledged batch; send the next at once if the backlog is long or a ``get`` asks for more."""
        try:
            ack = unpack_put_ack(payload)
        except ProtocolError:
            self._tally["ack", "malformed"] += 1
            return []
        delivery = self._deliveries[ack.log]
        answered = self._questions.answered(ack, via)
        told: Effects = [self._told(question, now, acknowledged=True) for question in answered]
        if delivery.is_answered_by(ack):
            told += self._take_time(TimeReport(ack.time, ack.trust, self._asked.get(ack.log)), now)
        readings = delivery.log.readings_in_flight() if ack.log is Log.HISTORY else 0
        deleted = delivery.acknowledged(ack)
        if deleted is None:
            return [*told, *self._save()]
        self._set(acknowledged=self.state.acknowledged + readings)
        effects: Effects = [*told, Write(deleted), *self._save()]
        behind = self.description.push and len(delivery.log.rows) >= CATCH_UP_RECORDS
        if behind or delivery.log.first_id <= delivery.wanted:
            effects += self._send(ack.log, now, None if behind else delivery.wanted)
        return effects

    # Commands.

    def answer(self, command: Command, verdict: Verdict, now: float) -> Effects:
        """Answer a command of which nothing else is to be done."""
        return [self._outcome(command, verdict, now)]

    def tell(self, now: float) -> Effects:
        """Tell of its settings and state, as the outcome of no command."""
        return [self._answer("", "get", DONE, now)]

    def _commanded(self, payload: bytes, now: float, via: str) -> Effects:
        try:
            command = unpack_json(Command, payload)
        except ProtocolError as error:
            self._tally["command", "malformed"] += 1
            unread = commands.unread(payload, str(error))
            return [self._answer(*unread, now)] if unread else []
        if command.cmd == "get" and command.what == "manager":
            return self._question(command, now, via)
        if command.cmd == "revoked":  # ``Sessions`` keeps it, if it can
            return self.answer(command, Verdict("refused", "no key of an authority is installed"), now)
        verdict = self.desired_states.judge(command, self.time(now))
        if verdict == DONE:
            verdict = possible(command, self.description, self.state)
        desired = command.desired()
        if verdict.result == "repeated" and desired and self.deferred.is_open(desired[0]):
            return []
        if verdict != DONE:
            return [self._outcome(command, verdict, now)]
        effects = self._obey(command, now)
        if self.deferred.takes(command):
            return effects
        if command.cmd == "get" and command.what == "levels":
            self._tally["command", "done"] += 1
            assert self.description.battery is not None
            assert self.state.level is not None
            self._low_level.sent(self.description.battery, self.state.level)
            return [*effects, self._level()]
        if command.cmd == "get" and command.what in ("records", "events"):
            return [*effects, *self._collect(command, now)]
        return [*effects, self._outcome(command, DONE, now)]

    def answer_deferred(self, kind: Kind, now: float, why_not: str | None = None) -> Effects:
        """Answer the last command of a kind that was deferred; ``why_not``: the device does not do it, so it ends."""
        effects: Effects = []
        if why_not is not None and self.desired_states.withdraw(kind):
            effects = [Write(self._desired_states()), *self._note(self.time(now)), *self._save()]
        is_in_force = self.deferred.value(kind) in (None, self.desired_states.value(kind))
        done = DONE if is_in_force else Verdict("expired")
        verdict = done if why_not is None else Verdict("refused", why_not)
        self._tally["command", verdict.result] += 1
        return [*effects, self._answer(*self.deferred.close(kind), verdict, now)]

    def _question(self, command: Command, now: float, via: str) -> Effects:
        """Answer a question about a controller, under any epoch: put what the meter has, or its newest event again."""
        if command.about is None:
            return [self._outcome(command, DONE, now)]
        if command.about not in self.clique - {command.issuer} or self._questions.is_full:
            why_not = f"can't ask {command.about} for {command.issuer}"
            return self.answer(command, Verdict("refused", why_not), now)
        effects: Effects = [*self._send(Log.EVENT, now), *self._send(Log.HISTORY, now)]
        puts, again = puts_of(self._deliveries.values())
        if again is not None:
            effects.append(self._publish(topics.EVENTS, again.pack()))
        if not puts:
            return [*effects, self._outcome(command, DONE, now)]
        self._questions.ask(command, puts, now, via)
        to_it: Effects = [replace(e, via=command.about) if isinstance(e, Publish) else e for e in effects]
        return to_it

    def _told(self, question: Question, now: float, *, acknowledged: bool | None) -> Publish:
        return replace(self._outcome(question.command, DONE, now, acknowledged=acknowledged), via=question.via)

    def _obey(self, command: Command, now: float) -> Effects:
        """Set the state of a command; its pair is committed before any answer or action."""
        before = (self.desired_states.epoch, dict(self.desired_states.held))
        self.desired_states.accept(command, self.time(now))
        changed = before != (self.desired_states.epoch, self.desired_states.held)
        effects: Effects = [Write(self._desired_states())] if changed else []
        if command.cmd in ("initialize", "stop"):
            self._set(stopped=command.cmd == "stop")
        elif command.cmd == "put":
            assert command.time is not None
            assert command.trust is not None
            effects += self._take_time(TimeReport(command.time, command.trust, None), now)
        return [*effects, *self._note(self.time(now)), *self._save()]

    def _take_time(self, told: TimeReport, now: float) -> Effects:
        """Set the clock to the controller's time unless the present time has higher trust; end states due by it."""
        by_s = self._reported_time.step_s(told, self.state.trust, self.state.offset_s, now)
        if by_s is None:
            return []
        self._set(trust=told.trust, offset_s=self.state.offset_s + by_s)
        self.state = without_far_future(self.state, int(self.time(now)))
        if by_s == 0:
            return []
        self._tally["clock", "set"] += 1
        effects: Effects = []
        if by_s < 0 and self.desired_states.sooner(-by_s):
            effects.append(Write(self._desired_states()))
        return effects + self._expire(now)

    def _collect(self, command: Command, now: float) -> Effects:
        """Send the records that a ``get`` asks for, oldest first, the next batch after each acknowledgement."""
        # Unacknowledged ids before ``from_id`` are sent too. A batch in flight is sent again, whatever its ids. If the
        # log has no ids from ``from_id`` to ``to_id``, nothing else is sent.
        log = Log.HISTORY if command.what == "records" else Log.EVENT
        delivery = self._deliveries[log]
        newest = delivery.log.next_id - 1
        last = newest if command.to_id is None else min(command.to_id, newest)
        effects: Effects = []
        if delivery.log.batch() is not None or (command.from_id or 0) <= last:
            delivery.wanted = last if last >= (command.from_id or 0) else 0
            effects = self._send(log, now, command.to_id)
        verdict, sent = commands.collected(delivery)
        outcome = self._outcome(command, verdict, now, sent=sent)
        return effects if command.quiet else [*effects, outcome]  # The put may be answer enough.

    # Records, state and messages.

    def _is_full(self, new: int) -> bool:
        return len(self.history.rows) + new > self._limits.log_records

    def _add(self, readings: Sequence[SlotsReading], **changes: object) -> Effects:
        """Append records; ``made`` counts one for each slot and type."""
        made = self.history.add(packed(self.description, self.history.next_id, readings))
        slots = sum((reading.end - reading.start) // SLOT_S for reading in readings)
        return [Write(made), *self._save(**changes, made=self.state.made + slots)]

    def _relieve(self, slot_end: EpochSeconds) -> Effects:
        """Consolidate all records not in flight when the log is nearly full (M7), at most once a quarter-hour."""
        if len(self.history.rows) < self._limits.log_records * 9 // 10 or self._relieved == slot_end // QUARTER_S:
            return []
        self._relieved = slot_end // QUARTER_S
        self._tally["relief", "consolidated"] += 1
        return [Write(change) for change in self.history.aggregate(consolidate)]

    def _note(self, at: float) -> Effects:
        """Log the change of state, if there is one (M1)."""
        return self._event(self.bits, max(int(at), self.state.changed_at)) if self.bits != self.state.bits else []

    def _event(self, new: State, at: EpochSeconds) -> Effects:
        made = self.events.add([event(self.state, new, self.events.next_id, at)])
        self._set(bits=int(new), changed_at=at)
        return [Write(made)]

    def _set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def _save(self, **changes: object) -> Effects:
        """Write the state with ``changes`` and the logs' ids, if it differs from the last written state."""
        changes["next_history"] = self.history.next_id
        changes["next_event"] = self.events.next_id
        changes["frozen_history"] = self.history.frozen_last
        changes["frozen_event"] = self.events.frozen_last
        if self.state is self._written and all(getattr(self.state, name) == new for name, new in changes.items()):
            return []
        self._set(**changes)
        if self.state == self._written:
            return []
        self._written = self.state
        return [Write(self.state)]

    def _fallen(self, at: EpochSeconds) -> Effects:
        """Send the battery's level by itself when it has fallen further below its minimum, or is back at it."""
        battery, level = self.description.battery, self.state.level
        if battery is None or level is None or self.state.stopped:
            return []
        return [self._level()] if self._low_level.is_due(battery, level, at) else []

    def _level(self) -> Publish:
        return self._publish(topics.LEVELS, commands.level(self.state, self._level_at), qos=0)

    def _desired_states(self) -> DesiredStates:
        return self.desired_states.kept(self.description.id)

    def _publish(self, leaf: str, payload: bytes, qos: int = 1) -> Publish:
        return Publish(topics.meter_up(self.description.microgrid, self.description.id, leaf), payload, qos)

    def _outcome(self, command: Command, verdict: Verdict, now: float, **found: Unpack[commands.Found]) -> Publish:
        self._tally["command", verdict.result] += 1
        return self._answer(command.id, command.cmd, verdict, now, **found)

    def _answer(self, name: str, cmd: str, verdict: Verdict, now: float, **found: Unpack[commands.Found]) -> Publish:
        """Return the outcome of the command with id ``name``, with the meter's present state."""
        battery = self.description.battery
        outcome = Outcome(
            id=name,
            cmd=cmd,
            result=verdict.result,
            reason=verdict.reason,
            time=int(self.time(now)),
            bits=self.state.bits,
            held=self.desired_states.held,
            epoch=self.desired_states.epoch,
            push=self.description.push,
            minimum_percent=battery.minimum_percent if battery else None,
            capacity_mwh=battery.capacity if battery else None,
            device=self.deferred.device,
            put_s=self.desired_states.put_s if Kind.PUT_PERIOD in self.description.commandable else None,
            history=commands.ids_of(self.history),
            events=commands.ids_of(self.events),
            **found,
        )
        return self._publish(topics.OUTCOMES, outcome.pack())
