"""Dead letters: where each came in, and why it was not accepted (design 4.4); see ``dead_letter_words``.

Gateway and utility keep them; ``commonwatt letters`` shows those of either.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import Blocks, from_records
from commonwatt.model.exceptions import ProtocolError
from commonwatt.model.records import (
    HISTORY_BYTES,
    RecordType,
    Rejection,
    unpack_history,
)
from commonwatt.model.units import MAX_ABS_READING, MAX_EPOCH, QUARTER_S, ControllerId, EpochSeconds, MeterId
from commonwatt.model.validation import Expected, judge_history, suspects
from commonwatt.protocol.batches import MESSAGE_REASON, DeadLetter
from commonwatt.protocol.messages import Refusal


class DeadLetterSource(IntEnum):
    """Where a dead letter came in: its ``log``. The first two are ``records.Log``; from 16 on it is a whole message."""

    UNKNOWN = 0
    """A stored part that was found damaged; or the dead letter does not say."""
    HISTORY = 1
    """A history record, 36 bytes."""
    EVENT = 2
    """An event record, 24 bytes."""
    BLOCK = 3
    """Slots of a block in a batch: record type (1 byte), quarter (4), block payload."""
    PUT_HISTORY = 16
    """What came on a meter's ``rec``."""
    PUT_EVENT = 17
    """What came on a meter's ``ev``."""
    LEVEL = 18
    """What came on a meter's ``lvl``."""
    OUTCOME = 19
    """What came on a meter's ``out``."""
    BATCH_ACK = 20
    """What came on a gateway's ``d/ack``."""
    COMMAND = 21
    """What came on a gateway's ``d/cmd``."""
    BATCH = 22
    """What came on a gateway's ``u/batch``."""
    STATUS = 23
    """What came on a gateway's ``u/stat``."""
    GATEWAY_OUTCOME = 24
    """What came on a gateway's ``u/out``."""


class LocalReason(IntEnum):
    """Reasons of dead letters that are neither a ``Rejection`` nor 128 + ``Refusal``."""

    DAMAGED_AT_GATEWAY = 200
    """A gateway's stored part whose checksum does not match."""
    BAD_BATCH = 240
    """A batch that could not be read; its first kilobyte."""
    BAD_MESSAGE = 241
    """An outcome or a heartbeat that could not be read."""
    EVENT_CONFLICT = 242
    """An event that contradicts the one kept under the same numbers."""
    DAMAGED_PART = 243
    """A stored part of the utility whose checksum does not match; its slots are asked for again."""
    NOT_ASSIGNED = 244
    """Sent by a controller that may not hold the meter; readings are held for a person to decide."""


def _reasons() -> dict[int, str]:
    found: dict[int, str] = {}
    for numbers, offset, prefix in ((LocalReason, 0, ""), (Rejection, 0, ""), (Refusal, MESSAGE_REASON, "message ")):
        found |= {int(n) + offset: prefix + n.name.lower().replace("_", " ") for n in numbers}
    return found


REASONS = _reasons()
"""The name of each reason."""


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


# What may be taken after all

BLOCK = struct.Struct(">BI")
"""Record type and quarter, before the payload of a dead letter's block."""

_HELD_EXTRAS = 50
# So that a dead letter holds it; that many different values of a quarter tell enough.


def block_dead_letters(sender_time: EpochSeconds, blocks: Blocks, reason: int) -> list[DeadLetter]:
    """Return one dead letter for each block of quarantined slots; the same slots again make the same one."""
    row = blocks.extras["row"]
    first_ones = blocks.extras[np.arange(len(row)) - np.searchsorted(row, row) < _HELD_EXTRAS]
    few = Blocks(
        meter=blocks.meter,
        record_type=blocks.record_type,
        quarter=blocks.quarter,
        values=blocks.values,
        quality=blocks.quality,
        extras=first_ones,
    )
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


def quarantined_blocks(dead_letter: DeadLetter, account: int | None, record_types: Iterable[int]) -> Blocks | None:
    """Return the readings of a dead letter that a person may release; ``None``: it has none, or none that can be taken.

    Args:
        dead_letter: The dead letter, implausible or of a sender that may not hold the meter; its sender may have made
            it up.
        account: The account its meter is registered for; ``None``: any will do.
        record_types: What its meter records.
    """
    if dead_letter.reason not in (Rejection.IMPLAUSIBLE, LocalReason.NOT_ASSIGNED):
        return None
    types = tuple(map(RecordType, record_types))
    if dead_letter.log == DeadLetterSource.HISTORY and len(dead_letter.content) == HISTORY_BYTES:
        record = unpack_history(dead_letter.content)
        account = record.account if account is None else account
        expected = Expected(meter_id=dead_letter.meter, account=account, record_types=types, now=None)
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
class Kept:
    """A dead letter as a store keeps it.

    Attributes:
        no: Its number in the store.
        sender: The controller that sent or relayed it; a gateway's own dead letters have none.
        dead_letter: The letter.
        state: ``held``, ``released`` or ``refused`` where a person is to decide, else empty.
        decided: The decision in words: person, time and reason.
    """

    no: int
    sender: ControllerId = ""
    dead_letter: DeadLetter
    state: str = ""
    decided: str = ""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which dead letters are asked for.

    Attributes:
        meter: Only this meter's; ``None``: everybody's.
        reasons: Only of these reasons; empty: any.
        since: Only those that came then or later.
        state: Only in this state; empty: any.
    """

    meter: MeterId | None = None
    reasons: tuple[int, ...] = ()
    since: EpochSeconds = 0
    state: str = ""
