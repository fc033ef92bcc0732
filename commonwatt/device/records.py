"""Records of a meter: made, aggregated, kept in a log, delivered (M1, M4 to M7).

Every unacknowledged id belongs to exactly one row: its own row, or the row into which it was merged. A
batch may end between two rows only if no row before the end includes an id after it; then its ids cover its records
only.

The volatile state of one log's delivery: what is sent when, and how an acknowledgement is handled (M5, M6).
One batch is in flight at a time. It is frozen durably in the log before it is first sent; a retry sends the same
bytes. This state is lost in a power cut, and delivery continues without it.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise
from typing import NamedTuple, TypeAlias

from commonwatt.device.changes import Delete, Description, LogRow, MeterState, NewRecords, Replace, StoredMeter
from commonwatt.model.blocks import mean_of_group
from commonwatt.model.control import PUT_S
from commonwatt.model.records import EventRecord, HistoryRecord, Log, RecordType, State, unpack_history
from commonwatt.model.time import Trust
from commonwatt.model.units import GROUP_S, GROUP_SLOTS, QUARTER_S, SLOT_S, EpochSeconds, MeterId, MilliwattHours
from commonwatt.model.validation import EARLY_S
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, Put, PutAck, Refusal

TOLERANCE_S = 2  # seconds of difference that count as agreement: times are whole seconds and arrive with a delay
AHEAD_TOLERANCE_S = 120  # seconds by which a meter may be ahead without a correction: an answer can take this long
GOOD_FOR_S = 86_400  # seconds after which a time of less trust is accepted too


@dataclass(frozen=True)
class TimeReport:
    """A reported time."""

    time: EpochSeconds  # the controller's time at some moment after ``since``
    trust: int  # trust of this time
    # Time of the request on the meter's own clock; ``None``: the travel time is unknown, so that the time may be later,
    # but not earlier.
    since: float | None


class ReportedTime:
    """When a time was last accepted; volatile."""

    def __init__(self) -> None:
        self._taken_at: float | None = None

    def step_s(self, told: TimeReport, had: Trust | int, offset_s: int, now: float) -> int | None:
        """Return the correction of a meter's time; 0: the time is right; ``None``: the present time has higher trust.

        Only the certain part of the reported time is accepted.

        Args:
            told: The reported time.
            had: Trust of the meter's present time.
            offset_s: The meter's time minus its own clock.
            now: The time on its own clock.
        """
        fresh = self._taken_at is not None and now - self._taken_at <= GOOD_FOR_S
        if told.trust == Trust.NONE or (fresh and told.trust < had):
            return None
        self._taken_at = now
        behind_s = told.time - (now + offset_s)
        ahead_s = 0.0 if told.since is None else told.since + offset_s - told.time
        # The meter's own clock is as good as the median of the meters' clocks.
        tolerance_s = AHEAD_TOLERANCE_S if told.trust == Trust.METERS else TOLERANCE_S
        if behind_s <= tolerance_s and ahead_s <= AHEAD_TOLERANCE_S:
            return 0
        return int(behind_s if behind_s > 0 else -ahead_s)


def without_far_future(state: MeterState, now: EpochSeconds) -> MeterState:
    """Return the state without times that a clock far ahead has left in it: gateways reject events at such times.

    Otherwise each later event would have such a time too, for as long as the clock was ahead. A time that is less far
    ahead stays: its record waits for that time (EARLY), and later events follow it.
    """
    changed_at, last_slot = (now if time > now + EARLY_S else time for time in (state.changed_at, state.last_slot))
    return replace(state, changed_at=changed_at, last_slot=last_slot)


class SlotsReading(NamedTuple):
    """One reading over consecutive slots."""

    record_type: RecordType  # its quantity
    start: EpochSeconds  # first second covered
    end: EpochSeconds  # second after the last one covered
    value: MilliwattHours  # value of each slot
    lossy: bool = False  # whether it is an average


def quantised(
    description: Description,
    readings: Mapping[RecordType, MilliwattHours],
    remainders: Mapping[RecordType, MilliwattHours],
    resolution: MilliwattHours,
) -> tuple[dict[RecordType, MilliwattHours], dict[RecordType, MilliwattHours]]:
    """Round readings down to the resolution; return them, and the rest of each flow for the next slot.

    The rest is carried, so that no energy is lost.
    """
    rounded, rests = {}, dict(remainders)
    for kind in description.record_types:
        total = readings[kind] + (rests.get(kind, 0) if kind.is_flow else 0)
        rest = total % resolution
        if kind.is_flow:
            rests[kind] = rest
        rounded[kind] = total - rest
    return rounded, rests


def packed(description: Description, next_id: int, readings: Sequence[SlotsReading]) -> list[bytes]:
    """Return the records of readings, with ids from ``next_id`` on."""
    return [
        HistoryRecord(
            record_type=reading.record_type,
            lossy=reading.lossy,
            record_id=next_id + n,
            meter_id=description.id,
            account=description.account,
            start=reading.start,
            end=reading.end,
            reading=reading.value,
        ).pack()
        for n, reading in enumerate(readings)
    ]


def event(state: MeterState, new: State, next_id: int, at: EpochSeconds) -> bytes:
    """Return the record of a change of a meter's state bits."""
    return EventRecord(
        previous_state=state.bits, new_state=new, record_id=next_id, meter_id=state.meter, time=at
    ).pack()


def consolidate(records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """Lossless: merge consecutive records that are identical except for time and id.

    Records of one type follow each other in time. A merged record keeps the first record's id and never crosses a
    quarter-hour: the receiver splits records there, and puts of such records stay within a bounded range.
    """
    result: list[HistoryRecord] = []
    last: dict[int, int] = {}
    for record in records:
        at = last.get(record.record_type)
        if at is not None and _continues(result[at], record):
            result[at] = result[at]._replace(end=record.end)
        else:
            last[record.record_type] = len(result)
            result.append(record)
    return result


def _continues(first: HistoryRecord, second: HistoryRecord) -> bool:
    same = second._replace(start=first.start, end=first.end, record_id=first.record_id) == first
    # A group has one average (docs/architecture.md): two equal averages stay two records.
    return (
        same
        and not first.lossy
        and second.start == first.end
        and first.start // QUARTER_S == (second.end - 1) // QUARTER_S
    )


def average(records: Sequence[HistoryRecord]) -> list[HistoryRecord]:
    """Lossy: replace the ten readings of each aligned group by one record with their mean, rounded half up.

    A group whose ten exact readings do not follow each other stays unchanged. The result is ordered by first id.
    """
    groups: list[list[HistoryRecord]] = []
    last: dict[int, list[HistoryRecord]] = {}
    for record in records:
        members = last.get(record.record_type)
        if members is None or members[0].start // GROUP_S != record.start // GROUP_S:
            members = last[record.record_type] = []
            groups.append(members)
        members.append(record)
    result = []
    for members in groups:
        if sum((m.end - m.start) // SLOT_S for m in members) == GROUP_SLOTS and _is_one_group(members):
            total = sum(m.reading * ((m.end - m.start) // SLOT_S) for m in members)
            result.append(members[0]._replace(lossy=1, end=members[-1].end, reading=mean_of_group(total)))
        else:
            result += members
    return sorted(result, key=lambda record: record.record_id)


def _is_one_group(members: Sequence[HistoryRecord]) -> bool:
    return (
        not any(m.lossy for m in members)
        and all(a.end == b.start for a, b in pairwise(members))
        and len({m.account for m in members}) == 1
        and members[0].start // GROUP_S == (members[-1].end - 1) // GROUP_S
    )


# Offsets of the id in a record, and of start and end in a history record (M2, M3).
_ID = struct.Struct(">Q")
_ID_AT = {Log.HISTORY: 2, Log.EVENT: 4}
_TIMES = struct.Struct(">II")
_TIMES_AT = 20

Aggregation = Callable[[Sequence[HistoryRecord]], list[HistoryRecord]]


class MeterLog:
    """A log in memory, equal to the log in its store.

    Rows are plain bytes, since a day without a gateway makes millions of rows in a fleet.
    """

    def __init__(
        self,
        *,
        meter: MeterId,
        log: Log,
        generation: int,
        next_id: int = 1,
        rows: Iterable[LogRow] = (),
        frozen_last: int = 0,
    ) -> None:
        self.log = log  # which log
        self.generation = generation  # its generation
        self.next_id = next_id  # the id of the next record
        self.rows: list[bytes] = []  # the unacknowledged records, by id
        self.frozen = 0  # number of first rows that are in the batch in flight
        self._meter = meter
        self._id_at = _ID_AT[log]
        # Highest id of each merged row.
        self._took: dict[int, int] = {}
        for row in rows:
            self.rows.append(row.data)
            self.frozen += row.first_id <= frozen_last
            if row.last_id > row.first_id:
                self._took[row.first_id] = row.last_id

    @property
    def first_id(self) -> int:
        """The lowest id in the log; ``next_id`` if the log is empty."""
        return self._id(0)

    @property
    def frozen_last(self) -> int:
        """Last id of the batch in flight; 0: none."""
        return self._id(self.frozen) - 1 if self.frozen else 0

    def add(self, records: Sequence[bytes]) -> NewRecords:
        """Append records with ids from ``next_id`` on."""
        rows = tuple(LogRow(self.next_id + i, self.next_id + i, data) for i, data in enumerate(records))
        self.rows += records
        self.next_id += len(records)
        return NewRecords(meter=self._meter, log=self.log, generation=self.generation, rows=rows)

    def batch(self) -> Put | None:
        """Return the batch in flight, always the same bytes until it is acknowledged or thawed."""
        if not self.frozen:
            return None
        return Put(
            log=self.log,
            generation=self.generation,
            first_id=self.first_id,
            last_id=self.frozen_last,
            records=tuple(self.rows[: self.frozen]),
        )

    def freeze(self, limit: int, to_id: int | None = None, before: EpochSeconds | None = None) -> Put | None:
        """Freeze the oldest records as the batch in flight; ``None`` if no record can be sent.

        Args:
            limit: Most records; exceeded only if the first possible end lies after it.
            to_id: Last id wanted; exceeded only if it lies inside a merged row.
            before: Records that end later are not included.
        """
        assert not self.frozen
        stop = len(self.rows)
        if before is not None:
            stop = next(
                (n for n, data in enumerate(self.rows) if _TIMES.unpack_from(data, _TIMES_AT)[1] > before), stop
            )
        if to_id is not None and self.first_id > to_id:
            stop = 0
        self.frozen = self._end(limit, to_id, stop)
        return self.batch()

    def delete_batch(self) -> Delete:
        """Delete the batch in flight after its acknowledgement."""
        change = Delete(self._meter, self.log, self.frozen_last)
        for n in range(self.frozen):
            self._took.pop(self._id(n), None)
        del self.rows[: self.frozen]
        self.frozen = 0
        return change

    def readings_in_flight(self) -> int:
        """Return the number of readings in the batch in flight, one for each slot and type."""
        times = (_TIMES.unpack_from(data, _TIMES_AT) for data in self.rows[: self.frozen])
        return sum((end - start) // SLOT_S for start, end in times)

    def aggregate(self, algorithm: Aggregation, limit: int | None = None) -> list[Replace]:
        """Aggregate records after the batch in flight: all, or about ``limit`` of the oldest, in whole quarters."""
        stop = len(self.rows) if limit is None else self._quarter_end(self.frozen + limit)
        old = self.rows[self.frozen : stop]
        records = [unpack_history(data) for data in old]
        new = algorithm(records)
        if not old or new == records:
            return []
        # A new record includes the records of its type up to the next new one. Times may repeat: a clock was set back.
        first_ids = {record.record_id for record in new}
        merged_into: dict[int, int] = {}
        last_ids: dict[int, int] = {}
        for record in records:
            if record.record_id in first_ids:
                merged_into[record.record_type] = record.record_id
            last_ids[merged_into[record.record_type]] = self._took.pop(record.record_id, record.record_id)
        rows = [LogRow(record.record_id, last_ids[record.record_id], record.pack()) for record in new]
        change = Replace(
            meter=self._meter, first_id=records[0].record_id, last_id=records[-1].record_id, rows=tuple(rows)
        )
        self.rows[self.frozen : stop] = [row.data for row in rows]
        self._took.update({row.first_id: row.last_id for row in rows if row.last_id > row.first_id})
        return [change]

    def _id(self, n: int) -> int:
        """Return the id of row ``n``, or ``next_id`` after the last row."""
        if n >= len(self.rows):
            return self.next_id
        return int(_ID.unpack_from(self.rows[n], self._id_at)[0])

    def _end(self, limit: int, to_id: int | None, stop: int) -> int:
        """Return the number of rows in a batch, up to ``stop``."""
        best = reach = 0
        for n in range(stop):
            own = self._id(n)
            reach = max(reach, self._took.get(own, own))
            if reach >= self._id(n + 1):
                continue  # A row before this point includes a later id: no batch may end here.
            if best and (n >= limit or (to_id is not None and reach > to_id)):
                break
            best = n + 1
        return best

    def _quarter_end(self, n: int) -> int:
        """Return the last quarter end between the batch and row ``n``, else the next quarter end after row ``n``."""
        for m in chain(range(min(n, len(self.rows)), self.frozen, -1), range(n, len(self.rows))):
            if m == len(self.rows) or self._quarter(m - 1) != self._quarter(m):
                return m
        return len(self.rows)

    def _quarter(self, n: int) -> int:
        start: EpochSeconds
        start, _ = _TIMES.unpack_from(self.rows[n], _TIMES_AT)
        return start // QUARTER_S


def stored_log(log: Log, stored: StoredMeter) -> MeterLog:
    """Return a log as it is in the store."""
    state, is_history = stored.state, log is Log.HISTORY
    return MeterLog(
        meter=state.meter,
        log=log,
        generation=state.generation,
        next_id=state.next_history if is_history else state.next_event,
        rows=stored.history if is_history else stored.events,
        frozen_last=state.frozen_history if is_history else state.frozen_event,
    )


PUT_QOS = 0  # a batch is sent again until its acknowledgement comes; a PUBACK would say less
RETRY_S = (15, 30, 60)  # seconds until an unacknowledged batch is sent again; the last value repeats

_SEND_FEWER = (Refusal.MALFORMED, Refusal.VERSION, Refusal.TOO_LARGE)

Tally: TypeAlias = Counter[tuple[str, str]]
"""Event counts: (``command``, result), (``put``, ``first`` or ``again``), (``ack``, result)."""


class Delivery:
    """The delivery of one log."""

    def __init__(self, log: MeterLog, tally: Tally) -> None:
        self.log = log  # the log
        # When the batch in flight is sent again; ``None``: not before the next put or get.
        self.retry_at: float | None = None
        self.wanted = 0  # last id a ``get`` asked for; 0: none
        # A put of the newest acknowledged record alone; ``None``: none was acknowledged since the start.
        self.newest: Put | None = None
        self._tally = tally
        self._limit = MAX_PUT_RECORDS
        self._tries = 0
        self._period: float | None = None  # the number of the period of the last ``is_due``

    def is_due(self, meter: MeterId, now: float, put_s: int) -> bool:
        """Return whether a put is due: the first one in a period of ``put_s`` seconds, without a batch in flight.

        A batch in flight has its own timer, unless the power was lost since.
        """
        before, self._period = self._period, (now - meter % put_s) // put_s
        return self.retry_at is None and self._period != before

    def send(
        self, now: float, to_id: int | None, algorithm: Aggregation | None, before: EpochSeconds | None
    ) -> tuple[Put | None, list[Replace]]:
        """Return the batch to send now, either in flight or newly frozen, and the changes of its aggregation.

        Args:
            to_id: Last id wanted; ``None``: as many as fit.
            algorithm: The aggregation of the records; ``None``: no aggregation.
            before: Records that end later are not sent.
        """
        changes: list[Replace] = []
        put, waits = self.log.batch(), self.retry_at is not None and self.retry_at > now
        if put is not None:
            self._tally["put", "again"] += 1
        else:
            waits = False
            if algorithm is not None:
                changes = self.log.aggregate(algorithm, self._limit)
            put = self.log.freeze(self._limit, to_id, before)
            self._tally["put", "first"] += put is not None
        if put is None:
            self.retry_at = None
        elif not waits:  # else its timer goes on: commands that have it sent again would put a miss off for ever
            self.retry_at = now + RETRY_S[min(self._tries, len(RETRY_S) - 1)]
            self._tries += 1
        return put, changes

    def begin_again(self) -> None:
        """Count the retries from the first one, for another broker."""
        self._tries = 0
        if self.log.frozen:
            self.retry_at = None

    def is_answered_by(self, ack: PutAck) -> bool:
        """Return whether this acknowledgement is for the batch in flight."""
        put = self.log.batch()
        return put is not None and ack.is_of(put)

    def acknowledged(self, ack: PutAck) -> Delete | None:
        """Delete the batch if the acknowledgement matches it exactly; count any other and delete nothing."""
        put = self.log.batch()
        if put is None or not self.is_answered_by(ack):
            self._tally["ack", "not_in_flight"] += 1
            return None
        if ack.status is not Refusal.NONE:
            self._refused(ack.status)
            return None
        if not ack.confirms(put):
            self._tally["ack", "mismatch"] += 1
            return None
        self._tally["ack", "confirmed"] += 1
        self.retry_at = None
        self._tries = 0
        self._limit = min(self._limit * 2, MAX_PUT_RECORDS)
        if self.log.log is Log.EVENT:
            self.newest = replace(put, first_id=put.last_id, records=put.records[-1:])
        return self.log.delete_batch()

    def _refused(self, status: Refusal) -> None:
        """Send fewer records in the next batch, if that can help; the running timer sends it."""
        self._tally["ack", f"refused_{status.name.lower()}"] += 1
        if status in _SEND_FEWER:
            self._limit = max(1, min(self._limit, self.log.frozen) // 2)
            self.log.frozen = 0  # Its records stay in the log.


def next_put(meter: MeterId, now: float) -> float:
    """Return the time of a meter's next put within the minute; consecutive ids have consecutive times."""
    turn = meter % PUT_S
    return ((now - turn) // PUT_S + 1) * PUT_S + turn


def open_group(last_slot: EpochSeconds, time: float) -> EpochSeconds | None:
    """Return the start of the averaging group that is still incomplete; its readings are not sent yet."""
    start = last_slot // GROUP_S * GROUP_S
    # After a clock was set back the last group lies far ahead: it is not incomplete.
    return start if last_slot > start and abs(time - start) < GROUP_S + PUT_S else None
