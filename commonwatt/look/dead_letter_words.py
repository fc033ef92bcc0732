"""Dead letters for people: content in words, filter options, table rows and counts."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from commonwatt.codec.packing import unpack
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.records import EVENT_BYTES, HISTORY_BYTES, Rejection, state_names, unpack_event, unpack_history
from commonwatt.model.text import moment, near, printable
from commonwatt.model.units import QUARTER_S, EpochSeconds, parse_id
from commonwatt.protocol.batches import unpack_batch, unpack_batch_ack
from commonwatt.protocol.commands import Outcome
from commonwatt.protocol.controller_commands import ControllerCommand, ControllerOutcome
from commonwatt.protocol.dead_letters import (
    BLOCK,
    MAX_DEAD_LETTER_BYTES,
    REASONS,
    DeadLetter,
    DeadLetterFilter,
    DeadLetterSource,
    KeptDeadLetter,
    reason_text,
    source_text,
)
from commonwatt.protocol.heartbeats import Heartbeat
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.meter_messages import unpack_level, unpack_put

_READERS: dict[int, Callable[[bytes], object]] = {
    DeadLetterSource.PUT_HISTORY: unpack_put,
    DeadLetterSource.PUT_EVENT: unpack_put,
    DeadLetterSource.LEVEL: unpack_level,
    DeadLetterSource.OUTCOME: lambda data: unpack_json(Outcome, data),
    DeadLetterSource.BATCH_ACK: unpack_batch_ack,
    DeadLetterSource.COMMAND: lambda data: unpack_json(ControllerCommand, data),
    DeadLetterSource.BATCH: unpack_batch,
    DeadLetterSource.STATUS: lambda data: unpack_json(Heartbeat, data),
    DeadLetterSource.GATEWAY_OUTCOME: lambda data: unpack_json(ControllerOutcome, data),
}
_JSON = (DeadLetterSource.OUTCOME, DeadLetterSource.COMMAND, DeadLetterSource.STATUS, DeadLetterSource.GATEWAY_OUTCOME)
_SHOWN_BYTES = 32


def told(dead_letter: DeadLetter) -> str:
    """Return a dead letter's content in words: a record's fields, or a message's fault and beginning."""
    content = dead_letter.content
    if dead_letter.log == DeadLetterSource.HISTORY and len(content) == HISTORY_BYTES:
        return _history(content, dead_letter)
    if dead_letter.log == DeadLetterSource.EVENT and len(content) == EVENT_BYTES:
        return _event(content, dead_letter)
    if dead_letter.log == DeadLetterSource.BLOCK and (text := _block(dead_letter)):
        return text
    if dead_letter.log == DeadLetterSource.LEVEL and dead_letter.reason == Rejection.IMPLAUSIBLE:
        level = unpack_level(content)
        return f"{near(level.time, dead_letter.time)}, {level.level} mWh"
    fault = _fault(dead_letter)
    return f"{fault}: {_begin(dead_letter)}" if fault else _begin(dead_letter)


def _history(content: bytes, dead_letter: DeadLetter) -> str:
    record = unpack_history(content)
    averaged = " averaged" if record.lossy else ""
    other = f"meter {record.meter_id}, " if record.meter_id != dead_letter.meter else ""
    when = f"{near(record.start, dead_letter.time)}-{near(record.end, record.start)}"
    account = f", account {record.account}" if dead_letter.reason == Rejection.WRONG_ACCOUNT else ""
    return f"{other}type {record.record_type}, {when}, {record.reading} mWh{averaged}{account}"


def _event(content: bytes, dead_letter: DeadLetter) -> str:
    event = unpack_event(content)
    other = f"meter {event.meter_id}, " if event.meter_id != dead_letter.meter else ""
    return f"{other}{near(event.time, dead_letter.time)}, {_bits(event.previous_state)} > {_bits(event.new_state)}"


def _block(dead_letter: DeadLetter) -> str:
    if len(dead_letter.content) <= BLOCK.size:
        return ""
    record_type, quarter = BLOCK.unpack_from(dead_letter.content)
    try:
        blocks = unpack([(dead_letter.meter, record_type, quarter)], [dead_letter.content[BLOCK.size :]])
    except ProtocolError:
        return ""
    start = quarter * QUARTER_S
    when = f"{near(start, dead_letter.time)}-{near(start + QUARTER_S, start)}"
    slots, most = int((blocks.quality > 0).sum()), int(blocks.values.max())
    return f"type {record_type}, {slots} {'slot' if slots == 1 else 'slots'} of {when}, at most {most} mWh"


def _fault(dead_letter: DeadLetter) -> str:
    """Parse a whole message again and return its fault."""
    reader = _READERS.get(dead_letter.log)
    if reader is None:
        return ""
    if len(dead_letter.content) >= MAX_DEAD_LETTER_BYTES:
        return "the first kilobyte"
    try:
        reader(dead_letter.content)
    except ProtocolError as error:
        return str(error)
    return ""


def _begin(dead_letter: DeadLetter) -> str:
    content = dead_letter.content
    shown = content[:_SHOWN_BYTES]
    text = shown.decode("ascii", "backslashreplace") if dead_letter.log in _JSON else shown.hex()
    # Received control characters must not reach a terminal.
    return printable(text) + (f"... ({len(content)} bytes)" if len(content) > _SHOWN_BYTES else "")


def _bits(state: int) -> str:
    return ", ".join(state_names(state)) or "none"


def row_of(kept: KeptDeadLetter) -> dict[str, Any]:
    """Return a stored dead letter for JSON and tables."""
    dead_letter = kept.dead_letter
    return {
        "no": kept.no,
        "time": dead_letter.time,
        "sender": kept.sender,
        "meter": str(dead_letter.meter),
        "source": source_text(dead_letter.log),
        "log": dead_letter.log,
        "generation": dead_letter.generation,
        "id": str(dead_letter.record_id),
        "reason": dead_letter.reason,
        "reason_text": reason_text(dead_letter.reason),
        "state": kept.state,
        "decided": kept.decided,
        "told": told(dead_letter),
        "content": dead_letter.content.hex(),
    }


def wanted(
    meter: str | None, reason: str | None, since: str | None, now: EpochSeconds, state: str = ""
) -> DeadLetterFilter:
    """Return the filter from the command's options.

    Args:
        meter: A meter's id in decimal.
        reason: A reason's name or number.
        since: A time (``parse_time``), or a time ago such as 90m, 24h or 7d.
        state: Only in this state; empty: any.

    Raises:
        ConfigError: An option is malformed.
    """
    if meter is not None and parse_id(meter) is None:
        raise ConfigError(f"meter: {meter!r:.40} is no meter's id")
    return DeadLetterFilter(
        meter=None if meter is None else parse_id(meter),
        reasons=() if reason is None else _numbers(reason),
        since=0 if since is None else _since(since, now),
        state=state,
    )


def _numbers(reason: str) -> tuple[int, ...]:
    asked = reason.lower().replace("_", " ").replace("-", " ").strip()
    found = tuple(number for number, name in REASONS.items() if asked in (name, str(number)))
    if not found:
        raise ConfigError(f"reason: {reason!r} is none; there are: {', '.join(sorted(set(REASONS.values())))}")
    return found


def _since(text: str, now: EpochSeconds) -> EpochSeconds:
    units = {"m": 60, "h": 3600, "d": 86_400}
    if text[:-1].isdecimal() and len(text) <= 10 and text[-1:] in units:
        return max(0, now - int(text[:-1]) * units[text[-1]])
    try:
        return parse_time(text, "since")
    except ConfigError as error:
        raise ConfigError(f"{error}, or a time ago, such as 90m, 24h or 7d") from error


def counts_of(rows: Sequence[tuple[int, str, int]]) -> list[dict[str, object]]:
    """Return the number of dead letters by reason and state, most first.

    Args:
        rows: (reason, state, how many).
    """
    sums: Counter[tuple[str, str]] = Counter()
    for reason, state, number in rows:
        sums[reason_text(reason), state] += number
    ordered = sorted(sums.items(), key=lambda item: (-item[1], item[0]))
    return [{"reason": reason, "state": state, "dead_letters": number} for (reason, state), number in ordered]


def text_of(when: EpochSeconds | None, who: str | None, why: str | None) -> str:
    """Return the decision on a dead letter in words: person, time and reason; empty: no decision."""
    return "" if when is None else f"{who}, {moment(when)}" + (f": {why}" if why else "")
