"""Recorded messages: JSON lines of ``commonwatt adapter record``, or the output of ``mosquitto_sub -v``."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from adapters.arrived import Arrived
from adapters.energy.spread import EpochMilliseconds
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MAX_EPOCH


class Recorded(NamedTuple):
    """A recorded message."""

    line: int  # its line in the file, from 1
    topic: str  # its topic
    payload: bytes  # its payload
    at: EpochMilliseconds | None = None  # when it arrived; ``None``: not recorded
    retained: bool = False  # whether the broker had kept it


def is_time(at: EpochMilliseconds) -> bool:
    """Return whether a record can name a time."""
    return 0 <= at <= MAX_EPOCH * 1000


def line_of(message: Arrived) -> str:
    """Return a message as a line of a recording; a payload that is no text in base64."""
    fields: dict[str, object] = {"time": message.at / 1000, "topic": message.topic}
    try:
        fields["payload"] = message.payload.decode()
    except UnicodeDecodeError:
        fields["base64"] = base64.b64encode(message.payload).decode()
    if message.retained:
        fields["retain"] = True
    return json.dumps(fields, ensure_ascii=False)


def messages_in(path: Path) -> Iterator[Recorded]:
    """Yield the messages of a recording in a file; a payload may be any bytes.

    Raises:
        ConfigError: A line is no message; names the line.
        OSError: The file can't be read.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        yield from messages_of(lines)


def messages_of(lines: Iterable[str]) -> Iterator[Recorded]:
    """Yield the messages of a recording."""
    for number, text in enumerate(lines, 1):
        line = text.rstrip("\n")
        if line.strip():
            yield _json_message(number, line) if line.startswith("{") else _plain_message(number, line)


def _json_message(number: int, line: str) -> Recorded:
    try:
        fields = json.loads(line)
        payload = base64.b64decode(fields["base64"]) if "base64" in fields else str(fields["payload"]).encode()
        at = None if fields.get("time") is None else int(float(fields["time"]) * 1000)
        if at is not None and not is_time(at):
            raise ValueError(f"its time is not between 1970 and 2106: {fields['time']}")
        return Recorded(
            number,
            str(fields["topic"]).encode().decode(),  # A topic is text.
            payload,
            at,
            bool(fields.get("retain")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"line {number}: not a recorded message: {error}") from None


def _plain_message(number: int, line: str) -> Recorded:
    topic, blank, payload = line.partition(" ")
    if not blank or not topic.isprintable():
        raise ConfigError(
            f"line {number}: not a topic and a payload, as mosquitto_sub -v prints them; payloads of several lines,"
            " such as telegrams, need a recording by: commonwatt adapter record"
        )
    # mosquitto_sub prints an empty payload so.
    return Recorded(number, topic, b"" if payload == "(null)" else payload.encode(errors="surrogateescape"))
