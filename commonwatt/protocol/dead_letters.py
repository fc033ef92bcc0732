"""Dead letters: their sources and reasons (docs/limits.md); see ``dead_letter_words``.

Gateway and utility store them; a command of each shows them.
"""

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import Blocks, from_records
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import HISTORY_BYTES, EventRecord, Log, RecordType, Rejection, unpack_history
from commonwatt.model.units import MAX_ABS_READING, MAX_EPOCH, QUARTER_S, ControllerId, EpochSeconds, MeterId
from commonwatt.model.validation import Expected, judge_history, suspects
from commonwatt.protocol.meter_messages import Refusal


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """A dead letter: a rejected record or message, kept for inspection."""

    meter: MeterId  # the meter of its topic
    log: int  # ``records.Log`` number; 0 when it was no record
    reason: int  # ``Rejection``; 128 + ``Refusal`` for a whole message
    generation: int  # of the log; 0 when it was no record
    record_id: int  # of the record; a running number when it was none
    time: EpochSeconds  # when it was received, epoch seconds
    content: bytes  # the record whole; of a message the first kilobyte


MESSAGE_REASON = 128  # added to a ``Refusal`` to make the ``reason`` of a dead letter about a whole message


MAX_DEAD_LETTER_BYTES = 1024  # most bytes that a dead letter keeps


class DeadLetterSource(IntEnum):
    """The source of a dead letter, its ``log``: ``records.Log`` for records; from 16 on a whole message."""

    UNKNOWN = 0  # a damaged stored part, or an unknown source
    HISTORY = 1  # a history record, 36 bytes
    EVENT = 2  # an event record, 24 bytes
    BLOCK = 3  # slots of a block in a batch: record type (1 byte), quarter (4), block payload
    PUT_HISTORY = 16  # a message on a meter's ``rec``
    PUT_EVENT = 17  # a message on a meter's ``ev``
    LEVEL = 18  # a message on a meter's ``lvl``
    OUTCOME = 19  # a message on a meter's ``out``
    BATCH_ACK = 20  # a message on a gateway's ``d/ack``
    COMMAND = 21  # a message on a gateway's ``d/cmd``
    BATCH = 22  # a message on a gateway's ``u/batch``
    STATUS = 23  # a message on a gateway's ``u/stat``
    GATEWAY_OUTCOME = 24  # a message on a gateway's ``u/out``


class LocalReason(IntEnum):
    """Reasons of dead letters that are neither a ``Rejection`` nor 128 + ``Refusal``."""

    DAMAGED_AT_GATEWAY = 200  # a gateway's stored part whose checksum does not match
    BAD_BATCH = 240  # a batch that could not be read; its first kilobyte
    BAD_MESSAGE = 241  # an outcome or a heartbeat that could not be read
    EVENT_CONFLICT = 242  # an event that differs from the stored event with the same generation and id
    DAMAGED_PART = 243  # a stored part of the utility whose checksum does not match; its slots are requested again
    # Sent by a controller that the meter is not assigned to; its readings wait for a person's decision.
    NOT_ASSIGNED = 244
    AHEAD = 245  # far ahead of the utility's clock, which was not confirmed; it waits until the clock is


def _reasons() -> dict[int, str]:
    found: dict[int, str] = {}
    for numbers, offset, prefix in ((LocalReason, 0, ""), (Rejection, 0, ""), (Refusal, MESSAGE_REASON, "message ")):
        found |= {int(n) + offset: prefix + n.name.lower().replace("_", " ") for n in numbers}
    return found


REASONS = _reasons()  # the name of each reason


def reason_text(reason: int) -> str:
    """Return the name of a dead letter's reason."""
    return REASONS.get(reason, f"reason {reason}")


def source_text(log: int) -> str:
    """Return the name of the source of a dead letter."""
    return (
        DeadLetterSource(log).name.lower().replace("_", " ")
        if log in DeadLetterSource.__members__.values()
        else f"log {log}"
    )


def message_dead_letter(
    meter: MeterId, source: DeadLetterSource, reason: int, content: bytes, time: EpochSeconds
) -> DeadLetter:
    """Return the dead letter of a message; the same bytes again make the same one."""
    return DeadLetter(
        meter=meter,
        log=source,
        reason=reason,
        generation=0,
        record_id=zlib.crc32(content),
        time=time,
        content=content[:MAX_DEAD_LETTER_BYTES],
    )


def event_dead_letter(generation: int, event: EventRecord, reason: int, time: EpochSeconds) -> DeadLetter:
    """Return the dead letter of an event."""
    return DeadLetter(
        meter=event.meter_id,
        log=Log.EVENT,
        reason=reason,
        generation=generation,
        record_id=event.record_id,
        time=time,
        content=event.pack(),
    )


# Readings that a person may release

BLOCK = struct.Struct(">BI")  # record type and quarter, before the payload of a dead letter's block

_HELD_EXTRAS = 50
# The block must fit into a dead letter; further extras are dropped.


def block_dead_letters(sender_time: EpochSeconds, blocks: Blocks, reason: int) -> list[DeadLetter]:
    """Return one dead letter for each block of quarantined slots; the same slots give the same dead letter."""
    row = blocks.extras["row"]
    first_ones = blocks.extras[np.arange(len(row)) - np.searchsorted(row, row) < _HELD_EXTRAS]
    few = replace(blocks, extras=first_ones)
    return [
        DeadLetter(
            meter=meter,
            log=DeadLetterSource.BLOCK,
            reason=reason,
            generation=0,
            record_id=quarter,
            time=sender_time,
            content=BLOCK.pack(record_type, quarter) + payload,
        )
        for (meter, record_type, quarter), payload in zip(few.keys(), pack(few), strict=True)
    ]


def quarantined_blocks(dead_letter: DeadLetter, record_types: Iterable[int]) -> Blocks | None:
    """Return the readings of a dead letter that a person may release; ``None``: no such readings.

    Args:
        dead_letter: The dead letter, implausible, from a controller without the meter, or ahead of the clock; its
            sender may have forged it.
        record_types: The record types of its meter.
    """
    if dead_letter.reason not in (Rejection.IMPLAUSIBLE, LocalReason.NOT_ASSIGNED, LocalReason.AHEAD):
        return None
    types = tuple(map(RecordType, record_types))
    if dead_letter.log == DeadLetterSource.HISTORY and len(dead_letter.content) == HISTORY_BYTES:
        record = unpack_history(dead_letter.content)
        expected = Expected(meter_id=dead_letter.meter, record_types=types, now=None)
        return from_records([record]) if judge_history(record, expected) is None else None
    if dead_letter.log == DeadLetterSource.BLOCK and len(dead_letter.content) > BLOCK.size:
        record_type, quarter = BLOCK.unpack_from(dead_letter.content)
        if record_type not in types or quarter > MAX_EPOCH // QUARTER_S:
            return None
        try:
            found = unpack([(dead_letter.meter, record_type, quarter)], [dead_letter.content[BLOCK.size :]])
        except ProtocolError:
            return None
        return None if suspects(found, np.array([MAX_ABS_READING]), None).any() else found
    return None


# Lists of dead letters


@dataclass(frozen=True, kw_only=True)
class KeptDeadLetter:
    """A stored dead letter."""

    no: int  # its number in the store
    sender: ControllerId = ""  # the controller that sent or relayed it; a gateway's own dead letters have none
    dead_letter: DeadLetter  # the dead letter
    state: str = ""  # ``quarantined``, ``released`` or ``refused`` where a person is to decide, else empty
    decided: str = ""  # the decision in words: person, time and reason


@dataclass(frozen=True, kw_only=True)
class DeadLetterFilter:
    """A filter for dead letters."""

    meter: MeterId | None = None  # only this meter's; ``None``: all meters
    reasons: tuple[int, ...] = ()  # only of these reasons; empty: any
    since: EpochSeconds = 0  # only dead letters received then or later
    state: str = ""  # only in this state; empty: any
