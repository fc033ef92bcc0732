"""The guard: reads each connection's CONNECT within limits, and lets only proved identities through to amqtt.

Parsing and judging are pure and stand in ``connect``; here are the stream, the clock's limit, the counter and the log.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.connect import (
    MAX_CONNECT_BYTES,
    MAX_LENGTH_BYTES,
    AdmissionError,
    Refusal,
    connack,
    connect_for_broker,
    judge,
    parse_connect,
    remaining_length,
)
from broker.metrics import BrokerMetrics
from commonwatt.devices import Device

CONNECT_TIMEOUT_S = 5.0
"""Real seconds a client has to send its whole CONNECT."""

LOG_EVERY_S = 60.0
"""Real seconds between two lines in the log about the same identity refused for the same reason."""

MAX_LOGGED = 1_000
"""Identities and reasons told apart in the log; who comes beyond these shares one line for each reason."""

MAX_CLAIMED = 64
"""Characters of a claimed identity that are kept and shown."""

_CONNECT = b"\x10"
_OTHERS = "\0"  # No identity has a NUL.
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A connection that proved its identity.

    Attributes:
        device: Who it is.
        packet: The CONNECT to show amqtt in place of the client's.
        keepalive_s: Longest silence the client promised, in seconds; 0: it promised nothing.
    """

    device: Device
    packet: bytes
    keepalive_s: int


@dataclass
class _Logged:
    at: float
    more: int = 0


class RefusalLog:
    """Tells of refusals: the first of an identity and reason at once, the later ones at most once a minute.

    A client that knocks in a loop can't fill the disk, and one that invents identities can't fill the memory. The
    last "and N more" may stay unsaid once nobody knocks any more; the counters have them all.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        # Ordered by the time of the last line.
        self._logged: dict[tuple[str | None, Refusal], _Logged] = {}

    def __len__(self) -> int:
        """Return how many are told apart now."""
        return len(self._logged)

    def tell(self, peer: object, identity: str | None, refused: AdmissionError) -> None:
        """Log a refusal, or only count it."""
        now = self._now()
        key = (None if identity is None else identity[:MAX_CLAIMED], refused.reason)
        if key not in self._logged and len(self._logged) >= MAX_LOGGED:
            self._forget(now)
            if len(self._logged) >= MAX_LOGGED:
                key = (_OTHERS, refused.reason)
        logged = self._logged.get(key)
        if logged is not None and now - logged.at < LOG_EVERY_S:
            logged.more += 1
            return
        claimed = "" if identity is None else f" claiming {identity[:MAX_CLAIMED]!r}"
        more = f" ... and {logged.more} more" if logged is not None and logged.more else ""
        _log.warning("refused connection from %s%s: %s (%s)%s", peer, claimed, refused.reason.value, refused, more)
        self._logged.pop(key, None)
        self._logged[key] = _Logged(now)

    def _forget(self, now: float) -> None:
        """Make room: drop those whose last line is over a minute old."""
        for key, logged in list(self._logged.items()):
            if now - logged.at < LOG_EVERY_S:
                return
            del self._logged[key]
            if logged.more:
                whose = "" if key[0] in (None, _OTHERS) else f" claiming {key[0]!r}"
                _log.warning("refused connections%s: %s ... and %d more", whose, key[1].value, logged.more)


class Guard:
    """Judges connections.

    Attributes:
        devices: Returns the devices that may connect, by identity; asked once for each CONNECT.
        metrics: Where refusals are counted.
        timeout_s: Real seconds a client has for its CONNECT.
    """

    def __init__(
        self,
        devices: Callable[[], Mapping[str, Device]],
        metrics: BrokerMetrics,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        self.devices = devices
        self.metrics = metrics
        self.timeout_s = timeout_s
        self._log = RefusalLog()

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Admission | None:
        """Read and judge one CONNECT; ``None`` when refused, after telling the client. Closing is the caller's."""
        identity = None
        try:
            connect = parse_connect(await read_connect(reader, self.timeout_s))
            identity = connect.client_id
            device = judge(connect, self.devices())
        except AdmissionError as refused:
            self.metrics.refused_connects.labels(refused.reason.value).inc()
            self._log.tell(writer.get_extra_info("peername"), identity, refused)
            # Four bytes always fit the empty write buffer: nothing to wait for.
            if (answer := connack(refused.reason)) is not None and not writer.is_closing():
                writer.write(answer)
            return None
        packet = connect_for_broker(device.identity)
        return Admission(device=device, packet=packet, keepalive_s=connect.keepalive_s)


async def read_connect(reader: asyncio.StreamReader, timeout_s: float) -> bytes:
    """Read one CONNECT packet's bytes, and not one more.

    Raises:
        AdmissionError: It did not come whole within ``timeout_s`` seconds, is too big, or is no CONNECT.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await _read_packet(reader)
    except TimeoutError as error:
        raise AdmissionError(Refusal.TIMEOUT, f"no whole CONNECT within {timeout_s:g} s") from error
    except (asyncio.IncompleteReadError, OSError) as error:
        raise AdmissionError(Refusal.CLOSED, "connection closed before a whole CONNECT") from error


async def _read_packet(reader: asyncio.StreamReader) -> bytes:
    packet = await reader.readexactly(1)
    if packet != _CONNECT:
        raise AdmissionError(Refusal.GARBAGE, f"first byte {packet[0]:#04x} is no CONNECT's")
    for _ in range(MAX_LENGTH_BYTES):
        packet += await reader.readexactly(1)
        if packet[-1] < 0x80:
            break
    length, offset = remaining_length(packet)
    # Judged by what is announced: an oversize body is never read.
    if offset + length > MAX_CONNECT_BYTES:
        raise AdmissionError(Refusal.OVERSIZE, f"CONNECT of {offset + length} bytes announced")
    return packet + await reader.readexactly(length)
