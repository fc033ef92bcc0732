"""Dead letters for people: where each came in, why it was not accepted, and what it says (design 4.4).

Gateway and utility keep them; ``commonwatt letters`` shows those of either.
"""

import struct
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum

from commonwatt.cli.tables import moment, near
from commonwatt.codec.packing import pack, unpack
from commonwatt.model.blocks import Blocks, from_records
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.records import (
    EVENT_BYTES,
    HISTORY_BYTES,
    Expected,
    RecordType,
    Rejection,
    State,
    judge_history,
    unpack_event,
    unpack_history,
)
from commonwatt.model.units import MAX_EPOCH, QUARTER_S, EpochSeconds, MeterId
from commonwatt.protocol.batches import MAX_LETTER_BYTES, MESSAGE_REASON, Letter, unpack_batch, unpack_batch_ack
from commonwatt.protocol.commands import ControllerCommand, ControllerOutcome, Heartbeat, Outcome, unpack_json
from commonwatt.protocol.messages import Refusal, unpack_level, unpack_put


class Door(IntEnum):
    """Where a letter came in: its ``log``. The first two are ``records.Log``; from 16 on it is a whole message."""

    UNKNOWN = 0
    """A stored part that was found damaged; or who wrote the letter did not say."""
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
    """Reasons of letters that are neither a ``Rejection`` nor 128 + ``Refusal``."""

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


def _reasons() -> dict[int, str]:
    found: dict[int, str] = {}
    for numbers, offset, prefix in ((LocalReason, 0, ""), (Rejection, 0, ""), (Refusal, MESSAGE_REASON, "message ")):
        found |= {int(n) + offset: prefix + n.name.lower().replace("_", " ") for n in numbers}
    return found


REASONS = _reasons()
"""The name of each reason."""


def reason_text(reason: int) -> str:
    """Return the name of a letter's reason."""
    return REASONS.get(reason, f"reason {reason}")


def door_text(log: int) -> str:
    """Return the name of the door a letter came in by."""
    return Door(log).name.lower().replace("_", " ") if log in Door.__members__.values() else f"log {log}"


# What may be taken after all

_BLOCK = struct.Struct(">BI")

_HELD_EXTRAS = 50
# So that a letter holds it; that many different values of a quarter tell enough.


def block_letters(sender_time: EpochSeconds, blocks: Blocks, reason: Rejection) -> list[Letter]:
    """Return one letter for each block of slots that were set apart; the same slots again are the same letter."""
    letters = []
    for row, (meter, record_type, quarter) in enumerate(blocks.keys()):
        one = blocks.take([row])
        few = Blocks(one.meter, one.record_type, one.quarter, one.values, one.quality, one.extras[:_HELD_EXTRAS])
        content = _BLOCK.pack(record_type, quarter) + pack(few)[0]
        letters.append(
            Letter(
                meter=meter,
                log=Door.BLOCK,
                reason=reason,
                generation=0,
                record_id=quarter,
                time=sender_time,
                content=content,
            )
        )
    return letters


def held_blocks(letter: Letter, account: int | None, record_types: Iterable[int]) -> Blocks | None:
    """Return the readings of a letter that is held for being implausible alone; ``None``: it is not.

    Args:
        letter: The letter; who relayed it may have made it up.
        account: The account its meter is registered for; ``None``: any will do.
        record_types: What its meter records.
    """
    if letter.reason != Rejection.IMPLAUSIBLE:
        return None
    types = tuple(map(RecordType, record_types))
    if letter.log == Door.HISTORY and len(letter.content) == HISTORY_BYTES:
        record = unpack_history(letter.content)
        account = record.account if account is None else account
        expected = Expected(meter_id=letter.meter, account=account, record_types=types, now=None)
        return from_records([record]) if judge_history(record, expected) is None else None
    if letter.log == Door.BLOCK and len(letter.content) > _BLOCK.size:
        record_type, quarter = _BLOCK.unpack_from(letter.content)
        if record_type not in types or quarter > MAX_EPOCH // QUARTER_S:
            return None
        try:
            return unpack([(letter.meter, record_type, quarter)], [letter.content[_BLOCK.size :]])
        except ProtocolError:
            return None
    return None


# What a letter says

_READERS: dict[int, Callable[[bytes], object]] = {
    Door.PUT_HISTORY: unpack_put,
    Door.PUT_EVENT: unpack_put,
    Door.LEVEL: unpack_level,
    Door.OUTCOME: lambda data: unpack_json(Outcome, data),
    Door.BATCH_ACK: unpack_batch_ack,
    Door.COMMAND: lambda data: unpack_json(ControllerCommand, data),
    Door.BATCH: unpack_batch,
    Door.STATUS: lambda data: unpack_json(Heartbeat, data),
    Door.GATEWAY_OUTCOME: lambda data: unpack_json(ControllerOutcome, data),
}
_JSON = (Door.OUTCOME, Door.COMMAND, Door.STATUS, Door.GATEWAY_OUTCOME)
_SHOWN_BYTES = 32


def told(letter: Letter) -> str:
    """Say in words what a letter holds: a record's fields; of a message what is wrong with it, and how it begins."""
    content = letter.content
    if letter.log == Door.HISTORY and len(content) == HISTORY_BYTES:
        return _history(content, letter)
    if letter.log == Door.EVENT and len(content) == EVENT_BYTES:
        return _event(content, letter)
    if letter.log == Door.BLOCK and (text := _block(letter)):
        return text
    if letter.log == Door.LEVEL and letter.reason == Rejection.IMPLAUSIBLE:
        level = unpack_level(content)
        return f"{near(level.time, letter.time)}, {level.level} mWh"
    fault = _fault(letter)
    return f"{fault}: {_begin(letter)}" if fault else _begin(letter)


def _history(content: bytes, letter: Letter) -> str:
    record = unpack_history(content)
    averaged = " averaged" if record.lossy else ""
    other = f"meter {record.meter_id}, " if record.meter_id != letter.meter else ""
    when = f"{near(record.start, letter.time)}-{near(record.end, record.start)}"
    account = f", account {record.account}" if letter.reason == Rejection.WRONG_ACCOUNT else ""
    return f"{other}type {record.record_type}, {when}, {record.reading} mWh{averaged}{account}"


def _event(content: bytes, letter: Letter) -> str:
    event = unpack_event(content)
    other = f"meter {event.meter_id}, " if event.meter_id != letter.meter else ""
    return f"{other}{near(event.time, letter.time)}, {_bits(event.previous_state)} > {_bits(event.new_state)}"


def _block(letter: Letter) -> str:
    if len(letter.content) <= _BLOCK.size:
        return ""
    record_type, quarter = _BLOCK.unpack_from(letter.content)
    try:
        blocks = unpack([(letter.meter, record_type, quarter)], [letter.content[_BLOCK.size :]])
    except ProtocolError:
        return ""
    start = quarter * QUARTER_S
    when = f"{near(start, letter.time)}-{near(start + QUARTER_S, start)}"
    slots, most = int((blocks.quality > 0).sum()), int(blocks.values.max())
    return f"type {record_type}, {slots} {'slot' if slots == 1 else 'slots'} of {when}, at most {most} mWh"


def _fault(letter: Letter) -> str:
    """Read a whole message once more, to say what is wrong with it."""
    reader = _READERS.get(letter.log)
    if reader is None:
        return ""
    if len(letter.content) >= MAX_LETTER_BYTES:
        return "the first kilobyte"
    try:
        reader(letter.content)
    except ProtocolError as error:
        return str(error)
    return ""


def _begin(letter: Letter) -> str:
    content = letter.content
    shown = content[:_SHOWN_BYTES]
    text = shown.decode("ascii", "backslashreplace") if letter.log in _JSON else shown.hex()
    # What a stranger sent is not to move a terminal's cursor.
    text = "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)
    return text + (f"... ({len(content)} bytes)" if len(content) > _SHOWN_BYTES else "")


def _bits(state: int) -> str:
    names = [bit.name.lower() for bit in State if bit & state and bit.name]
    unknown = state & ~sum(State)
    return ", ".join([*names, *([f"{unknown:#06x}"] if unknown else [])]) or "none"


# Lists of letters


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A letter as a store keeps it.

    Attributes:
        no: Its number in the store.
        sender: Who sent or relayed it; a gateway's own letters have none.
        letter: The letter.
        state: ``held``, ``released`` or ``refused`` where a person is to decide, else empty.
        decided: Who decided, when and why, for people.
    """

    no: int
    sender: str = ""
    letter: Letter
    state: str = ""
    decided: str = ""

    def row(self) -> dict[str, object]:
        """Return it for JSON and tables."""
        letter = self.letter
        return {
            "no": self.no,
            "time": letter.time,
            "sender": self.sender,
            "meter": str(letter.meter),
            "door": door_text(letter.log),
            "log": letter.log,
            "generation": letter.generation,
            "id": str(letter.record_id),
            "reason": letter.reason,
            "reason_text": reason_text(letter.reason),
            "state": self.state,
            "decided": self.decided,
            "told": told(letter),
            "content": letter.content.hex(),
        }


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which letters are asked for.

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


def wanted(meter: str | None, reason: str | None, since: str | None, now: EpochSeconds, state: str = "") -> Wanted:
    """Return what a person's options ask for.

    Args:
        meter: A meter's id in decimal.
        reason: A reason's name or number.
        since: Epoch seconds, or a time ago such as 90m, 24h or 7d.
        now: The time.
        state: Only in this state; empty: any.

    Raises:
        ConfigError: One of them is none.
    """
    if meter is not None and not (meter.isdecimal() and int(meter) < 2**64):
        raise ConfigError(f"--meter: {meter!r} is no meter's id")
    return Wanted(
        meter=None if meter is None else int(meter),
        reasons=() if reason is None else _numbers(reason),
        since=0 if since is None else _since(since, now),
        state=state,
    )


def _numbers(reason: str) -> tuple[int, ...]:
    asked = reason.lower().replace("_", " ").replace("-", " ").strip()
    found = tuple(number for number, name in REASONS.items() if asked in (name, str(number)))
    if not found:
        raise ConfigError(f"--reason: {reason!r} is none; there are: {', '.join(sorted(set(REASONS.values())))}")
    return found


def _since(text: str, now: EpochSeconds) -> EpochSeconds:
    units = {"m": 60, "h": 3600, "d": 86_400}
    if text.isdecimal() and len(text) <= 10:
        return int(text)
    if text[:-1].isdecimal() and len(text) <= 10 and text[-1:] in units:
        return max(0, now - int(text[:-1]) * units[text[-1]])
    raise ConfigError(f"--since: {text!r} is neither epoch seconds nor a time ago, such as 90m, 24h or 7d")


def counts_of(rows: Sequence[tuple[int, str, int]]) -> list[dict[str, object]]:
    """Return how many letters there are by reason and state, most first.

    Args:
        rows: (reason, state, how many).
    """
    sums: Counter[tuple[str, str]] = Counter()
    for reason, state, number in rows:
        sums[reason_text(reason), state] += number
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [{"reason": reason, "state": state, "letters": number} for (reason, state), number in ordered]


def text_of(when: EpochSeconds | None, who: str | None, why: str | None) -> str:
    """Say who decided on a letter, when and why; nothing, when nobody has."""
    return "" if when is None else f"{who}, {moment(when)}" + (f": {why}" if why else "")
