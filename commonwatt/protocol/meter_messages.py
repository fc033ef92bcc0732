"""The binary messages between a meter and its gateway, and the list of revoked controllers for meters.

All are big-endian and end in the CRC-32 (IEEE, as in zlib) of all bytes before it.
"""

import re
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Self

from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import (
    EVENT_BYTES,
    HISTORY_BYTES,
    MAX_RECORD_S,
    EventRecord,
    HistoryRecord,
    Log,
    RecordType,
    Rejection,
    unpack_event,
    unpack_history,
)
from commonwatt.model.time import Trust
from commonwatt.model.units import MAX_ABS_READING, SLOT_S, ControllerId, EpochSeconds, MilliwattHours
from commonwatt.protocol.topics import MICROGRID_PATTERN

VERSION = 1  # first byte of every binary message between meter and gateway
MAX_PUT_RECORDS = 1000  # most records in a put (36 KB of history)
MAX_PUT_RANGE = 1_000_000  # most ids covered by a put
MAX_PUT_SLOTS = 100_000  # most slots covered by all records of a put together
MAX_ID = 2**63 - 2  # the highest id; contiguous ids from 1 never reach it

_PUT = struct.Struct(">BBHIQQ")
_ACK = struct.Struct(">BBBBIQQIHB")
_ACK_COUNT = struct.Struct(">BI")
_ACK_REJECTED = struct.Struct(">QB")
_LEVEL = struct.Struct(">BBHIq")
_CRC = struct.Struct(">I")
# Of a history record.
_PERIOD = struct.Struct(">20xII8x")


class Refusal(IntEnum):
    """The reason to refuse a whole put: nothing is stored, its range is not covered (status of a ``PutAck``)."""

    NONE = 0  # accepted: all records not listed as rejected are durable at the gateway
    MALFORMED = 1  # length, range or count make no sense. Sending the same bytes again won't help.
    CHECKSUM = 2  # damaged on the way; send it again
    VERSION = 3  # a version that the gateway does not support
    TOO_LARGE = 4  # more than 1,000 records, 1,000,000 ids or 100,000 slots covered; send fewer at a time
    NOT_REGISTERED = 5  # the gateway's registry does not have this meter (yet); send it again later
    BUSY = 6  # the gateway can't store anything now; send it again later
    # A record ends up to two hours after the gateway's time: the meter's clock is ahead. Set it by the time in this
    # answer, and send the put again when the gateway's time has passed the record's end.
    EARLY = 7


@dataclass(frozen=True, kw_only=True)
class Put:
    """One contiguous range of ids of one of a meter's logs (M5 ``put``)."""

    log: Log  # which log
    generation: int  # the log's generation; a meter that lost its store starts a new, higher generation
    first_id: int  # first id covered
    last_id: int  # last id covered; every id between them is covered, also those whose records were consolidated away
    records: tuple[bytes, ...]  # the records, packed, each 36 (history) or 24 (event) bytes

    @cached_property
    def slots(self) -> int:
        """Number of slots that the records cover, unchecked; 0 for events."""
        return _slots_of(b"".join(self.records)) if self.log is Log.HISTORY else 0

    def pack(self) -> bytes:
        """Return the message."""
        head = _PUT.pack(VERSION, self.log, len(self.records), self.generation, self.first_id, self.last_id)
        return _with_crc(head + b"".join(self.records))

    def history(self) -> list[HistoryRecord]:
        """Return the history records."""
        return [unpack_history(record) for record in self.records]

    def events(self) -> list[EventRecord]:
        """Return the event records."""
        return [unpack_event(record) for record in self.records]

    def ids(self) -> list[int]:
        """Return the records' ids."""
        records = self.history() if self.log is Log.HISTORY else self.events()
        return [record.record_id for record in records]

    def counts(self) -> dict[int, int]:
        """Return the number of records by type; events count as type 0."""
        return dict(Counter(record[0] if self.log is Log.HISTORY else 0 for record in self.records))


def unpack_put(data: bytes) -> Put:
    """Read a put.

    Raises:
        ProtocolError: Its ``code`` is the ``Refusal`` to answer with.
    """
    if data and data[0] != VERSION:  # before all else: another version may be of another length
        raise ProtocolError(Refusal.VERSION, f"put of version {data[0]}; this gateway speaks {VERSION}")
    if len(data) < _PUT.size + _CRC.size:
        raise ProtocolError(Refusal.MALFORMED, f"put of {len(data)} bytes is shorter than its head")
    _, log, count, generation, first_id, last_id = _PUT.unpack_from(data)
    if log not in (Log.HISTORY, Log.EVENT):
        raise ProtocolError(Refusal.MALFORMED, f"put of unknown log {log}")
    if count > MAX_PUT_RECORDS or last_id - first_id >= MAX_PUT_RANGE:
        raise ProtocolError(Refusal.TOO_LARGE, f"put of {count} records, ids {first_id} to {last_id}")
    size = HISTORY_BYTES if log == Log.HISTORY else EVENT_BYTES
    if (
        len(data) != _PUT.size + count * size + _CRC.size
        or not first_id <= last_id <= MAX_ID
        or count > last_id - first_id + 1
    ):
        raise ProtocolError(
            Refusal.MALFORMED, f"put of {count} records, ids {first_id} to {last_id}, in {len(data)} bytes"
        )
    _check_crc(data, Refusal.CHECKSUM, "put")
    body = data[_PUT.size : -_CRC.size]
    records = tuple(body[at : at + size] for at in range(0, len(body), size))
    put = Put(log=Log(log), generation=generation, first_id=first_id, last_id=last_id, records=records)
    if put.slots > MAX_PUT_SLOTS:
        raise ProtocolError(Refusal.TOO_LARGE, f"put of {count} records over more than {MAX_PUT_SLOTS} slots")
    return put


def slots_asked(payload: bytes) -> int:
    """Return the number of slots in a put of history, unchecked; 0 for any other message."""
    body = payload[_PUT.size : -_CRC.size]
    if len(payload) < _PUT.size + _CRC.size or payload[1] != Log.HISTORY or len(body) % HISTORY_BYTES:
        return 0
    return _slots_of(body)


def _slots_of(records: bytes) -> int:
    """Return the number of slots that history records cover; invalid records count none."""
    covered_s = 0
    for start, end in _PERIOD.iter_unpack(records):
        if 0 < end - start <= MAX_RECORD_S:
            covered_s += end - start
    return covered_s // SLOT_S


@dataclass(frozen=True, kw_only=True)
class PutAck:
    """A gateway's acknowledgement of a put, sent after the commit (M5 ``acknowledge``, M6)."""

    log: Log  # which log
    status: Refusal = Refusal.NONE  # ``Refusal.NONE``, or the reason to refuse the whole put
    trust: Trust = Trust.NONE  # trust of ``time``
    generation: int  # as in the put
    first_id: int  # as in the put
    last_id: int  # as in the put
    time: EpochSeconds  # the gateway's time
    accepted: tuple[tuple[int, int], ...] = ()  # number of durable records by type; events count as type 0
    rejected: tuple[tuple[int, Rejection], ...] = ()  # id and reason of each record that became a dead letter

    def pack(self) -> bytes:
        """Return the message."""
        head = _ACK.pack(
            VERSION,
            self.log,
            self.status,
            self.trust,
            self.generation,
            self.first_id,
            self.last_id,
            self.time,
            len(self.rejected),
            len(self.accepted),
        )
        counts = b"".join(_ACK_COUNT.pack(*count) for count in self.accepted)
        return _with_crc(head + counts + b"".join(_ACK_REJECTED.pack(*rejected) for rejected in self.rejected))

    def is_of(self, put: Put) -> bool:
        """Return whether this answers ``put``, by its log, generation and range."""
        of = (put.log, put.generation, put.first_id, put.last_id)
        return (self.log, self.generation, self.first_id, self.last_id) == of

    def confirms(self, put: Put) -> bool:
        """Return whether this acknowledges exactly ``put``: its log, generation, range and each of its records."""
        counts = put.counts()
        accepted = dict(self.accepted)
        return (
            self.status is Refusal.NONE
            and self.is_of(put)
            and sum(counts.values()) == sum(accepted.values()) + len(self.rejected)
            and all(count <= counts.get(kind, 0) for kind, count in accepted.items())
            and len(accepted) == len(self.accepted)
            and (not self.rejected or Counter(record_id for record_id, _ in self.rejected) <= Counter(put.ids()))
        )


def unpack_put_ack(data: bytes) -> PutAck:
    """Read an acknowledgement.

    Raises:
        ProtocolError: It is malformed or damaged.
    """
    if len(data) < _ACK.size + _CRC.size:
        raise ProtocolError(Refusal.MALFORMED, f"acknowledgement of {len(data)} bytes")
    _check_crc(data, Refusal.CHECKSUM, "acknowledgement")
    version, log, status, trust, generation, first_id, last_id, time, rejected, kinds = _ACK.unpack_from(data)
    if version != VERSION:
        raise ProtocolError(Refusal.VERSION, f"acknowledgement of version {version}")
    middle = _ACK.size + kinds * _ACK_COUNT.size
    if len(data) != middle + rejected * _ACK_REJECTED.size + _CRC.size:
        raise ProtocolError(Refusal.MALFORMED, f"acknowledgement of {len(data)} bytes")
    try:
        return PutAck(
            log=Log(log),
            status=Refusal(status),
            trust=Trust(trust),
            generation=generation,
            first_id=first_id,
            last_id=last_id,
            time=time,
            accepted=tuple(_ACK_COUNT.iter_unpack(data[_ACK.size : middle])),
            rejected=tuple(
                (i, Rejection(reason)) for i, reason in _ACK_REJECTED.iter_unpack(data[middle : -_CRC.size])
            ),
        )
    except ValueError as error:
        raise ProtocolError(Refusal.MALFORMED, f"acknowledgement: {error}") from error


@dataclass(frozen=True, kw_only=True)
class LiveLevel:
    """A live level, sent at QoS 0 and not acknowledged; the next one replaces it."""

    state: int  # ``State`` bits
    time: EpochSeconds  # end of the level's slot
    level: MilliwattHours  # the battery's level, milliwatt-hours

    def pack(self) -> bytes:
        """Return the message."""
        return _with_crc(_LEVEL.pack(VERSION, 0, self.state, self.time, self.level))


def unpack_level(data: bytes) -> LiveLevel:
    """Read a live level.

    Raises:
        ProtocolError: It is malformed or damaged.
    """
    if len(data) != _LEVEL.size + _CRC.size:
        raise ProtocolError(Refusal.MALFORMED, f"level of {len(data)} bytes")
    _check_crc(data, Refusal.CHECKSUM, "level")
    version, _, state, time, level = _LEVEL.unpack_from(data)
    if version != VERSION:
        raise ProtocolError(Refusal.VERSION, f"level of version {version}")
    return LiveLevel(state=state, time=time, level=level)


def judge_level(level: LiveLevel, limits: Mapping[int, MilliwattHours]) -> Rejection | None:
    """Return the reason to reject a live level, or ``None`` if it is valid.

    Args:
        limits: The largest plausible reading by record type, as in ``records.Expected``.
    """
    if level.level < 0:
        return Rejection.NEGATIVE
    if level.level > limits.get(RecordType.STORED, MAX_ABS_READING):
        return Rejection.IMPLAUSIBLE
    return None


def _with_crc(data: bytes) -> bytes:
    return data + _CRC.pack(zlib.crc32(data))


def _check_crc(data: bytes, code: int, what: str) -> None:
    if _CRC.pack(zlib.crc32(data[: -_CRC.size])) != data[-_CRC.size :]:
        raise ProtocolError(code, f"{what}: checksum does not match")


PURPOSE = "revoked controllers"  # what the authority's signature is for
MAX_LISTED = 400  # most controllers in a list, so that it fits into a command

_CONTROLLER = rf" {MICROGRID_PATTERN}:[1-9]\d{{0,4}}"
_FORM = re.compile(rf"[1-9]\d{{0,15}}(?:{_CONTROLLER}){{0,{MAX_LISTED}}}", re.ASCII)


@dataclass(frozen=True)
class RevokedList:
    """The controllers that are revoked; a list with a higher number replaces it whole."""

    number: int = 0  # rises at each change; 0: no list yet
    ranks: Mapping[ControllerId, int] = field(default_factory=dict)  # the rank of each, by name

    @property
    def text(self) -> str:
        """What is signed, such as ``1790000000 r002:2 r007:7``."""
        return " ".join([str(self.number), *(f"{name}:{rank}" for name, rank in self.ranks.items())])

    @classmethod
    def read(cls, text: str) -> Self:
        """Read the text of a list.

        Raises:
            ProtocolError: It is of another form, or too long.
        """
        if _FORM.fullmatch(text) is None:
            raise ProtocolError(Refusal.MALFORMED, "no list of revoked controllers: NUMBER NAME:RANK ...")
        number, *rows = text.split(" ")
        return cls(int(number), {name: int(rank) for name, _, rank in (row.partition(":") for row in rows)})
