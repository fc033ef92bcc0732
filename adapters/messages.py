"""Messages of foreign meters: as they arrived, recorded, handled, and what the core commits of them.

Which messages of foreign meters are committed though their broker may send them again (MQTT 3.1.1 and 5).
A broker sends a message of QoS 1 or 2 again, with its packet id and the flag DUP, until it has the acknowledgement. A
crash or a lost connection between commit and acknowledgement would count the message twice. So the adapter remembers
packet id and checksum of the messages that it handled last, and stores them with what it made of these messages.

- With DUP, the packet id and the checksum of a remembered message: it is that message, and changes nothing.
- Without DUP, or with another checksum: the broker has the acknowledgement, and uses the packet id for another message.
- With DUP and not remembered: it was never committed.
- A broker without our session has forgotten what it sent, and begins again with its packet ids.
"""

import base64
import json
import struct
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from adapters.energy.channel import Channel
from adapters.energy.counter import EpochMilliseconds
from commonwatt.device import changes as device
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.records import RecordType
from commonwatt.model.units import MAX_EPOCH, MeterId


class Arrived(NamedTuple):
    """A message of a foreign meter."""

    topic: str  # its topic
    payload: bytes  # its payload
    retained: bool  # whether it is an old message that the broker kept
    at: EpochMilliseconds  # when it arrived
    qos: int = 0  # its quality of service
    number: int = 0  # its packet id
    connection: int = 0  # the connection it came by
    session: int = 0  # the broker's session it came by; 0 is the one before the adapter's start
    dup: bool = False  # whether the broker may have sent it before (flag DUP)
    source: str = ""  # the name of the source that it came from


# Most messages that a broker of MQTT 5 may send before an acknowledgement; with 3.1.1 it is the broker's own limit.
MOST_IN_FLIGHT = 320
_REMEMBERED = 2 * MOST_IN_FLIGHT  # most remembered messages; with 6 bytes each they fit into a page of the store

_ENTRY = struct.Struct("<HI")


class Handled:
    """The messages handled last whose acknowledgement the broker may not have.

    Args:
        stored: What ``pack`` returned before the start; of the broker's present session, until it says otherwise.
    """

    def __init__(self, stored: bytes = b"") -> None:
        self._session = 0
        self._checksums: OrderedDict[int, int] = OrderedDict(_ENTRY.iter_unpack(stored))

    def begin(self, session: int) -> None:
        """Forget what an earlier session of the broker sent."""
        if session > self._session:
            self._session = session
            self._checksums.clear()

    def take(self, message: Arrived) -> bool:
        """Remember a message; return whether it was handled before."""
        self.begin(message.session)
        if not message.qos or message.session < self._session:
            return False
        checksum = zlib.crc32(message.payload, zlib.crc32(f"{message.topic}\0".encode()))
        before = self._checksums.pop(message.number, None)
        self._checksums[message.number] = checksum
        if len(self._checksums) > _REMEMBERED:
            self._checksums.popitem(last=False)
        return message.dup and before == checksum

    def pack(self) -> bytes:
        """Return the remembered messages for the store."""
        return b"".join(_ENTRY.pack(*entry) for entry in self._checksums.items())


class RecordedMessage(NamedTuple):
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


def messages_in(path: Path) -> Iterator[RecordedMessage]:
    """Yield the messages of a recording in a file; a payload may be any bytes.

    Raises:
        ConfigError: A line is no message; names the line.
        OSError: The file can't be read.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        yield from messages_of(lines)


def messages_of(lines: Iterable[str]) -> Iterator[RecordedMessage]:
    """Yield the messages of a recording."""
    for number, text in enumerate(lines, 1):
        line = text.rstrip("\n")
        if line.strip():
            yield _json_message(number, line) if line.startswith("{") else _plain_message(number, line)


def _json_message(number: int, line: str) -> RecordedMessage:
    try:
        fields = json.loads(line)
        payload = base64.b64decode(fields["base64"]) if "base64" in fields else str(fields["payload"]).encode()
        at = None if fields.get("time") is None else int(float(fields["time"]) * 1000)
        if at is not None and not is_time(at):
            raise ValueError(f"its time is not between 1970 and 2106: {fields['time']}")
        return RecordedMessage(
            number,
            str(fields["topic"]).encode().decode(),  # A topic is text.
            payload,
            at,
            bool(fields.get("retain")),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(f"line {number}: not a recorded message: {error}") from None


def _plain_message(number: int, line: str) -> RecordedMessage:
    topic, blank, payload = line.partition(" ")
    if not blank or not topic.isprintable():
        raise ConfigError(
            f"line {number}: not a topic and a payload, as mosquitto_sub -v prints them; payloads of several lines,"
            " such as telegrams, need a recording by: commonwatt adapter record"
        )
    # mosquitto_sub prints an empty payload so.
    return RecordedMessage(number, topic, b"" if payload == "(null)" else payload.encode(errors="surrogateescape"))


Key: TypeAlias = tuple[MeterId, RecordType]  # a channel: one record type of one meter


@dataclass(frozen=True, slots=True)
class ChannelChange:
    """A channel's new state; the last one of a commit counts."""

    key: Key
    channel: Channel


@dataclass(frozen=True, slots=True)
class HandledChange:
    """The messages that a broker may send again, with all of this commit."""

    source: str  # the name of the source whose broker sent them
    handled: Handled


AdapterChange: TypeAlias = (
    device.MeterChange | ChannelChange | HandledChange
)  # a change that an adapter commits to its store
