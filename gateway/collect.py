"""Accepts puts of meters: stores parts, events and dead letters, then acknowledges (C1, M6).

Rate limit for each meter's puts, in slots a minute. Pure.
A correct meter makes at most one slot a record type in 15 s: 12 a minute with three types. The burst covers the
backlog of eight weeks of such a meter at once, and the rate almost one more week each minute.

The meters that leave a deposed controller: it answers none of their puts for a while, so that each tries another.
Otherwise, where the others do not hear a living controller, its meters would stay, and the manager would never reach
those that have no silent session with it. A meter that stays since it reaches no other is served again.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from commonwatt.model.control import PUT_S
from commonwatt.model.effects import Effect, Publish, Write
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, Rejection
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S, AccountNumber, EpochSeconds, MeterId, MicrogridId, MilliwattHours
from commonwatt.model.validation import Expected, is_early, judge_event, judge_history, limits_of
from commonwatt.protocol.commands import LogIds
from commonwatt.protocol.dead_letters import MESSAGE_REASON, DeadLetter, DeadLetterSource, message_dead_letter
from commonwatt.protocol.heartbeats import MeanPower
from commonwatt.protocol.meter_messages import Put, PutAck, Refusal, unpack_put
from commonwatt.protocol.topics import ACKS, meter_down
from commonwatt.runtime.fair_queue import Bucket
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Direction, Function
from gateway.store.changes import AddDeadLetters, AppendEvents, AppendRecords, Change, Cover, Stored

# Slots that a meter's puts may cover in a minute; records, where there are more records than slots.
SLOTS_A_MINUTE = 120_000
BURST_SLOTS = 1_000_000  # slots that a meter's puts may cover at once after a pause


class SlotAllowance:
    """The allowances of a microgrid's meters; a restart resets them."""

    def __init__(self) -> None:
        self._buckets: dict[MeterId, Bucket] = {}

    def take(self, meter: MeterId, slots: int, now: EpochSeconds) -> bool:
        """Take a put's slots from its meter's allowance; ``False``: it is overdrawn, and nothing is taken."""
        bucket = self._buckets.setdefault(meter, Bucket(SLOTS_A_MINUTE / 60, BURST_SLOTS, BURST_SLOTS, now))
        if bucket.take(0, now) > 0:
            return False
        bucket.take(slots, now)
        return True


UNANSWERED_S = 120  # seconds from a meter's first put without an answer; it leaves after two misses, 45 s
LEAVING_S = 3_600  # seconds after it was deposed in which meters leave; one that comes later reaches no other


class Departures:
    """The meters of one microgrid that are to leave."""

    def __init__(self) -> None:
        self._since: dict[MeterId, EpochSeconds] = {}
        self._deposed: EpochSeconds | None = None

    def look(self, now: EpochSeconds, *, deposed: bool) -> None:
        """Note whether the controller was deposed in the microgrid, now and then."""
        if not deposed:
            self._deposed = None
            self._since.clear()
        elif self._deposed is None:
            self._deposed = now

    def awaits(self, meter: MeterId, now: EpochSeconds) -> bool:
        """Return whether a put of a meter gets no answer."""
        # After a step of the clock, back or ahead, meters are served.
        if self._deposed is None or not 0 <= now - self._deposed <= LEAVING_S:
            return False
        return 0 <= now - self._since.setdefault(meter, now) < UNANSWERED_S


KEPT = 4  # whole minutes that are kept, besides those of one period of puts
# The part of the best kept minute's readings that a minute must have: meters that are asked for them come later.
PART_OF_BEST = 0.95

_WATTS = 3600 / 60 / 1000  # of a milliwatt-hour in a minute
_HOMES = {Function.HOUSE, Function.FOREIGN, Function.ADAPTED}

_Slot = tuple[MeterId, int, EpochSeconds]  # meter, record type, end


class LastMinute:
    """The readings of the last minutes; a reading that comes again replaces itself."""

    def __init__(self) -> None:
        self.put_s = PUT_S  # seconds between the meters' puts
        self._minutes: dict[int, dict[_Slot, MilliwattHours]] = {}

    def take(self, records: Iterable[HistoryRecord], now: EpochSeconds) -> None:
        """Take the readings of accepted records that are neither old nor ahead."""
        present = now // 60
        oldest = present - KEPT - self.put_s // 60
        self._minutes = {m: slots for m, slots in self._minutes.items() if oldest <= m <= present}
        for record in records:
            first = max(record.start, oldest * 60)
            for end in range(first + SLOT_S, min(record.end, now) + 1, SLOT_S):
                slots = self._minutes.setdefault((end - 1) // 60, {})
                slots[record.meter_id, record.record_type, end] = record.reading

    def power(self, meters: Collection[RegisteredMeter], now: EpochSeconds) -> MeanPower | None:
        """Return the power of the newest minute with readings of nearly all meters; ``None``: there is none.

        Energy from and to the town is what the boundary's meters counted, without them the sum over the places. Only a
        battery whose level is known at both ends of the minute counts in the use.
        """
        whole = {minute: slots for minute, slots in self._minutes.items() if (minute + 1) * 60 <= now}
        least = PART_OF_BEST * max(map(len, whole.values()), default=0)
        minute = max((m for m in whole if min(len(whole[m]), len(whole.get(m - 1, ()))) >= least), default=None)
        if minute is None:
            return None
        known = {meter.id: meter for meter in meters}
        functions = {meter.function for meter in meters}
        has_boundary = Function.BOUNDARY in functions
        are_neighbours = functions == {Function.BOUNDARY, Function.HOUSE}  # a building's battery is everybody's
        end, before = (minute + 1) * 60, whole[minute - 1]
        sun = charged = taken = given = between = 0
        for (meter, record_type, slot_end), reading in whole[minute].items():
            if meter not in known:
                continue
            if record_type == RecordType.GENERATION:
                sun += reading
            elif record_type == RecordType.STORED and slot_end == end:
                charged += reading - before.get((meter, record_type, minute * 60), reading)
            elif record_type == RecordType.THROUGH:
                incoming = known[meter].direction is Direction.INCOMING
                if (known[meter].function is Function.BOUNDARY) == has_boundary:
                    taken, given = taken + incoming * reading, given + (not incoming) * reading
                # What homes took beyond what came through the boundary came from homes.
                between += (
                    incoming * are_neighbours * (reading if known[meter].function is Function.HOUSE else -reading)
                )
        if not has_boundary:
            # Homes alone: what some gave while others took went to neighbours, through whichever grid.
            between = min(taken, given) if functions <= _HOMES else 0
            taken, given = max(taken - given, 0), max(given - taken, 0)
        return MeanPower(
            end=end,
            sun_w=round(sun * _WATTS),
            use_w=max(0, round((taken - given + sun - charged) * _WATTS)),
            import_w=round(taken * _WATTS),
            export_w=round(given * _WATTS),
            between_w=max(0, round(between * _WATTS)),
        )


ACK_QOS = 0  # without an acknowledgement a meter sends its batch again after 15 s
FIRST_ID = 1  # id of a log's first record
# Messages that can't be accepted, kept of one sender in one day; further ones are only counted.
DEAD_LETTERS_A_DAY = 100

REJECTED_A_DAY = 100_000
"""Rejected records kept of one meter in one day, about 20 MB; further ones are dropped and counted.

Implausible readings are never dropped, as a person may release them: their put stays at its meter until the next day.
A wrongly registered meter makes up to 17,280 a day, and may send those of several days after an outage.
"""

# The same of all meters together: less than the utility takes of one gateway in a day (``utility.readings.core``).
ALL_REJECTED_A_DAY = 200_000
# Accounts that are not a meter's own and that are reported to the utility in one day, for each meter.
ACCOUNTS_A_DAY = 10

_ACCOUNT = Rejection.WRONG_ACCOUNT


@dataclass
class CollectorCounts:
    """Counts since the start, for the metrics."""

    records: Counter[str] = field(default_factory=Counter)
    puts: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    dead_letters_dropped: int = 0
    rejected_dropped: int = 0
    puts_over_allowance: int = 0
    other_accounts: int = 0


@dataclass(frozen=True)
class PutResult:
    """The result of a put."""

    effects: list[Effect[Change]]  # changes, then the acknowledgement
    level: tuple[EpochSeconds, int] | None = None  # end time and value of its newest accepted battery level
    events: tuple[EventRecord, ...] = ()  # its accepted events


class Collector:
    """Validates puts; returns the changes to store and the acknowledgement."""

    def __init__(self, microgrid: MicrogridId, store: Stored) -> None:
        self.counts = CollectorCounts()
        self.refusing = False  # whether puts are refused as BUSY since the disk is full; meters keep and resend them
        # By meter and log, the number of ids that the meter no longer has and that are not in this store: acknowledged
        # by another store, or lost.
        self.gone: dict[tuple[MeterId, Log], int] = {}
        self._newest_ids: dict[tuple[MeterId, Log], LogIds] = {}
        self.last_minute = LastMinute()  # what the accepted records say of the present power
        self._microgrid = microgrid
        self._store = store
        self._overfull: list[MeterId] = []
        self._allowance = SlotAllowance()
        self._over_allowance: set[MeterId] = set()
        self._junk: Counter[MeterId | None] = Counter()
        self._rejected: Counter[MeterId] = Counter()
        self._told: set[MeterId] = set()
        self._accounts_told: dict[MeterId, set[AccountNumber]] = {}
        self._day = 0

    def accept(self, meter_id: MeterId, meter: RegisteredMeter | None, log: Log, payload: bytes, now: Now) -> PutResult:
        """Handle a put that came on ``meter_id``'s topic for ``log``."""
        try:
            put = unpack_put(payload)
            if put.log is not log:
                raise ProtocolError(Refusal.MALFORMED, f"put of log {put.log} on the topic of log {log}")
        except ProtocolError as error:
            why = Refusal(error.code)
            source = DeadLetterSource.PUT_HISTORY if log is Log.HISTORY else DeadLetterSource.PUT_EVENT
            dead_letters = self.junk(source, meter_id, payload, MESSAGE_REASON + why, now, stranger=meter is None)
            return PutResult([*dead_letters, self.refusal(meter_id, log, payload, why, now)])
        if meter is None:
            return PutResult([self.refusal(meter_id, log, payload, Refusal.NOT_REGISTERED, now)])
        if self.refusing:
            return PutResult([self.refusal(meter_id, log, payload, Refusal.BUSY, now)])
        if not self._allowance.take(meter_id, max(len(put.records), put.slots), now):
            self.counts.puts_over_allowance += 1
            self._over_allowance.add(meter_id)
            return PutResult([self.refusal(meter_id, log, payload, Refusal.BUSY, now)])
        records = put.history() if log is Log.HISTORY else []
        events = put.events() if log is Log.EVENT else []
        if self._early([record.end for record in records] + [event.time for event in events], now):
            return PutResult([self.refusal(meter_id, log, payload, Refusal.EARLY, now)])
        expected = Expected(
            meter_id=meter_id,
            record_types=meter.record_types,
            # With a clock that is behind, good readings would be rejected as from the future.
            now=now if now.trust >= Trust.HARDWARE else None,
            limits=limits_of(meter.service_amps, meter.battery_capacity_mwh),
        )
        if log is Log.HISTORY:
            return self._history(put, records, expected, meter.account, now)
        return self._events(put, events, expected, now)

    def count_gone(self, meter: MeterId, log: Log, ids: LogIds) -> None:
        """Count the ids before those in a meter's log that are not in this store either."""
        newest = self._newest_ids.setdefault((meter, log), ids)
        if ids.generation == newest.generation and (ids.next, ids.first) < (newest.next, newest.first):
            return  # An answer that was held up.
        self._newest_ids[meter, log] = ids
        covered = sum(
            max(0, min(last, ids.first - 1) - first + 1)
            for first, last in self._store.coverage(meter, log, ids.generation)
        )
        self.gone[meter, log] = ids.first - FIRST_ID - covered

    def _early(self, times: Sequence[EpochSeconds], now: Now) -> bool:
        """Return whether a put is ahead of this clock: it then stays at the meter, and nothing is lost."""
        if now.trust < Trust.HARDWARE or max(times, default=0) <= now:
            return False
        return any(is_early(time, now) for time in times)

    def junk(
        self,
        source: DeadLetterSource,
        meter_id: MeterId,
        payload: bytes,
        reason: int,
        now: Now,
        *,
        stranger: bool = False,
    ) -> list[Effect[Change]]:
        """Keep the first kilobyte of an unacceptable message as a dead letter, up to its sender's daily limit.

        Args:
            meter_id: The meter of its topic; 0: the topic is not a meter's.
            stranger: Whether no meter of this id is registered; all such senders share one allowance.
        """
        self.counts.unreadable[source.name.lower()] += 1
        self._new_day(now)
        sender = None if stranger else meter_id
        self._junk[sender] += 1
        if self._junk[sender] > DEAD_LETTERS_A_DAY or self.refusing:
            self.counts.dead_letters_dropped += 1
            return []
        return [Write(AddDeadLetters((message_dead_letter(meter_id, source, reason, payload, now),)))]

    def _new_day(self, now: Now) -> None:
        """Reset the daily limits when a new day has begun."""
        if now // 86_400 != self._day:
            self._day = now // 86_400
            self._junk.clear()
            self._rejected.clear()
            self._told.clear()
            self._accounts_told.clear()

    def refusal(self, meter_id: MeterId, log: Log, payload: bytes, why: Refusal, now: Now) -> Publish:
        """Refuse a whole put.

        The bytes at the position of generation and range are echoed, so that the sender of a put that was damaged in
        transit can identify it.
        """
        generation, first, last = (
            int.from_bytes(payload[a:b].ljust(b - a, b"\0"), "big") for a, b in ((4, 8), (8, 16), (16, 24))
        )
        put = Put(log=log, generation=generation, first_id=first, last_id=last, records=())
        return self._refused(meter_id, put, why, now)

    def _refused(self, meter_id: MeterId, put: Put, why: Refusal, now: Now) -> Publish:
        self.counts.puts[why.name.lower()] += 1
        return self._ack(meter_id, put, now, status=why)

    def _history(
        self, put: Put, records: list[HistoryRecord], expected: Expected, account: AccountNumber, now: Now
    ) -> PutResult:
        accepted: list[HistoryRecord] = []
        rejected: list[tuple[bytes, int, Rejection]] = []
        for packed, record in zip(put.records, records, strict=True):
            why = _outside(record.record_id, put) or judge_history(record, expected)
            if why is None:
                accepted.append(record)
            else:
                rejected.append((packed, record.record_id, why))
        if self._must_wait(expected.meter_id, [why for _, _, why in rejected], now):
            return PutResult([self._refused(expected.meter_id, put, Refusal.BUSY, now)])
        self.last_minute.take(accepted, now)
        counts = Counter(record.record_type for record in accepted)
        for record_type, count in counts.items():
            self.counts.records[RecordType(record_type).name.lower()] += count
        levels = [(r.end, r.reading) for r in accepted if r.record_type == RecordType.STORED]
        effects: list[Effect[Change]] = [Write(AppendRecords(tuple(accepted)))] if accepted else []
        if notices := self._other_accounts(put, accepted, account, now):
            effects.append(Write(AddDeadLetters(notices)))
        return PutResult(
            effects + self._covered(put, expected.meter_id, counts, rejected, now), max(levels, default=None)
        )

    def _other_accounts(
        self, put: Put, accepted: Sequence[HistoryRecord], account: AccountNumber, now: Now
    ) -> tuple[DeadLetter, ...]:
        """Return a dead letter for each account that a meter reports and that is not its own, once a day."""
        # The records are accepted all the same: the utility's registry says whose they are, and lists what differs.
        other = [record for record in accepted if record.account != account]
        if not other:
            return ()
        self._new_day(now)
        self.counts.other_accounts += len(other)
        notices = []
        for record in other:
            told = self._accounts_told.setdefault(record.meter_id, set())
            if record.account not in told and len(told) < ACCOUNTS_A_DAY:
                told.add(record.account)
                notices.append(_dead_letter(put, record.meter_id, record.pack(), record.record_id, _ACCOUNT, now))
        return tuple(notices)

    def _events(self, put: Put, events: list[EventRecord], expected: Expected, now: Now) -> PutResult:
        accepted: list[EventRecord] = []
        rejected: list[tuple[bytes, int, Rejection]] = []
        for packed, event in zip(put.records, events, strict=True):
            why = (
                judge_event(event, expected)
                or _outside(event.record_id, put)
                or self._contradicts(put.generation, event)
            )
            if why is None:
                accepted.append(event)
            else:
                rejected.append((packed, event.record_id, why))
        self.counts.records["event"] += len(accepted)
        effects: list[Effect[Change]] = []
        if accepted:
            effects.append(Write(AppendEvents(tuple((put.generation, event) for event in accepted))))
        counts = Counter({0: len(accepted)})
        return PutResult(effects + self._covered(put, expected.meter_id, counts, rejected, now), events=tuple(accepted))

    def _contradicts(self, generation: int, event: EventRecord) -> Rejection | None:
        known = self._store.event(event.meter_id, generation, event.record_id)
        return None if known is None or known == event else Rejection.CONTRADICTS

    def _covered(
        self,
        put: Put,
        meter_id: MeterId,
        counts: Counter[int],
        rejected: list[tuple[bytes, int, Rejection]],
        now: Now,
    ) -> list[Effect[Change]]:
        """Keep rejected records as dead letters, record the range as covered, and acknowledge."""
        self.counts.puts["accepted"] += 1
        effects: list[Effect[Change]] = []
        if dead_letters := self._dead_letters(put, meter_id, rejected, now):
            effects.append(Write(AddDeadLetters(dead_letters)))
        self.counts.rejected.update(why.name.lower() for _, _, why in rejected)
        effects.append(
            Write(Cover(meter=meter_id, log=put.log, generation=put.generation, first=put.first_id, last=put.last_id))
        )
        accepted = tuple(sorted((kind, count) for kind, count in counts.items() if count))
        effects.append(
            self._ack(meter_id, put, now, accepted=accepted, rejected=tuple((i, why) for _, i, why in rejected))
        )
        return effects

    def take_overfull(self) -> list[MeterId]:
        """Return the meters that reached their daily limit of rejected records since the last call, once a day."""
        taken, self._overfull = self._overfull, []
        return taken

    def take_over_allowance(self) -> list[MeterId]:
        """Return the meters whose puts were refused for their allowance since the last call."""
        taken, self._over_allowance = sorted(self._over_allowance), set()
        return taken

    def _must_wait(self, meter_id: MeterId, reasons: list[Rejection], now: Now) -> bool:
        """Return whether implausible readings would be dropped: their put then stays at its meter."""
        if Rejection.IMPLAUSIBLE not in reasons or len(reasons) <= self._share_left(meter_id, now):
            return False
        self._has_had_its_share(meter_id)
        return True

    def _share_left(self, meter_id: MeterId, now: Now) -> int:
        self._new_day(now)
        left = min(REJECTED_A_DAY - self._rejected[meter_id], ALL_REJECTED_A_DAY - self._rejected.total())
        return max(0, left)

    def _has_had_its_share(self, meter_id: MeterId) -> None:
        if meter_id not in self._told:
            self._told.add(meter_id)
            self._overfull.append(meter_id)

    def _dead_letters(
        self, put: Put, meter_id: MeterId, rejected: list[tuple[bytes, int, Rejection]], now: Now
    ) -> tuple[DeadLetter, ...]:
        """Return rejected records as dead letters, whole, up to their meter's daily limit."""
        left = self._share_left(meter_id, now)
        self._rejected[meter_id] += min(left, len(rejected))
        if len(rejected) > left:
            self.counts.rejected_dropped += len(rejected) - left
            self._has_had_its_share(meter_id)
        return tuple(
            _dead_letter(put, meter_id, packed, record_id, why, now) for packed, record_id, why in rejected[:left]
        )

    def _ack(
        self,
        meter_id: MeterId,
        put: Put,
        now: Now,
        *,
        status: Refusal = Refusal.NONE,
        accepted: tuple[tuple[int, int], ...] = (),
        rejected: tuple[tuple[int, Rejection], ...] = (),
    ) -> Publish:
        ack = PutAck(
            log=put.log,
            status=status,
            trust=now.trust,
            generation=put.generation,
            first_id=put.first_id,
            last_id=put.last_id,
            time=now,
            accepted=accepted,
            rejected=rejected,
        )
        return Publish(meter_down(self._microgrid, meter_id, ACKS), ack.pack(), ACK_QOS)


def _dead_letter(put: Put, meter: MeterId, packed: bytes, record_id: int, why: Rejection, now: Now) -> DeadLetter:
    return DeadLetter(
        meter=meter,
        log=put.log,
        reason=why,
        generation=put.generation,
        record_id=record_id,
        time=now,
        content=packed,
    )


def _outside(record_id: int, put: Put) -> Rejection | None:
    return None if put.first_id <= record_id <= put.last_id else Rejection.ID_OUTSIDE_RANGE
