"""Dead letters in words: what each says, options that choose among them, rows and counts for people."""

from collections import Counter
from collections.abc import Callable, Sequence

from commonwatt.codec.packing import unpack
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.records import EVENT_BYTES, HISTORY_BYTES, Rejection, State, unpack_event, unpack_history
from commonwatt.model.units import QUARTER_S, EpochSeconds
from commonwatt.model.words import moment, near
from commonwatt.protocol.batches import MAX_LETTER_BYTES, Letter, unpack_batch, unpack_batch_ack
from commonwatt.protocol.commands import ControllerCommand, ControllerOutcome, Heartbeat, Outcome, unpack_json
from commonwatt.protocol.dead_letters import BLOCK, REASONS, Door, Kept, Wanted, door_text, reason_text
from commonwatt.protocol.messages import unpack_level, unpack_put

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
    if len(letter.content) <= BLOCK.size:
        return ""
    record_type, quarter = BLOCK.unpack_from(letter.content)
    try:
        blocks = unpack([(letter.meter, record_type, quarter)], [letter.content[BLOCK.size :]])
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


def row_of(kept: Kept) -> dict[str, object]:
    """Return a kept letter for JSON and tables."""
    letter = kept.letter
    return {
        "no": kept.no,
        "time": letter.time,
        "sender": kept.sender,
        "meter": str(letter.meter),
        "door": door_text(letter.log),
        "log": letter.log,
        "generation": letter.generation,
        "id": str(letter.record_id),
        "reason": letter.reason,
        "reason_text": reason_text(letter.reason),
        "state": kept.state,
        "decided": kept.decided,
        "told": told(letter),
        "content": letter.content.hex(),
    }


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
