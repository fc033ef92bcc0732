"""One log of a meter: contiguous ids, one frozen batch at its front, aggregation of the rest (M1, M6, M7).

Every unacknowledged id belongs to exactly one row: its own row, or the row into which it was merged. A
batch may end between two rows only if no row before the end includes an id after it; then its ids cover its records
only.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from commonwatt.device.changes import Delete, LogRow, Made, Replace, Stored
from commonwatt.model.ids import MeterId
from commonwatt.model.records import HistoryRecord, Log, unpack_history
from commonwatt.model.units import QUARTER_S, SLOT_S, EpochSeconds
from commonwatt.protocol.meter_messages import Put

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

    def add(self, records: Sequence[bytes]) -> Made:
        """Append records with ids from ``next_id`` on."""
        rows = tuple(LogRow(self.next_id + i, self.next_id + i, data) for i, data in enumerate(records))
        self.rows += records
        self.next_id += len(records)
        return Made(meter=self._meter, log=self.log, generation=self.generation, rows=rows)

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


def stored_log(log: Log, stored: Stored) -> MeterLog:
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
