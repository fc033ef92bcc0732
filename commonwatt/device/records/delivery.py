"""The volatile state of one log's delivery: what is sent when, and how an acknowledgement is handled (M5, M6).

One batch is in flight at a time. It is frozen durably in the log before it is first sent; a retry sends the same
bytes. This state is lost in a power cut, and delivery continues without it.
"""

from collections import Counter
from dataclasses import replace
from typing import TypeAlias

from commonwatt.device.changes import Delete, Replace
from commonwatt.device.records.log import Aggregation, MeterLog
from commonwatt.model.control.relaying import PUT_S
from commonwatt.model.ids import MeterId
from commonwatt.model.records import Log
from commonwatt.model.units import GROUP_S, EpochSeconds
from commonwatt.protocol.meter_messages import MAX_PUT_RECORDS, Put, PutAck, Refusal

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
