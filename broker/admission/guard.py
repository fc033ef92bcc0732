"""The guard: reads each connection's CONNECT within limits, and admits only authenticated identities to amqtt.

Parsing and checking are pure and in ``connect``; here are the stream, the timeout, the counter and the log.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.admission.connect import (
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
from broker.admission.log_throttle import MAX_SHOWN, ThrottledLog
from broker.metrics import BrokerMetrics
from commonwatt.identity.devices import Device

CONNECT_TIMEOUT_S = 5.0  # real seconds from accepting a connection until its CONNECT must be complete

_CONNECT = b"\x10"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Admission:
    """A connection whose identity is authenticated."""

    device: Device  # the admitted device
    packet: bytes  # the CONNECT that amqtt gets in place of the client's
    keepalive_s: int  # the client's keepalive, in seconds; 0: none


class Guard:
    """Admits or refuses connections."""

    def __init__(
        self,
        devices: Callable[[], Mapping[str, Device]],
        metrics: BrokerMetrics,
        timeout_s: float = CONNECT_TIMEOUT_S,
        proved: Callable[[asyncio.StreamWriter], str | None] = lambda _: None,
    ) -> None:
        # Returns the identity that the certificate of a connection proves; ``None``: none is required.
        self.proved = proved
        self.devices = devices  # returns the devices that may connect, by identity; called once for each CONNECT
        self.metrics = metrics  # where refusals are counted
        self.timeout_s = timeout_s  # real seconds a client has for its TLS handshake and its CONNECT
        self._throttled = ThrottledLog(_log)

    async def admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: float) -> Admission | None:
        """Read and check one CONNECT; ``None``: it is refused, with a CONNACK if any. The caller closes the connection.

        Args:
            ends: The loop's time by which the CONNECT must be complete.
        """
        identity = None
        try:
            connect = parse_connect(await read_connect(reader, ends))
            identity = connect.client_id
            device = judge(connect, self.devices(), self.proved(writer))
        except AdmissionError as refused:
            self.refuse(writer.get_extra_info("peername"), identity, refused)
            # Four bytes always fit the empty write buffer: nothing to wait for.
            if (answer := connack(refused.reason)) is not None and not writer.is_closing():
                writer.write(answer)
            return None
        packet = connect_for_broker(device.identity)
        return Admission(device=device, packet=packet, keepalive_s=connect.keepalive_s)

    def refuse(self, peer: object, identity: str | None, refused: AdmissionError) -> None:
        """Count and log one refusal."""
        self.metrics.refused_connects.labels(refused.reason.value).inc()
        claimed = "" if identity is None else f" claiming {identity[:MAX_SHOWN]!r}"
        line = f"refused connection from {peer}{claimed}: {refused.reason.value} ({refused})"
        self._throttled.tell(identity, f"refused connections: {refused.reason.value}", line)


async def read_connect(reader: asyncio.StreamReader, ends: float) -> bytes:
    """Read one CONNECT packet's bytes, and not one more."""
    try:
        async with asyncio.timeout_at(ends):
            return await _read_packet(reader)
    except TimeoutError as error:
        raise AdmissionError(Refusal.TIMEOUT, "no whole CONNECT in time") from error
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
    # The announced length is checked: an oversize body is never read.
    if offset + length > MAX_CONNECT_BYTES:
        raise AdmissionError(Refusal.OVERSIZE, f"CONNECT of {offset + length} bytes announced")
    return packet + await reader.readexactly(length)
