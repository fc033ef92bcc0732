"""The core of a meter: takes readings, keeps two logs, delivers them and obeys (M1-M9; design 2, 4).

It takes an event and the time, and returns effects: changes to make durable, then messages to publish. It reads no
clock and draws no chance; ``wake_at`` says when it wants ``tick`` next. What it is built from is what its store holds,
so losing the object is losing exactly the volatile memory.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from commonwatt.device import answers
from commonwatt.device.aggregation import average, consolidate
from commonwatt.device.changes import Change, DesiredStates, MeterState, Stored
from commonwatt.device.delivery import Delivery, Tally
from commonwatt.device.description import Description
from commonwatt.device.desired_states import DONE, Commanded, HeldStates, Verdict, possible
from commonwatt.device.log import Aggregation, MeterLog
from commonwatt.device.timing import TOLERANCE_S, Reported, ReportedTime, next_put, open_group
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, State
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds, MilliwattHours
from commonwatt.protocol import topics
from commonwatt.protocol.commands import Command, Kind, unpack_json
from commonwatt.protocol.messages import Level, Trust, unpack_put_ack

CATCH_UP_RECORDS = 60
"""With this many records waiting, the next batch follows an acknowledgement at once."""

_LEAF = {Log.HISTORY: topics.RECORDS, Log.EVENT: topics.EVENTS}
_ALGORITHM: dict[str, Aggregation | None] = {"none": None, "lossless": consolidate, "lossy": average}

Effects = list[Effect[Change]]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a meter is capable of.

    Attributes:
        resolution: Readings are multiples of this many milliwatt-hours.
        log_records: Records the history log can hold; at nine tenths it is consolidated (M7).
    """

    resolution: MilliwattHours = 100
    log_records: int = 2_000_000


class Meter:
    """One meter.

    Attributes:
        description: Its entry in the registry.
        state: What it must not forget.
        orders: The desired states it holds.
        history: Its history log.
        events: Its event log.
    """

    def __init__(self, description: Description, limits: Limits, stored: Stored, tally: Tally) -> None:
        """Take what the store has; of a meter new to the store, a state of a new generation and nothing else."""
        self.description = description
        self.state = stored.state
        self.desired_states = HeldStates(stored.desired_states.epoch, stored.desired_states.held)
        self.history = MeterLog(
            meter=description.id,
            log=Log.HISTORY,
            generation=self.state.generation,
            next_id=self.state.next_history,
            rows=stored.history,
            frozen_last=self.state.frozen_history,
        )
        self.events = MeterLog(
            meter=description.id,
            log=Log.EVENT,
            generation=self.state.generation,
            next_id=self.state.next_event,
            rows=stored.events,
            frozen_last=self.state.frozen_event,
        )
        self._limits = limits
        self._tally = tally
        self._deliveries = {
            Log.HISTORY: Delivery(self.history, tally),
            Log.EVENT: Delivery(self.events, tally),
        }
        self._written: MeterState | None = None
        self._put_at: float | None = None
        self._reported_time = ReportedTime()
        # When the batch in flight was first sent, if that was since the start.
        self._asked: dict[Log, float] = {}
        self._relieved: int | None = None

    @property
    def wake_at(self) -> float | None:
        """When ``tick`` is due next; ``None``: not by itself."""
        end = self.desired_states.next_end
        ends = None if end is None else end - self.state.offset_s
        times = (self._put_at, ends, *(d.retry_at for d in self._deliveries.values()))
        return min((time for time in times if time is not None), default=None)

    @property
    def bits(self) -> State:
        """What its state is now."""
        return State(0) if self.state.stopped else State.INITIALIZED | self.desired_states.bits

    def commanded(self, at: EpochSeconds) -> Commanded:
        """Return the desired states in force during the slot that starts at ``at``."""
        held = {} if self.state.stopped else self.desired_states.held
        on = {k: h for k, h in held.items() if h.value == "on" and (h.until is None or h.until > at)}
        weight = on[Kind.SHARING].weight if Kind.SHARING in on else None
        return Commanded(
            sharing=Kind.SHARING in on,
            weight=weight or 1,
            reducing=Kind.REDUCING in on,
            isolated=Kind.ISOLATED in on,
        )

    def boot(self, now: float, *, power_lost: bool) -> Effects:
        """Start, after a loss of power with its two events: off when last alive, on now."""
        if self.description.push:
            self._put_at = next_put(self.description.id, now)
        # What it was told was of another run of its clock. What ends, ends by the earlier of the two; and at once if
        # this one is behind what was recorded, so that it is unknown for how long it was off.
        self.desired_states.sooner(max(0, self.state.offset_s))
        self._set(offset_s=0, trust=Trust.NONE)
        self.desired_states.expire(now if now >= self.state.last_slot - TOLERANCE_S else float("inf"))
        off: Effects = []
        if power_lost and self.state.bits:
            off = self._event(State(0), max(self.state.changed_at, self.state.last_slot))
        return [Write(self._desired_states()), *off, *self._note(self.time(now)), *self._save()]

    def time(self, now: float) -> float:
        """Return the time that this meter took from its controller; timers use its own clock."""
        return now + self.state.offset_s

    def set_back(self, slot_end: EpochSeconds) -> Effects:
        """Go on measuring after this slot; what was recorded of later ones was by a clock that was ahead."""
        self._set(last_slot=min(self.state.last_slot, slot_end))
        return self._save()

    def measure(self, slot_end: EpochSeconds, readings: Mapping[RecordType, MilliwattHours]) -> Effects:
        """Record the slot that ends at ``slot_end``, one record a type (M1)."""
        if self.state.stopped or slot_end <= self.state.last_slot:
            return []
        relief = self._relieve(slot_end)
        remainders = dict(self.state.remainders)
        quantised = {kind: self._quantise(kind, readings[kind], remainders) for kind in self.description.record_types}
        measured = {"last_slot": slot_end, "level": quantised.get(RecordType.STORED)}
        if len(self.history.rows) + len(quantised) > self._limits.log_records:
            # An explicit gap: these ids are never given out, and the flow of this slot is in no record.
            self._tally["gap", "log_full"] += 1
            return [*relief, *self._save(**measured, gaps=self.state.gaps + 1)]
        records = [
            HistoryRecord(
                record_type=kind,
                lossy=0,
                record_id=self.history.next_id + n,
                meter_id=self.description.id,
                account=self.description.account,
                start=slot_end - SLOT_S,
                end=slot_end,
                reading=reading,
            ).pack()
            for n, (kind, reading) in enumerate(quantised.items())
        ]
        made = self.history.add(records)
        return [
            *relief,
            Write(made),
            *self._save(**measured, remainders=remainders, made=self.state.made + len(records)),
        ]

    def tick(self, now: float) -> Effects:
        """Do what is due: states that end, the minute's puts, batches to send again."""
        effects = self._expire(now)
        if self._put_at is not None and self._put_at <= now:
            self._put_at = next_put(self.description.id, now)
            for log, delivery in self._deliveries.items():
                # A batch in flight has its own timer, unless the power was lost since.
                if delivery.retry_at is None:
                    effects += self._send(log, now)
        for log, delivery in self._deliveries.items():
            if delivery.retry_at is not None and delivery.retry_at <= now:
                effects += self._send(log, now)
        return effects

    def receive(self, leaf: str, payload: bytes, now: float) -> Effects:
        """Take a message: an acknowledgement or a command."""
        effects = self._expire(now)
        if leaf == topics.ACKS:
            return effects + self._acknowledged(payload, now)
        if leaf == topics.COMMANDS:
            return effects + self._commanded(payload, now)
        self._tally["message", "unknown_topic"] += 1
        return effects

    def _expire(self, now: float) -> Effects:
        """End the states whose end has come."""
        ended = self.desired_states.expire(self.time(now))
        return [] if ended is None else [Write(self._desired_states()), *self._note(ended), *self._save()]

    # Delivery.

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
        effects: Effects = []
        effects += [Write(change) for change in changes]
        effects += self._save()
        if put is not None:
            effects.append(self._publish(_LEAF[log], put.pack()))
        return effects

    def _acknowledged(self, payload: bytes, now: float) -> Effects:
        """Delete what was acknowledged, and go on at once when much is waiting or was asked for."""
        try:
            ack = unpack_put_ack(payload)
        except ProtocolError:
            self._tally["ack", "malformed"] += 1
            return []
        delivery = self._deliveries[ack.log]
        told: Effects = []
        if delivery.is_answered_by(ack):
            told = self._take_time(Reported(ack.time, ack.trust, self._asked.get(ack.log)), now)
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

    def _commanded(self, payload: bytes, now: float) -> Effects:
        try:
            command = unpack_json(Command, payload)
        except ProtocolError as error:
            self._tally["command", "malformed"] += 1
            named = answers.name_of(payload)
            return [self._answer(*named, Verdict("refused", str(error)[:256]), now)] if named else []
        verdict = self.desired_states.judge(command, self.time(now))
        if verdict == DONE:
            verdict = possible(command, self.description, self.state)
        if verdict != DONE:
            return [self._outcome(command, verdict, now)]
        effects = self._obey(command, now)
        if command.cmd == "get" and command.what == "levels":
            self._tally["command", "done"] += 1
            return [*effects, self._level()]
        if command.cmd == "get" and command.what in ("records", "events"):
            return [*effects, *self._collect(command, now)]
        return [*effects, self._outcome(command, DONE, now)]

    def _obey(self, command: Command, now: float) -> Effects:
        """Take on the state a command asks for; its pair is written before anything is said or done."""
        before = (self.desired_states.epoch, dict(self.desired_states.held))
        self.desired_states.accept(command, self.time(now))
        changed = before != (self.desired_states.epoch, self.desired_states.held)
        effects: Effects = [Write(self._desired_states())] if changed else []
        if command.cmd in ("initialize", "stop"):
            self._set(stopped=command.cmd == "stop")
        elif command.cmd == "put":
            assert command.time is not None
            assert command.trust is not None
            effects += self._take_time(Reported(command.time, command.trust, None), now)
        return [*effects, *self._note(self.time(now)), *self._save()]

    def _take_time(self, told: Reported, now: float) -> Effects:
        """Take the controller's time, unless what this meter has is trusted more; end what has ended by it."""
        by_s = self._reported_time.step_s(told, self.state.trust, self.state.offset_s, now)
        if by_s is None:
            return []
        self._set(trust=told.trust)
        if by_s == 0:
            return []
        self._tally["clock", "set"] += 1
        self._set(offset_s=self.state.offset_s + by_s)
        effects: Effects = []
        if by_s < 0 and self.desired_states.sooner(-by_s):
            effects.append(Write(self._desired_states()))
        return effects + self._expire(now)

    def _collect(self, command: Command, now: float) -> Effects:
        """Send what a ``get`` asks for, oldest first, one batch after the other as they are acknowledged.

        Ids before ``from_id`` that are still held come too: they were never acknowledged. A batch in flight is sent
        again, whatever its ids. With nothing held from ``from_id`` to ``to_id``, nothing else is sent.
        """
        log = Log.HISTORY if command.what == "records" else Log.EVENT
        delivery = self._deliveries[log]
        newest = delivery.log.next_id - 1
        last = newest if command.to_id is None else min(command.to_id, newest)
        if delivery.log.batch() is None and (command.from_id or 0) > last:
            return [self._outcome(command, DONE, now, {})]
        delivery.wanted = last if last >= (command.from_id or 0) else 0
        effects = self._send(log, now, command.to_id)
        put = delivery.log.batch()
        counts = put.counts() if put else {}
        partial = put is not None and put.last_id < delivery.wanted
        verdict = Verdict("partial", "more follows") if partial else DONE
        sent = {str(int(kind)): count for kind, count in counts.items()}
        return [*effects, self._outcome(command, verdict, now, sent)]

    # What it writes and says.

    def _quantise(
        self, kind: RecordType, reading: MilliwattHours, remainders: dict[RecordType, MilliwattHours]
    ) -> MilliwattHours:
        """Round down to the resolution; of a flow the rest goes into the next slot, so that no energy is lost."""
        total = reading + (remainders.get(kind, 0) if kind.is_flow else 0)
        rest = total % self._limits.resolution
        if kind.is_flow:
            remainders[kind] = rest
        return total - rest

    def _relieve(self, slot_end: EpochSeconds) -> Effects:
        """Consolidate everything not in flight when storage runs short (M7), at most once a quarter-hour."""
        if len(self.history.rows) < self._limits.log_records * 9 // 10 or self._relieved == slot_end // QUARTER_S:
            return []
        self._relieved = slot_end // QUARTER_S
        self._tally["relief", "consolidated"] += 1
        return [Write(change) for change in self.history.aggregate(consolidate)]

    def _note(self, at: float) -> Effects:
        """Log the change of state, if there is one (M1)."""
        return self._event(self.bits, max(int(at), self.state.changed_at)) if self.bits != self.state.bits else []

    def _event(self, new: State, at: EpochSeconds) -> Effects:
        record = EventRecord(
            previous_state=self.state.bits,
            new_state=new,
            record_id=self.events.next_id,
            meter_id=self.description.id,
            time=at,
        )
        made = self.events.add([record.pack()])
        self._set(bits=int(new), changed_at=at)
        return [Write(made)]

    def _set(self, **changes: object) -> None:
        self.state = replace(self.state, **changes)  # type: ignore[arg-type]

    def _save(self, **changes: object) -> Effects:
        """Write the state with ``changes`` and what the logs know, if it changed since it was last written."""
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

    def _desired_states(self) -> DesiredStates:
        return DesiredStates(self.description.id, self.desired_states.epoch, dict(self.desired_states.held))

    def _publish(self, leaf: str, payload: bytes, qos: int = 1) -> Publish:
        return Publish(topics.meter_up(self.description.microgrid, self.description.id, leaf), payload, qos)

    def _level(self) -> Publish:
        level = self.state.level
        assert level is not None
        return self._publish(
            topics.LEVELS, Level(state=self.state.bits, time=self.state.last_slot, level=level).pack(), qos=0
        )

    def _outcome(self, command: Command, verdict: Verdict, now: float, sent: dict[str, int] | None = None) -> Publish:
        self._tally["command", verdict.result] += 1
        return self._answer(command.id, command.cmd, verdict, now, sent)

    def _answer(self, name: str, cmd: str, verdict: Verdict, now: float, sent: dict[str, int] | None = None) -> Publish:
        outcome = answers.outcome(
            name=name,
            cmd=cmd,
            verdict=verdict,
            now=self.time(now),
            description=self.description,
            state=self.state,
            desired_states=self.desired_states,
            logs=(self.history, self.events),
            sent=sent,
        )
        return self._publish(topics.OUTCOMES, outcome)
