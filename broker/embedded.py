"""The embedded broker: our own server and guard in front, amqtt behind, one connection per identity.

A newer connection of an identity replaces the older one, and amqtt sees the newer only when the older is gone: its
own take-over leaves the older connection able to publish.
"""

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from amqtt.errors import ProtocolHandlerError  # type: ignore[import-untyped]

from broker.amqtt_broker import LISTENER, QuietBroker
from broker.guard import CONNECT_TIMEOUT_S, Admission, Guard
from broker.known import KnownDevices
from broker.metrics import BrokerMetrics
from broker.plugins import Admitted
from broker.rules import Action
from broker.streams import ClientReader, ClientWriter
from commonwatt.config import split_address
from commonwatt.devices import Device

SILENCE_FACTOR = 1.5
"""A client silent for this many of its keepalives is taken for gone (MQTT 3.1.1, 3.1.2.10)."""

CLOSE_TIMEOUT_S = 1.0
"""Real seconds a closing connection has to take what is buffered for it."""

TAKEOVER_TIMEOUT_S = 3.0
"""Real seconds a replaced connection has to end; it normally needs a few milliseconds."""

STOP_TIMEOUT_S = 1.5
"""Real seconds each of the two steps of stopping may take."""

READ_BUFFER_BYTES = 1 << 14
"""Bytes read ahead from one client (twice this at most); a longer message is still read whole."""

_log = logging.getLogger(__name__)


class _Connection:
    """One admitted connection."""

    def __init__(self, admission: Admission, writer: ClientWriter, task: asyncio.Task[None] | None) -> None:
        self.device = admission.device
        self.writer = writer
        self.task = task
        self.finished = asyncio.Event()


class EmbeddedBroker:
    """A broker on one address.

    Attributes:
        address: Where it listens, HOST:PORT.
        devices: Who may connect.
        metrics: What it counts.
        amqtt: The broker behind, while it runs.
    """

    amqtt: QuietBroker

    def __init__(
        self,
        address: str,
        devices: Path,
        metrics: BrokerMetrics,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> None:
        """Store the arguments.

        Args:
            address: Where to listen, HOST:PORT; port 0 takes a free one.
            devices: The devices file.
            metrics: Where to count.
            connect_timeout_s: Real seconds a client has for its CONNECT.
        """
        self.address = address
        self.metrics = metrics
        self.devices = KnownDevices(devices, metrics)
        self._guard = Guard(self._refreshed_devices, metrics, connect_timeout_s)
        self._admitted = Admitted(metrics)
        self._connections: dict[str, _Connection] = {}
        self._serving: dict[str, _Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Read the devices and listen.

        Raises:
            ConfigError: The devices file can't be used.
            OSError: The address can't be listened on.
        """
        self.devices.load()
        asyncio.get_running_loop().set_exception_handler(_orphan_failed)
        self.amqtt = QuietBroker(self._admitted)
        await self.amqtt.start()
        host, port = split_address(self.address)
        try:
            self._server = await asyncio.start_server(self._connected, host, port, limit=READ_BUFFER_BYTES)
        except OSError:
            await self.amqtt.shutdown()
            raise
        self.address = f"{self.address.rpartition(':')[0]}:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        """Stop listening, end every connection, stop amqtt; within two ``STOP_TIMEOUT_S``, however clients behave."""
        if self._server is None:
            return
        self._server.close()
        for connection in list(self._connections.values()):
            await connection.writer.close()
        for task in self._tasks - {c.task for c in self._connections.values()}:
            task.cancel()  # Still before the guard.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_TIMEOUT_S)
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await asyncio.gather(*self._tasks, return_exceptions=True)
                await self.amqtt.shutdown()
        self._server = None

    def status(self) -> dict[str, object]:
        """Return what /status shows."""
        return {
            "listening": self.address,
            "devices": len(self.devices.known),
            "connections": len(self._connections),
            "connects": self.metrics.value("commonwatt_broker_connects_total"),
            "messages_in": self.metrics.value("commonwatt_broker_messages_total", direction="in"),
            "messages_out": self.metrics.value("commonwatt_broker_messages_total", direction="out"),
            "devices_file_errors": self.metrics.value("commonwatt_broker_devices_file_errors_total"),
        }

    def _refreshed_devices(self) -> Mapping[str, Device]:
        """Look at the devices file, and cut the connections of devices that were removed or got another token."""
        before = self.devices.known
        known = self.devices.refreshed()
        if known is not before:
            for identity, connection in self._connections.items():
                if known.get(identity) != connection.device:
                    _log.warning("cutting %s: its registration changed", identity)
                    connection.writer.abort()
        return known

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection from its first byte to its last; nothing it does reaches any other."""
        try:
            admission = await self._guard.admit(reader, writer)
            if admission is not None:
                await self._serve_admitted(admission, reader, writer)
        except Exception:
            self.metrics.connection_errors.inc()
            _log.exception("connection from %s ended by an error", writer.get_extra_info("peername"))
        finally:
            await _close(writer)

    async def _serve_admitted(
        self, admission: Admission, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        identity = admission.device.identity
        client_writer = ClientWriter(writer)
        silence_s = SILENCE_FACTOR * admission.keepalive_s or None
        client_reader = ClientReader(admission.packet, reader, client_writer, silence_s)
        connection = _Connection(admission, client_writer, asyncio.current_task())
        previous = self._connections.get(identity)
        self._connections[identity] = connection
        self.metrics.connects.inc()
        self.metrics.connections.set(len(self._connections))
        try:
            if previous is not None:
                await self._replace(identity, previous)
            if client_writer.closed:
                return  # Replaced in its turn while it waited.
            self._serving[identity] = connection
            self._admitted.devices[identity] = admission.device
            _log.info("%s connected from %s", identity, client_writer.get_peer_info())
            await self.amqtt.external_connected(client_reader, client_writer, LISTENER)
            if not client_writer.closed:
                # amqtt stops listening to a client whose topic MQTT itself forbids, but leaves it connected.
                self.metrics.refused_actions.labels(Action.PUBLISH.value).inc()
                _log.warning("cutting %s: it published on a topic MQTT forbids", identity)
        finally:
            client_writer.closed = True
            if self._connections.get(identity) is connection:
                del self._connections[identity]
            # Not if a successor gave up waiting for this one: what amqtt knows by now is the successor.
            if self._serving.get(identity) is connection:
                del self._serving[identity]
                del self._admitted.devices[identity]
                await self.amqtt.forget(identity)
            connection.finished.set()
            self.metrics.connections.set(len(self._connections))
            _log.info("%s disconnected", identity)

    async def _replace(self, identity: str, previous: _Connection) -> None:
        """End the previous connection of an identity, and wait until amqtt is through with it."""
        self.metrics.takeovers.inc()
        _log.info("%s connects again: replacing its connection from %s", identity, previous.writer.get_peer_info())
        previous.writer.abort()
        try:
            async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
                await previous.finished.wait()
        except TimeoutError:
            _log.error("the replaced connection of %s did not end; cancelling it", identity)
            if previous.task is not None:
                previous.task.cancel()


def _orphan_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report the failure of a task nobody waits for, unless its client is simply gone."""
    if isinstance(context.get("exception"), ProtocolHandlerError | ConnectionError):
        # amqtt answers each packet in a task of its own; cutting a client that floods would log thousands of these.
        _log.debug("an answer was not sent: %s", context["exception"])
    else:
        loop.default_exception_handler(context)


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close a connection, giving it a moment to take what is buffered."""
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await writer.wait_closed()
    except OSError:  # A TimeoutError is one.
        writer.transport.abort()
