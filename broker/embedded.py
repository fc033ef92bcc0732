"""The embedded broker: our listener and guard in front of amqtt, with one connection per identity.

A newer connection of an identity replaces the older one. amqtt gets the newer only when the older has ended: amqtt's
own take-over leaves the older connection able to publish.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from amqtt.errors import ProtocolHandlerError  # type: ignore[import-untyped]

from broker.amqtt_broker import LISTENER, Admitted, QuietBroker
from broker.connect import AdmissionError, ConnectRefusal
from broker.listener import CONNECT_TIMEOUT_S, RESERVED_FILES, Admission, AdmittedDevices, Guard, Listener, ThrottledLog
from broker.metrics import BrokerMetrics
from broker.packets import Cut
from broker.streams import ClientReader, ClientWriter
from broker.tls import BrokerTls, Files
from commonwatt.identity.devices import Device, DeviceRole
from commonwatt.network.addresses import split_address
from commonwatt.network.lte import ByteTally
from commonwatt.protocol.heartbeats import LineByteCount
from commonwatt.protocol.topics import broker_up
from commonwatt.runtime.fair_queue import Bucket

PACKETS_PER_S = 100.0  # MQTT packets a meter may send in a real second, in the long run
SILENCE_FACTOR = 1.5  # a client silent for this many of its keepalives is treated as gone (MQTT 3.1.1, 3.1.2.10)
CLOSE_TIMEOUT_S = 1.0  # real seconds a closing connection has to receive its buffered data
TAKEOVER_TIMEOUT_S = 3.0  # real seconds a replaced connection has to end; it normally needs a few milliseconds
STOP_TIMEOUT_S = 0.8  # real seconds each of the two steps of stopping may take
# Packets of an identity's allowance that one connection costs, as it causes that much work and log.
CONNECT_PACKETS = 20
TELL_EVERY_S = 15.0  # real seconds between two reports to the gateway of the byte count of the meters' connections
# Bytes allowed for each packet allowed: a put of a thousand records, the largest, is 36 kB and rare.
PACKET_BYTES = 4096
BURST_S = 10.0  # seconds' worth of its rate that a client may send at once after it was quiet
CHECK_EVERY_S = 2.0  # real seconds between two checks of connected devices: a revoked one is disconnected within them

_log = logging.getLogger(__name__)


class PacketAllowance:
    """The rate limit of one identity, in packets and in bytes, across its connections.

    A client that exceeds it is not disconnected but read later: its packets wait in its own send buffer, by TCP's flow
    control.
    """

    def __init__(self, packets_per_s: float, now: float) -> None:
        bytes_per_s = packets_per_s * PACKET_BYTES
        self._packets = Bucket(packets_per_s, packets_per_s * BURST_S, packets_per_s * BURST_S, now)
        self._bytes = Bucket(bytes_per_s, bytes_per_s * BURST_S, bytes_per_s * BURST_S, now)

    def take(self, packets: int, size: int, now: float) -> float:
        """Take ``packets`` of ``size`` bytes in all; return the seconds to wait before the next are read."""
        return max(self._packets.take(packets, now), self._bytes.take(size, now))


@dataclass(eq=False)
class _Connection:
    """One admitted connection."""

    device: Device
    stream: asyncio.StreamWriter
    writer: ClientWriter
    task: asyncio.Task[None] | None
    finished: asyncio.Event = field(default_factory=asyncio.Event)


class EmbeddedBroker:
    """A broker on one address.

    Args:
        address: Where to listen, HOST:PORT; port 0 takes a free one.
        metrics: Its counters and gauges, of a registry of its own.
        packets_per_s: MQTT packets a meter may send in a real second, in the long run.
        connect_timeout_s: Real seconds a client has for its TLS handshake and its CONNECT together.
        tls: Its certificates; ``None``: connections without TLS.
    """

    amqtt: QuietBroker  # the amqtt broker, after ``start``

    def __init__(
        self,
        address: str,
        devices: Path,
        metrics: BrokerMetrics,
        packets_per_s: float = PACKETS_PER_S,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        tls: Files | None = None,
    ) -> None:
        self.address = address  # where it listens, HOST:PORT
        self.metrics = metrics  # its counters and gauges
        self.devices = AdmittedDevices(devices, metrics)  # the devices that may connect
        self._packets_per_s = packets_per_s
        self._tls = None if tls is None else BrokerTls(tls, metrics)
        self._guard = Guard(self._refreshed_devices, metrics, connect_timeout_s, self._proved)
        self._line = ByteTally()
        self._listener = Listener(self._serve, self._guard, metrics, self._tls, self._line)
        self._admitted = Admitted(metrics)
        self._allowances: dict[str, PacketAllowance] = {}
        self._throttled = ThrottledLog(_log)
        # Separate from clients' errors: the connections of a whole town must not displace these.
        self._comings = ThrottledLog(_log, level=logging.INFO)
        self._connections: dict[str, _Connection] = {}
        self._serving: dict[str, _Connection] = {}
        self._checks: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the devices and listen.

        Raises:
            ConfigError: The devices file or a certificate can't be used.
            OSError: The address can't be listened on.
        """
        self.devices.load()
        if self._tls is not None:
            self._tls.load()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(partial(_orphan_failed, loop.get_exception_handler()))
        self.amqtt = QuietBroker(self._admitted)
        await self.amqtt.start()
        self._check_open_files()
        try:
            port = await self._listener.open(*split_address(self.address))
        except OSError:
            await self.amqtt.shutdown()
            raise
        self.address = f"{self.address.rpartition(':')[0]}:{port}"
        self._checks = asyncio.get_running_loop().create_task(self._check_often())

    def _check_open_files(self) -> None:
        if self._listener.capacity < len(self.devices.known):
            _log.error(
                "%d devices may connect and only %d connections can be open (%d files are kept for other things); "
                "allow more open files (LimitNOFILE, ulimit -n)",
                len(self.devices.known),
                self._listener.capacity,
                RESERVED_FILES,
            )

    async def stop(self) -> None:
        """Stop listening, end every connection, stop amqtt; within five ``STOP_TIMEOUT_S``, however clients behave."""
        if self._checks is not None:
            self._checks.cancel()
        await self._listener.close()
        # The meters' connections first: the last byte count that the gateways get includes their end.
        gateways = {c.task for c in self._connections.values() if c.device.role is not DeviceRole.METER}
        await self._end(self._listener.tasks - gateways)
        self._report_byte_count()
        await asyncio.sleep(0)  # The byte count is sent to the gateways before their connections close.
        await self._end(set(self._listener.tasks))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.amqtt.shutdown()

    async def _end(self, tasks: set[asyncio.Task[None]]) -> None:
        """End connections: admitted ones close after sending buffered data; after ``STOP_TIMEOUT_S`` all are cut."""
        admitted = [c for c in self._connections.values() if c.task in tasks]
        for connection in admitted:
            await connection.writer.close()
        for task in tasks - {c.task for c in admitted}:
            task.cancel()  # Not admitted yet.
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks, timeout=STOP_TIMEOUT_S)

    def status(self) -> dict[str, object]:
        """Return the content of /status."""
        return {
            "listening": self.address,
            "devices": len(self.devices.known),
            "connections": len(self._connections),
            "connects": self.metrics.value("commonwatt_broker_connects_total"),
            "messages_in": self.metrics.value("commonwatt_broker_messages_total", direction="in"),
            "messages_out": self.metrics.value("commonwatt_broker_messages_total", direction="out"),
            "devices_file_errors": self.metrics.value("commonwatt_broker_devices_file_errors_total"),
        }

    def accepting(self) -> object:
        """Return ``None`` while connections are accepted, otherwise the reason, for a watchdog."""
        return self._listener.accepting()

    def checking(self) -> object:
        """Return ``None`` while connected devices are checked, otherwise the reason, for a watchdog."""
        return "its loop has ended" if self._checks is None or self._checks.done() else None

    def _refreshed_devices(self, *, anew: bool = False) -> Mapping[str, Device]:
        """Read the devices file if it changed; cut the connections of devices that were removed, revoked or changed."""
        before = self.devices.known
        known = self.devices.refreshed(anew=anew)
        if known is not before:
            for identity, connection in self._connections.items():
                if (now := known.get(identity)) != connection.device:
                    revoked = now is not None and now.revoked
                    text = f"it was revoked: {revoked}" if revoked else "its registration changed"
                    connection.writer.cut(Cut.REVOKED if revoked else Cut.REGISTRATION, text)
            self._allowances.clear()
        return known

    def _proved(self, stream: asyncio.StreamWriter) -> str | None:
        return None if self._tls is None else self._tls.proved(stream)

    async def _check_often(self) -> None:
        """Disconnect revoked devices and expired certificates, without waiting for a connection."""
        told_at = 0.0
        while True:
            await asyncio.sleep(CHECK_EVERY_S)
            try:
                if time.monotonic() - told_at >= TELL_EVERY_S:
                    told_at = time.monotonic()
                    self._report_byte_count()
                self._check()
            except Exception:
                self.metrics.connection_errors.inc()
                _log.exception("the check of connected devices failed")

    def _report_byte_count(self) -> None:
        """Send the connected gateways the byte count of the meters' connections on the line."""
        total = self._line.total()
        self.metrics.line_use(total)
        told = LineByteCount(run=self._line.run, sent=total.sent, received=total.received).pack()
        for connection in list(self._serving.values()):
            if connection.device.role is DeviceRole.GATEWAY:
                self.amqtt.say(broker_up(connection.device.microgrid), told)

    def _check(self) -> None:
        try:
            self._refreshed_devices(anew=True)
            if self._tls is not None:
                self._tls.refresh()
        finally:  # Even if new files can't be read, connections are checked by the previous ones.
            self._cut_unproved()

    def _cut_unproved(self) -> None:
        """Cut the connections whose certificate is no longer valid."""
        for connection in self._connections.values():
            if connection.stream.is_closing():
                continue  # asyncio no longer tells its certificate
            try:
                self._proved(connection.stream)
            except AdmissionError as refused:
                revoked = refused.reason is ConnectRefusal.REVOKED
                connection.writer.cut(Cut.REVOKED if revoked else Cut.EXPIRED, str(refused))

    def _cut(self, identity: str, reason: Cut, text: str) -> None:
        """Count and log that a connection is cut."""
        self.metrics.cuts.labels(reason.value).inc()
        self._throttled.tell(identity, f"cut: {reason.value}", f"cutting {identity}: {reason.value} ({text})")

    def _allowance(self, device: Device) -> PacketAllowance:
        """Return a device's allowance: a gateway has one share for each of its meters, the utility for each gateway."""
        if device.identity not in self._allowances:
            below = {DeviceRole.GATEWAY: (DeviceRole.METER,), DeviceRole.UTILITY: (DeviceRole.GATEWAY,)}.get(
                device.role, ()
            )
            known = self.devices.known.values()
            count = sum(d.role in below and device.microgrid in ("", d.microgrid) for d in known)
            rate = self._packets_per_s * (1 + count)
            self._allowances[device.identity] = PacketAllowance(rate, time.monotonic())
        return self._allowances[device.identity]

    def _hold_back_s(self, device: Device, size: int, packets: int = 1) -> float:
        """Take from a device's allowance; return the real seconds for which to delay the device."""
        seconds = self._allowance(device).take(packets, size, time.monotonic())
        if seconds > 0:
            self.metrics.held_back.inc()
            line = f"holding back {device.identity}: it sends more than it may (packets_per_s)"
            self._throttled.tell(device.identity, "held back", line)
        return seconds

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: float) -> None:
        """Serve one connection from its first byte to its last; its errors do not affect others."""
        peer = writer.get_extra_info("peername") or ("unknown", 0)
        try:
            admission = await self._guard.admit(reader, writer, ends)
            self._listener.waits_no_more(asyncio.current_task())
            if admission is not None:
                await self._serve_admitted(admission, reader, writer)
        except Exception:
            self.metrics.connection_errors.inc()
            _log.exception("connection from %s ended by an error", peer)
        finally:
            await _close(writer)

    async def _serve_admitted(
        self, admission: Admission, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        identity = admission.device.identity
        if admission.device.role is not DeviceRole.METER:
            # The gateway, or the utility's service: its bytes are not on the meters' line.
            self._line.leave_out(writer.get_extra_info("socket").fileno())
        client_writer = ClientWriter(writer, partial(self._cut, identity))
        silence_s = SILENCE_FACTOR * admission.keepalive_s or None
        hold_back_s = partial(self._hold_back_s, admission.device)
        client_reader = ClientReader(admission.packet, reader, client_writer, silence_s, hold_back_s)
        connection = _Connection(admission.device, writer, client_writer, asyncio.current_task())
        previous = self._connections.get(identity)
        self._connections[identity] = connection
        self.metrics.connects.inc()
        self.metrics.connections.set(len(self._connections))
        # Charged before any work for it, so that a connection that is replaced while it waits is charged as well.
        wait_s = self._hold_back_s(admission.device, len(admission.packet), CONNECT_PACKETS)
        try:
            if previous is not None:
                self._replace(identity, previous)
            if (serving := self._serving.get(identity)) is not None:
                await self._until_gone(identity, serving)
            await asyncio.sleep(wait_s)
            if client_writer.closed:
                return  # Cut while it waited.
            self._serving[identity] = connection
            self._admitted.devices[identity] = admission.device
            self._comings.tell(identity, "connected", f"{identity} connected from {client_writer.get_peer_info()}")
            await self.amqtt.external_connected(client_reader, client_writer, LISTENER)
        finally:
            client_writer.closed = True
            # The traceback of a cancelled task references the previous connection, which references its own, and so on.
            connection.task = None
            if self._connections.get(identity) is connection:
                del self._connections[identity]
            self.metrics.connections.set(len(self._connections))
            # Not if a successor stopped waiting for this one: amqtt's session is then the successor's.
            if self._serving.get(identity) is connection:
                self._comings.tell(identity, "disconnected", f"{identity} disconnected")
                del self._serving[identity]
                del self._admitted.devices[identity]
                await self.amqtt.forget(identity)
            connection.finished.set()

    def _replace(self, identity: str, previous: _Connection) -> None:
        """Abort the previous connection of an identity, without waiting for its end."""
        self.metrics.takeovers.inc()
        peer = previous.writer.get_peer_info()
        self._comings.tell(
            identity, "connects again", f"{identity} connects again: replacing its connection from {peer}"
        )
        previous.writer.abort()
        if previous.task is not None and self._serving.get(identity) is not previous:
            previous.task.cancel()  # It has not been served yet, and would otherwise wait until then.

    async def _until_gone(self, identity: str, serving: _Connection) -> None:
        """Wait until amqtt has finished with the replaced connection."""
        try:
            async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
                await serving.finished.wait()
        except TimeoutError:
            _log.error("the replaced connection of %s did not end; cancelling it", identity)
            if serving.task is not None:
                serving.task.cancel()


_Handler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]


def _orphan_failed(others: _Handler | None, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report the failure of a background task, unless its client has disconnected."""
    if isinstance(context.get("exception"), ProtocolHandlerError | ConnectionError):
        # amqtt answers each packet in a task of its own; cutting a client that floods would log thousands of these.
        _log.debug("an answer was not sent: %s", context["exception"])
    elif others is not None:
        others(loop, context)
    else:
        loop.default_exception_handler(context)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection after its buffered data is sent, or after ``CLOSE_TIMEOUT_S``."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await writer.wait_closed()
    except OSError:  # A TimeoutError is one.
        writer.transport.abort()
