"""The batch a gateway relays to the utility, and its acknowledgement (docs/protocol.md, "Batches").

A batch is columnar, so that a receiver can unpack it with array operations and store payloads as received.
"""

import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import TypeAlias

import numpy as np
import zstandard

from commonwatt.codec.packing_arrays import MAX_PAYLOAD_BYTES, Payloads
from commonwatt.model.blocks import Keys
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import EVENT_BYTES, EventRecord, unpack_event
from commonwatt.model.time import Trust
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.dead_letters import MAX_DEAD_LETTER_BYTES, DeadLetter

MAX_BATCH_BYTES = 256 * 1024  # most bytes of a message
MAX_BODY_BYTES = 4 * 1024 * 1024  # most bytes of an expanded body
MAX_BATCH_BLOCKS = 2000  # most blocks in a batch
MAX_BATCH_EVENTS = 2000  # most events in a batch
MAX_BATCH_DEAD_LETTERS = 200  # most dead letters in a batch
MAX_MARKS = 65  # most marks in an acknowledgement
SLOW_S = 1_800  # most seconds for which an acknowledgement slows a gateway down

_MAGIC = b"CWB1"
_ACK_MAGIC = b"CWA1"
# magic, flags, trust, length of the owner's name, reserved, time, store, sequence, blocks, events, dead letters, body
# length
_HEAD = struct.Struct(">4sBBBBIQQIIII")
_ACK = struct.Struct(">4sBBHIQQQIII")
_EVENT_GENERATION = struct.Struct(">I")
_DEAD_LETTER = struct.Struct(">QBBIQIH")
_CRC = struct.Struct(">I")
_MARK = struct.Struct(">II")

Mark: TypeAlias = tuple[int, int]
"""A place in the history of the utility's store: a run, and the number of its commit.

A run is a random number; a service makes a new one when it opens the store, and when the store went back."""


class BatchRefusal(IntEnum):
    """Status of a batch's acknowledgement."""

    NONE = 0  # accepted: the batch is committed at the utility
    MALFORMED = 1
    CHECKSUM = 2
    NOT_REGISTERED = 5  # the gateway, or a meter in the batch, is not in the utility's registry; send it again later
    BUSY = 6  # the utility can't store anything now; send it again later
    BAD_PAYLOAD = 7  # a block's payload is damaged; a gateway checks its own before it sends, and sends again later


class BatchFlag(IntFlag):
    """Flags of a batch."""

    COMPRESSED = 0x01  # the body is a zstandard frame
    ANSWER = 0x02  # sent because the utility asked (``get``)
    URGENT = 0x04  # sent outside the schedule
    MARK = 0x08  # the gateway understands marks in the acknowledgement
    HISTORY = 0x10  # it asks for the last mark of every run that the utility's store has


NO_FLAGS = BatchFlag(0)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One message of relayed data from a gateway."""

    owner: MicrogridId  # the microgrid of the data; the topic names the controller that sent it (P7)
    store: int  # random id of the gateway's store: a new one means a new store
    sequence: int  # number of the batch, never used twice within a store
    time: EpochSeconds  # the gateway's time
    trust: Trust = Trust.NONE  # trust of that time
    flags: BatchFlag = NO_FLAGS  # why it was sent
    keys: Keys  # the key of each block
    payloads: Payloads  # packed blocks, as stored
    events: list[tuple[int, EventRecord]]  # (log generation, event record)
    dead_letters: list[DeadLetter]  # dead letters

    def pack(self) -> bytes:
        """Return the message, its body compressed."""
        body = b"".join(
            (
                self.keys.meter.astype(">u8").tobytes(),
                self.keys.quarter.astype(">u4").tobytes(),
                self.keys.record_type.tobytes(),
                self.payloads.lengths.astype(">u2").tobytes(),
                self.payloads.buffer,
                *(_EVENT_GENERATION.pack(generation) + event.pack() for generation, event in self.events),
                *(_pack_dead_letter(dead_letter) for dead_letter in self.dead_letters),
            )
        )
        owner = self.owner.encode("ascii")
        head = _HEAD.pack(
            _MAGIC,
            self.flags | BatchFlag.COMPRESSED,
            self.trust,
            len(owner),
            0,
            self.time,
            self.store,
            self.sequence,
            len(self.keys),
            len(self.events),
            len(self.dead_letters),
            len(body),
        )
        message = head + owner + zstandard.ZstdCompressor(level=3).compress(body)
        return message + _CRC.pack(zlib.crc32(message))


def _pack_dead_letter(dead_letter: DeadLetter) -> bytes:
    content = dead_letter.content[:MAX_DEAD_LETTER_BYTES]
    return (
        _DEAD_LETTER.pack(
            dead_letter.meter,
            dead_letter.log,
            dead_letter.reason,
            dead_letter.generation,
            dead_letter.record_id,
            dead_letter.time,
            len(content),
        )
        + content
    )


def batch_counts(data: bytes) -> tuple[int, int, int]:
    """Return the numbers of blocks, events and dead letters in a message's head, unchecked; zeros without a head."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        return 0, 0, 0
    blocks, events, dead_letters = _HEAD.unpack_from(data)[8:11]
    return min(blocks, MAX_BATCH_BLOCKS), min(events, MAX_BATCH_EVENTS), min(dead_letters, MAX_BATCH_DEAD_LETTERS)


def batch_owner(data: bytes) -> MicrogridId:
    """Return the owner that a message's head names, unchecked; an empty one without a head."""
    if len(data) < _HEAD.size or not data.startswith(_MAGIC):
        return ""
    return data[_HEAD.size : _HEAD.size + data[6]].decode("ascii", "replace")


def unpack_batch(data: bytes) -> Batch:
    """Read a batch; payloads are not unpacked.

    Raises:
        ProtocolError: Its ``code`` is the ``BatchRefusal`` to answer with.
    """
    if not _HEAD.size + _CRC.size <= len(data) <= MAX_BATCH_BYTES or not data.startswith(_MAGIC):
        raise ProtocolError(BatchRefusal.MALFORMED, f"batch of {len(data)} bytes starting {data[:4]!r}")
    if _CRC.pack(zlib.crc32(data[: -_CRC.size])) != data[-_CRC.size :]:
        raise ProtocolError(BatchRefusal.CHECKSUM, "batch: checksum does not match")
    (_, flags, trust, owner_length, _, time, store, sequence, n_blocks, n_events, n_dead_letters, body_length) = (
        _HEAD.unpack_from(data)
    )
    if (
        n_blocks > MAX_BATCH_BLOCKS
        or n_events > MAX_BATCH_EVENTS
        or n_dead_letters > MAX_BATCH_DEAD_LETTERS
        or body_length > MAX_BODY_BYTES
    ):
        raise ProtocolError(
            BatchRefusal.MALFORMED,
            f"batch of {n_blocks} blocks, {n_events} events, {n_dead_letters} dead letters, {body_length} bytes",
        )
    start = _HEAD.size + owner_length
    try:
        owner = data[_HEAD.size : start].decode("ascii")
        body = data[start : -_CRC.size]
        if flags & BatchFlag.COMPRESSED:
            # A frame that states its size is expanded to it, whatever max_output_size says.
            if zstandard.frame_content_size(body) not in (-1, body_length):
                raise ValueError(f"compressed body does not expand to {body_length} bytes")
            body = zstandard.ZstdDecompressor().decompress(body, max_output_size=body_length)
        if len(body) != body_length:
            raise ValueError(f"body of {len(body)} bytes instead of {body_length}")
        keys, payloads, rest = _unpack_blocks(body, n_blocks)
        events, rest = _unpack_events(rest, n_events)
        dead_letters = _unpack_dead_letters(rest, n_dead_letters)
        return Batch(
            owner=owner,
            store=store,
            sequence=sequence,
            time=time,
            trust=Trust(trust),
            flags=BatchFlag(flags),
            keys=keys,
            payloads=payloads,
            events=events,
            dead_letters=dead_letters,
        )
    except (ValueError, struct.error, zstandard.ZstdError) as error:
        raise ProtocolError(BatchRefusal.MALFORMED, f"batch: {error}") from error


def _unpack_blocks(body: bytes, n: int) -> tuple[Keys, Payloads, bytes]:
    meter = np.frombuffer(body, ">u8", n).astype(np.uint64)
    quarter = np.frombuffer(body, ">u4", n, 8 * n).astype(np.uint32)
    record_type = np.frombuffer(body, np.uint8, n, 12 * n)
    lengths = np.frombuffer(body, ">u2", n, 13 * n)
    offsets = np.concatenate(([0], np.cumsum(lengths, dtype=np.int64)))
    start = 15 * n
    end = start + int(offsets[-1])
    if n and (int(lengths.max()) > MAX_PAYLOAD_BYTES or end > len(body)):
        raise ValueError("block payload too long")
    return Keys(meter, record_type, quarter), Payloads(body[start:end], offsets), body[end:]


def _unpack_events(body: bytes, n: int) -> tuple[list[tuple[int, EventRecord]], bytes]:
    size = _EVENT_GENERATION.size + EVENT_BYTES
    if len(body) < n * size:
        raise ValueError("events cut short")
    events = [
        (_EVENT_GENERATION.unpack_from(body, at)[0], unpack_event(body[at + 4 : at + size]))
        for at in range(0, n * size, size)
    ]
    return events, body[n * size :]


def _unpack_dead_letters(body: bytes, n: int) -> list[DeadLetter]:
    dead_letters = []
    at = 0
    for _ in range(n):
        meter, log, reason, generation, record_id, time, length = _DEAD_LETTER.unpack_from(body, at)
        at += _DEAD_LETTER.size + length
        content = body[at - length : at]
        if length > MAX_DEAD_LETTER_BYTES or len(content) != length:
            raise ValueError("dead letter too long")
        dead_letters.append(
            DeadLetter(
                meter=meter,
                log=log,
                reason=reason,
                generation=generation,
                record_id=record_id,
                time=time,
                content=content,
            )
        )
    if at != len(body):
        raise ValueError(f"{len(body) - at} bytes too many")
    return dead_letters


@dataclass(frozen=True, kw_only=True)
class BatchAck:
    """The utility's acknowledgement of a batch, sent after the commit."""

    status: BatchRefusal = BatchRefusal.NONE  # ``BatchRefusal.NONE``, or the reason to refuse the whole batch
    trust: Trust = Trust.NONE  # how far ``time`` can be trusted
    time: EpochSeconds  # the utility's time
    utility_store: int  # random id of the utility's store. After a new id a gateway relays its backups again.
    store: int  # as in the batch
    sequence: int  # as in the batch
    blocks: int = 0  # how many blocks were committed
    events: int = 0  # how many events
    dead_letters: int = 0  # how many dead letters
    # Seconds for which the gateway is to relay whole quarter-hours only, as the utility lags; 0: what was said before
    # holds to its end. Earlier gateways ignore it.
    slow_s: int = 0
    # If the batch has ``BatchFlag.MARK``: the mark of the commit, or of the next one if nothing was committed. With
    # ``BatchFlag.HISTORY`` the last mark of every run follows, of the present run too. Earlier gateways ask for none.
    marks: tuple[Mark, ...] = ()

    def pack(self) -> bytes:
        """Return the message."""
        message = _ACK.pack(
            _ACK_MAGIC,
            self.status,
            self.trust,
            self.slow_s,
            self.time,
            self.utility_store,
            self.store,
            self.sequence,
            self.blocks,
            self.events,
            self.dead_letters,
        )
        message += b"".join(_MARK.pack(*mark) for mark in self.marks)
        return message + _CRC.pack(zlib.crc32(message))


def unpack_batch_ack(data: bytes) -> BatchAck:
    """Read a batch's acknowledgement.

    Raises:
        ProtocolError: It is malformed or damaged.
    """
    count, rest = divmod(len(data) - _ACK.size - _CRC.size, _MARK.size)
    if rest or not 0 <= count <= MAX_MARKS or not data.startswith(_ACK_MAGIC):
        raise ProtocolError(BatchRefusal.MALFORMED, f"batch acknowledgement of {len(data)} bytes")
    if _CRC.pack(zlib.crc32(data[: -_CRC.size])) != data[-_CRC.size :]:
        raise ProtocolError(BatchRefusal.CHECKSUM, "batch acknowledgement: checksum does not match")
    _, status, trust, slow_s, time, utility_store, store, sequence, *counts = _ACK.unpack_from(data)
    blocks, events, dead_letters = counts
    try:
        return BatchAck(
            status=BatchRefusal(status),
            trust=Trust(trust),
            time=time,
            utility_store=utility_store,
            store=store,
            sequence=sequence,
            blocks=blocks,
            events=events,
            dead_letters=dead_letters,
            slow_s=slow_s,
            marks=tuple(_MARK.iter_unpack(data[_ACK.size : -_CRC.size])),
        )
    except ValueError as error:
        raise ProtocolError(BatchRefusal.MALFORMED, f"batch acknowledgement: {error}") from error
