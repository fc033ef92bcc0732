"""One MQTT connection on an asyncio loop, without a thread each, and its liveness by incoming messages.

The link gives no delivery guarantee: it drops and reports a message that it can't send, because the sender of a message
that must arrive sends it again until it is acknowledged (docs/architecture.md). Every connection gets a new paho
client with a clean session, since an old client would send its queued messages again (facts: paho-mqtt).
"""

import asyncio
import logging
import random
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, cast
from weakref import WeakKeyDictionary

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.network.lte import ByteTally
from commonwatt.network.packets import BoundedClient, Oversize
from commonwatt.network.tls import ClientTls, Stamp, stamp

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike


@dataclass
class Liveness:
    """Detects an open connection without an expected answer. Times are real seconds of a monotonic clock.

    Each reconnection without an answer doubles the wait before the next: perhaps the other side is
    down, and not the connection.
    """

    patience_s: float  # seconds within which an answer must come
    most_s: float  # most seconds of patience, which doubles with each reconnection without an answer
    _waiting_since: float | None = None
    _heard_at: float = float("-inf")
    _in_vain: int = 0

    def expected(self, now: float) -> None:
        """Record that a message was sent that must be answered."""
        if self._waiting_since is None:
            self._waiting_since = now

    def heard(self, now: float) -> None:
        """Record that a message came."""
        self._waiting_since, self._heard_at, self._in_vain = None, now, 0

    def quiet_s(self, now: float) -> float:
        """Return the seconds since the last message."""
        return now - self._heard_at

    def gone(self) -> None:
        """Record that there is no connection, so that no answer is expected."""
        self._waiting_since = None

    def put_off(self, now: float) -> None:
        """Begin the wait for an answer anew, since the answer may be here unread."""
        if self._waiting_since is not None:
            self._waiting_since = now

    def too_long(self, now: float) -> bool:
        """Return whether an answer is overdue and to reconnect; if so, restart the wait."""
        patience_s = min(self.patience_s * 2**self._in_vain, self.most_s)
        if self._waiting_since is None or now - self._waiting_since < patience_s:
            return False
        self._in_vain = min(self._in_vain + 1, 30)
        self._waiting_since = None
        return True


log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0  # most real seconds to connect, and again for the TLS handshake

KEEPALIVE_S = 60
"""MQTT keepalive in real seconds: after this silence a PINGREQ is sent, after as much again the connection ends.

Each ping costs about 130 bytes each way on an LTE line, so it is not below the minute between the meters' puts.
"""

MAX_QUEUED = 2000  # most queued messages of a connection that are not sent to the broker; more are dropped and counted

MAX_CONNECTING = 100  # most connections of a loop that are made at the same time; further ones wait
_CONNECTING: WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = WeakKeyDictionary()

AWAY_S = 5.0  # real seconds without a connection after which a link with several addresses tries the next one

_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 10.0
_LIVED_S = 5.0
_LOOK_EVERY_S = 10
_SOONEST_S = 0.05
_REASONS_KEPT = 8


class MqttLink:
    """An MQTT connection that reconnects whenever it is lost.

    Args:
        address: The broker's, or those of several brokers: the first one at the start, then the next whenever a broker
            can't be reached for ``AWAY_S``, or its owner says so. It stays where it is as long as that works.
    """

    def __init__(
        self,
        *,
        address: str | Sequence[str],
        identity: str,
        token: str,
        subscribe: str,
        on_message: Callable[[str, bytes], None],
        on_connect: Callable[[], None],
        rng: random.Random,
        tls: ClientTls | None = None,
        tally: ByteTally | None = None,
        on_lost: Callable[[], None] = lambda: None,
        keepalive_s: int | None = None,  # ``None``: ``KEEPALIVE_S``
        prepare: Callable[[paho.Client], None] = lambda _: None,  # sets up each new client, such as its will
        may_connect: Callable[[], bool] = lambda: True,  # whether it may connect now; an open connection stays
    ) -> None:
        self.connected = False  # whether the broker has accepted the connection and the subscriptions were sent
        self.complaint = ""  # why the last attempt failed; empty while connected, and before the first failure
        self.connects = 0  # times it was connected
        self.dropped = 0  # messages not sent, for lack of a connection or queue space
        self.failures = 0  # exceptions of the listeners and of paho, each logged
        self.retained = 0  # retained messages ignored; the first is logged
        self.oversize = Oversize(identity)  # messages that were too long to be read
        # Open connections that were ended, by reason: ``half_open``, no answer came any more, not even to a ping;
        # ``failed``, after an exception; and the reasons of the link's owner.
        self.restarts: Counter[str] = Counter()
        self._addresses = [address] if isinstance(address, str) else address
        self._at = 0
        self._moves = False
        self._identity = identity
        self._token = token
        self._filters = [subscribe]
        self._on_message = on_message
        self._on_connect = on_connect
        self._rng = rng
        self._tls = tls
        self._tally = tally
        self._prepare = prepare
        self._may_connect = may_connect
        self._on_lost = on_lost
        self._keepalive_s = keepalive_s
        self._logged: deque[str] = deque(maxlen=_REASONS_KEPT)
        self._explained = False
        self._shown: Stamp = ()
        self._client: paho.Client | None = None
        self._lost = asyncio.Event()
        self._paused_until_resume = asyncio.Event()
        self._paused_until_resume.set()

    async def run(self) -> None:
        """Keep the link connected until cancelled."""
        loop = asyncio.get_running_loop()
        retry_s = _FIRST_RETRY_S
        tried_since = loop.time()
        while True:
            await self._paused_until_resume.wait()
            if not self._may_connect():
                await asyncio.sleep(_FIRST_RETRY_S)
                continue
            self._lost.clear()
            self._explained = False
            client = self._client = self._new_client()
            was, started = self.connects, loop.time()
            try:
                self._shown = self._secure(client)
                await _connect(loop, client, self._address, self._keepalive_s or KEEPALIVE_S)
                self._opened(loop, client)
                await self._watch(client)
                if not self._explained and self._paused_until_resume.is_set():
                    self._failed("the broker ended it without an answer; its log says why")
            except (OSError, ConfigError) as error:
                self._failed(str(error) or "no answer in time")
            except Exception:
                self.failures += 1
                log.exception("%s: the connection failed", self._identity)
            finally:
                if self.connected:
                    self._guarded(self._on_lost)
                self.connected = False
                self._client = None
                self._close(client)
            # Back off too when each connection is lost at once.
            lived = self.connects > was and loop.time() - started > _LIVED_S
            retry_s = _FIRST_RETRY_S if lived else min(retry_s * 2, _LAST_RETRY_S)
            tried_since = loop.time() if lived else tried_since
            moves = len(self._addresses) > 1 and (self._moves or loop.time() - tried_since >= AWAY_S)
            self._moves = False
            if moves:
                self._at = (self._at + 1) % len(self._addresses)
                tried_since = loop.time()
                log.warning("%s: trying %s next", self._identity, self.address)
            await asyncio.sleep((_FIRST_RETRY_S if moves else retry_s) * self._rng.uniform(0.5, 1.0))

    @property
    def address(self) -> str:
        """The address, HOST:PORT, with which it is connected, or tries to be."""
        return self._addresses[self._at]

    @property
    def _address(self) -> tuple[str, int]:
        return split_address(self.address)

    def publish(self, message: Publish, *, retain: bool = False) -> bool:
        """Send a message; return ``False`` without a connection or with a full queue."""
        if self._client is not None and self.connected:
            info = self._client.publish(message.topic, message.payload, message.qos, retain)
            if info.rc == paho.MQTT_ERR_SUCCESS:
                # Paho does not record the time of this write, and would send pings despite the traffic.
                self._client._last_msg_out = time.monotonic()  # noqa: SLF001
                return True
        self.dropped += 1
        return False

    def subscribe(self, topic_filter: str) -> None:
        """Subscribe to one more filter, now and at each connection."""
        self._filters.append(topic_filter)
        if self._client is not None and self.connected:
            self._client.subscribe(topic_filter, qos=1)

    def restart(self, reason: str, *, move: bool = False) -> None:
        """End this connection, and connect again with a new client; with ``move``, to the next address."""
        log.warning("%s: connecting to %s:%s again: %s", self._identity, *self._address, reason)
        self._moves = self._moves or move
        self.restarts[reason] += 1
        self._lost.set()

    def pause(self) -> None:
        """Cut the connection without a DISCONNECT, like a device that loses its power, until ``resume``."""
        self._paused_until_resume.clear()
        self._lost.set()

    def resume(self) -> None:
        """Connect again after ``pause``."""
        self._paused_until_resume.set()

    def _secure(self, client: paho.Client) -> Stamp:
        """Set up TLS with the present certificates; return the stamp of their files."""
        if self._tls is None:
            return ()
        shown = self._stamp()
        context = self._tls.context()
        context.sslsocket_class = _ClosedIfRefused if self._tally is None else _counted(self._tally)
        client.tls_set_context(context)
        # Paho reports a refused certificate to its logger only.
        client.enable_logger(cast("logging.Logger", _TlsFailures(self._failed)))
        return shown

    def _stamp(self) -> Stamp:
        return () if self._tls is None else stamp(*self._tls.replaceable)

    def _failed(self, why: str) -> None:
        """Record why there is no connection; log each reason once until connected, since the link retries forever."""
        self._explained = True
        self.complaint = why
        if why not in self._logged:
            self._logged.append(why)
            log.warning("%s: no connection to %s:%s: %s", self._identity, *self._address, why)

    def is_current(self) -> bool:
        """Return whether it is connected with the present certificate and revocation list."""
        with suppress(ConfigError):
            return self.connected and self._stamp() == self._shown
        return False

    def _renewed(self) -> bool:
        """Return whether the certificate or the revocation list was replaced by a readable file."""
        with suppress(ConfigError):
            if self._stamp() != self._shown and self._tls is not None:
                self._tls.context()
                log.info(
                    "%s: its certificate, or the list of revoked ones, was replaced: connecting again", self._identity
                )
                return True
        return False

    async def _watch(self, client: paho.Client) -> None:
        """Call paho's function for pings when one is due, until the connection is lost or a certificate is replaced."""
        while not self._lost.is_set():
            if client.loop_misc() != paho.MQTT_ERR_SUCCESS or self._renewed():
                return
            try:
                # Not wait_for: in Python 3.11 it loses a cancellation if the connection is lost at the same moment.
                async with asyncio.timeout(self._quiet_s(client)):
                    await self._lost.wait()
            except TimeoutError:
                continue

    def _quiet_s(self, client: paho.Client) -> float:
        """Return the real seconds until a ping or its answer is due, or files are looked at again."""
        # A fleet has thousands of connections, most of them silent: none is looked at without need.
        last = min(client._last_bytes_received, client._last_msg_out)  # noqa: SLF001
        ping_s = max(_SOONEST_S, last + (self._keepalive_s or KEEPALIVE_S) - time.monotonic())
        return ping_s if self._tls is None else min(ping_s, _LOOK_EVERY_S)

    def _new_client(self) -> paho.Client:
        client = BoundedClient(
            self.oversize, CallbackAPIVersion.VERSION2, self._identity, clean_session=True, reconnect_on_failure=False
        )
        client.username_pw_set(self._identity, self._token)
        client.connect_timeout = CONNECT_TIMEOUT_S
        # Paho binds each socket to a port of its own, and all connections of a machine share 28,000.
        opened = partial(socket.create_connection, self._address, timeout=CONNECT_TIMEOUT_S)
        client._create_socket_connection = opened  # type: ignore[method-assign]  # noqa: SLF001
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(MAX_QUEUED)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        self._prepare(client)
        return client

    def _opened(self, loop: asyncio.AbstractEventLoop, client: paho.Client) -> None:
        """Register a connected client's socket with the loop."""
        # Not before: connect() runs on a thread of its own, and no two threads may use a TLS connection at once.
        sock = client.socket()
        if isinstance(sock, socket.socket) and sock.fileno() >= 0:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tally is not None:
                self._tally.opened(sock)
            client.on_socket_close = lambda _, __, s: self._forget(loop, s)
            client.on_socket_register_write = lambda c, _, s: self._add_writer(loop, c, s)
            client.on_socket_unregister_write = lambda _, __, s: _remove_writer(loop, s)
            loop.add_reader(sock, self._io, partial(self._read, loop, client))
            if client.want_write():
                self._add_writer(loop, client, sock)

    def _read(self, loop: asyncio.AbstractEventLoop, client: paho.Client) -> None:
        if client is not self._client:
            return
        client.loop_read()
        sock = client.socket()
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            # Bytes that are decrypted already do not make the socket readable.
            loop.call_soon(self._io, partial(self._read, loop, client))

    def _connected(self, client: paho.Client, _: object, __: object, reason: ReasonCode, ___: object) -> None:
        if reason.is_failure:
            self._failed(f"the broker refused it: {reason}; its log says why")
            self._lost.set()
            return
        client.subscribe([(one, 1) for one in self._filters])
        self._explained = True
        self.connected = True
        self.complaint = ""
        self._logged.clear()
        self.connects += 1
        log.info("%s: connected to %s:%s", self._identity, *self._address)
        self._guarded(self._on_connect)

    def _disconnected(self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        if reason == "Keep alive timeout":
            self.restart("half_open")
        self._lost.set()

    def _received(self, _: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        if message.retain:  # Such a message may be of any age: it never acts (docs/control.md).
            self.retained += 1
            if self.retained == 1:
                log.warning(
                    "%s: ignored a retained message on %s; clear it at the broker", self._identity, message.topic
                )
            return
        self._guarded(self._on_message, message.topic, message.payload)

    def _add_writer(self, loop: asyncio.AbstractEventLoop, client: paho.Client, sock: "SocketLike") -> None:
        # It may have been closed between the request and this turn of the loop.
        if isinstance(sock, socket.socket) and sock.fileno() >= 0:
            loop.add_writer(sock, self._io, partial(_write, client, sock))

    def _io(self, work: Callable[[], object]) -> None:
        """Let paho read or write; after an exception the state of its buffer is unknown: reconnect."""
        if self._lost.is_set():
            return
        try:
            work()
        except Exception:
            self.failures += 1
            log.exception("%s: the connection failed", self._identity)
            self.restart("failed")

    def _guarded(self, call: Callable[..., None], *arguments: object) -> None:
        """Call a listener; log and count its exceptions, and keep the connection."""
        try:
            call(*arguments)
        except Exception:
            self.failures += 1
            log.exception("%s: a listener failed", self._identity)

    def _close(self, client: paho.Client) -> None:
        """Close the socket of a discarded client."""
        sock = client.socket()
        if sock is not None:
            self._forget(asyncio.get_running_loop(), sock)
            sock.close()

    def _forget(self, loop: asyncio.AbstractEventLoop, sock: "SocketLike") -> None:
        """Stop watching a socket before it is closed."""
        if isinstance(sock, socket.socket) and sock.fileno() >= 0:
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            if self._tally is not None:
                self._tally.closing(sock)


class _ClosedIfRefused(ssl.SSLSocket):
    """A TLS socket that closes when its handshake fails; paho leaves that to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Do the TLS handshake, blocking or with a timeout."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _counted(tally: ByteTally) -> type[ssl.SSLSocket]:
    """Return a socket class that also counts failed handshakes, which may be frequent."""

    class Counted(_ClosedIfRefused):
        def do_handshake(self, block: bool = False) -> None:
            tally.opened(self)
            super().do_handshake(block)

        def close(self) -> None:
            tally.closing(self)
            super().close()

    return Counted


class _TlsFailures:
    """A logger for paho that reports TLS failures."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed

    def log(self, _level: int, _text: str, *arguments: object) -> None:
        """Handle a log message of paho."""
        for argument in arguments:
            if isinstance(argument, ssl.SSLError):
                self._failed(str(argument))


async def _connect(
    loop: asyncio.AbstractEventLoop, client: paho.Client, address: tuple[str, int], keepalive_s: int
) -> None:
    """Connect on a daemon thread: paho's connect blocks, and must not keep the process from ending."""
    done = loop.create_future()

    def finish(error: Exception | None) -> None:
        if not done.done():
            done.set_result(error)
        elif (sock := client.socket()) is not None:
            sock.close()  # it connected only after it was given up

    def report(error: Exception | None) -> None:
        with suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(finish, error)

    def connect() -> None:
        # No variable keeps the exception: its traceback keeps paho's socket open, in a reference cycle.
        try:
            client.connect(*address, keepalive_s)
        except (OSError, ValueError) as failure:
            report(failure)
        else:
            report(None)

    # Thousands of threads at once, as when a broker comes back, would let nothing else run.
    async with _CONNECTING.setdefault(loop, asyncio.Semaphore(MAX_CONNECTING)):
        threading.Thread(target=connect, daemon=True).start()
        async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
            error = await done
    if error is not None:
        raise OSError(str(error)) from error


def _write(client: paho.Client, sock: socket.socket) -> None:
    """Let paho send what waits; messages of one moment share their segments."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        client.loop_write()
    finally:
        if sock.fileno() >= 0:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)


def _remove_writer(loop: asyncio.AbstractEventLoop, sock: "SocketLike") -> None:
    if isinstance(sock, socket.socket) and sock.fileno() >= 0:
        loop.remove_writer(sock)
