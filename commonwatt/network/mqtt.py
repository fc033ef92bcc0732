"""One MQTT connection on an asyncio loop, through paho's socket callbacks, without a thread each.

The link promises nothing but trying: what it can't send now it drops and says so, because the sender of a message that
needs to arrive sends it again from its own store until it is acknowledged (design 4). Every connection gets a new paho
client with a clean session, since an old one would send what it still holds a second time (facts: paho-mqtt).
"""

import asyncio
import logging
import random
import socket
import ssl
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, cast

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.network.lte import Tally
from commonwatt.network.tls import ClientTls, Stamp, stamp

if TYPE_CHECKING:
    from paho.mqtt.client import SocketLike


log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 5.0
"""Real seconds a connection may take to be made, and as many its TLS handshake."""

KEEPALIVE_S = 60
"""Real seconds of silence after which the broker is asked for a sign of life, and given up after as many again.

Each such question costs about 130 bytes each way on an LTE line: not below the minute in which meters put anyway.
"""

MAX_QUEUED = 2000
"""Messages a connection holds that the broker has not taken; more are dropped and counted."""

_FIRST_RETRY_S = 0.2
_LAST_RETRY_S = 10.0
_LIVED_S = 5.0
_LOOK_EVERY_S = 10
_REASONS_KEPT = 8


class MqttLink:
    """A connection that is made again whenever it is lost.

    Attributes:
        connected: Whether the broker has accepted the connection and the subscriptions were sent.
        complaint: Why the last attempt made no connection; empty while there is one, and before the first failed.
        connects: Times it was connected.
        dropped: Messages not sent, for want of a connection or room.
        retained: Retained messages ignored; the first is logged.
        failures: Exceptions of the listeners and of paho, each logged.
        restarts: How often a connection that was up was given up: ``half_open``, nothing came any more, not even what
            keeps it alive; ``failed``, an exception left it in doubt; and for reasons its owner had.
    """

    def __init__(
        self,
        *,
        address: str,
        identity: str,
        token: str,
        subscribe: str,
        on_message: Callable[[str, bytes], None],
        on_connect: Callable[[], None],
        rng: random.Random,
        tls: ClientTls | None = None,
        tally: Tally | None = None,
    ) -> None:
        self.connected = False
        self.complaint = ""
        self.connects = 0
        self.dropped = 0
        self.failures = 0
        self.retained = 0
        self.restarts: Counter[str] = Counter()
        self._address = split_address(address)
        self._identity = identity
        self._token = token
        self._subscribe = subscribe
        self._on_message = on_message
        self._on_connect = on_connect
        self._rng = rng
        self._tls = tls
        self._tally = tally
        self._logged: deque[str] = deque(maxlen=_REASONS_KEPT)
        self._explained = False
        self._client: paho.Client | None = None
        self._lost = asyncio.Event()
        self._paused_until_resume = asyncio.Event()
        self._paused_until_resume.set()

    async def run(self) -> None:
        """Connect, and connect again, until cancelled."""
        loop = asyncio.get_running_loop()
        retry_s = _FIRST_RETRY_S
        while True:
            await self._paused_until_resume.wait()
            self._lost.clear()
            self._explained = False
            client = self._client = self._new_client()
            was, started = self.connects, loop.time()
            try:
                shown = self._secure(client)
                await _connect(loop, client, self._address)
                self._opened(loop, client)
                await self._watch(client, shown)
                if not self._explained and self._paused_until_resume.is_set():
                    self._failed("the broker ended it without an answer; its log says why")
            except (OSError, ConfigError) as error:
                self._failed(str(error) or "no answer in time")
            except Exception:
                self.failures += 1
                log.exception("%s: the connection failed", self._identity)
            finally:
                self.connected = False
                self._client = None
                self._close(client)
            # A connection that is lost at once, again and again, is no reason to try at once, again and again.
            lived = self.connects > was and loop.time() - started > _LIVED_S
            retry_s = _FIRST_RETRY_S if lived else min(retry_s * 2, _LAST_RETRY_S)
            await asyncio.sleep(retry_s * self._rng.uniform(0.5, 1.0))

    def publish(self, message: Publish) -> bool:
        """Hand a message to the broker's connection; ``False`` if there is none, or it is full."""
        if self._client is not None and self.connected:
            info = self._client.publish(message.topic, message.payload, message.qos)
            if info.rc == paho.MQTT_ERR_SUCCESS:
                # Paho forgets to note when it wrote, and would ask for a sign of life however much is said.
                self._client._last_msg_out = time.monotonic()  # noqa: SLF001
                return True
        self.dropped += 1
        return False

    def restart(self, reason: str) -> None:
        """Give this connection up, and connect again with a new client."""
        log.warning("%s: connecting to %s:%s again: %s", self._identity, *self._address, reason)
        self.restarts[reason] += 1
        self._lost.set()

    def pause(self) -> None:
        """Cut the connection without a word, as a device that loses its power, and stay away until ``resume``."""
        self._paused_until_resume.clear()
        self._lost.set()

    def resume(self) -> None:
        """Connect again after ``pause``."""
        self._paused_until_resume.set()

    def _secure(self, client: paho.Client) -> Stamp:
        """Let the connection speak TLS, with the certificates as they are now; return what tells when they change.

        Raises:
            ConfigError: A file can't be used.
        """
        if self._tls is None:
            return ()
        shown = self._stamp()
        context = self._tls.context()
        context.sslsocket_class = _ClosedIfRefused if self._tally is None else _counted(self._tally)
        client.tls_set_context(context)
        # Of a certificate that the broker refuses, paho tells its logger alone.
        client.enable_logger(cast("logging.Logger", _TlsFailures(self._failed)))
        return shown

    def _stamp(self) -> Stamp:
        return () if self._tls is None else stamp(*self._tls.replaceable)

    def _failed(self, why: str) -> None:
        """Note why there is no connection, and log each reason once until there is one: it is tried again for ever."""
        self._explained = True
        self.complaint = why
        if why not in self._logged:
            self._logged.append(why)
            log.warning("%s: no connection to %s:%s: %s", self._identity, *self._address, why)

    def _renewed(self, shown: Stamp) -> bool:
        """Say whether the certificate, or the list of revoked ones, was replaced by one that can be read."""
        with suppress(ConfigError):
            if self._stamp() != shown and self._tls is not None:
                self._tls.context()
                log.info(
                    "%s: its certificate, or the list of revoked ones, was replaced: connecting again", self._identity
                )
                return True
        return False

    async def _watch(self, client: paho.Client, shown: Stamp) -> None:
        """Give paho its clock until the connection is lost, or one of its files was replaced."""
        looked_at = 0
        while not self._lost.is_set():
            if client.loop_misc() != paho.MQTT_ERR_SUCCESS:
                return
            looked_at += 1
            if looked_at % _LOOK_EVERY_S == 0 and self._renewed(shown):
                return
            try:
                # Not wait_for: in Python 3.11 that forgets that it was cancelled if the connection is lost just then.
                async with asyncio.timeout(1.0):
                    await self._lost.wait()
            except TimeoutError:
                continue

    def _new_client(self) -> paho.Client:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self._identity, clean_session=True, reconnect_on_failure=False
        )
        client.username_pw_set(self._identity, self._token)
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(200)
        client.max_queued_messages_set(MAX_QUEUED)
        client.on_connect = self._connected
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        return client

    def _opened(self, loop: asyncio.AbstractEventLoop, client: paho.Client) -> None:
        """Let the loop serve a client that is connected.

        Not before: connect() runs on a thread of its own, and no two threads may use a TLS connection at once.
        """
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
            # What is decrypted already makes no socket readable.
            loop.call_soon(self._io, partial(self._read, loop, client))

    def _connected(self, client: paho.Client, _: object, __: object, reason: ReasonCode, ___: object) -> None:
        if reason.is_failure:
            self._failed(f"the broker refused it: {reason}; its log says why")
            self._lost.set()
            return
        client.subscribe(self._subscribe, qos=1)
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
        if message.retain:  # Such a message may be of any age: it never acts (design 4.3).
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
            loop.add_writer(sock, self._io, client.loop_write)

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
        """Call a listener; whatever it raises is logged and counted, and the connection lives on."""
        try:
            call(*arguments)
        except Exception:
            self.failures += 1
            log.exception("%s: a listener failed", self._identity)

    def _close(self, client: paho.Client) -> None:
        """Close the socket of a client that is given up."""
        sock = client.socket()
        if sock is not None:
            self._forget(asyncio.get_running_loop(), sock)
            sock.close()

    def _forget(self, loop: asyncio.AbstractEventLoop, sock: "SocketLike") -> None:
        """Look no more at a socket that is about to be closed."""
        if isinstance(sock, socket.socket) and sock.fileno() >= 0:
            loop.remove_reader(sock)
            loop.remove_writer(sock)
            if self._tally is not None:
                self._tally.closing(sock)


class _ClosedIfRefused(ssl.SSLSocket):
    """Closed when its handshake fails, which paho leaves to the garbage collector."""

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; blocking, or with a timeout."""
        try:
            super().do_handshake(block)
        except BaseException:
            self.close()
            raise


def _counted(tally: Tally) -> type[ssl.SSLSocket]:
    """Return the class of sockets whose handshakes are counted also if they fail: that may be often."""

    class Counted(_ClosedIfRefused):
        def do_handshake(self, block: bool = False) -> None:
            tally.opened(self)
            super().do_handshake(block)

        def close(self) -> None:
            tally.closing(self)
            super().close()

    return Counted


class _TlsFailures:
    """Stands where paho wants a logger, and passes on the failures of TLS."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed

    def log(self, _level: int, _text: str, *arguments: object) -> None:
        """Take what paho says."""
        for argument in arguments:
            if isinstance(argument, ssl.SSLError):
                self._failed(str(argument))


async def _connect(loop: asyncio.AbstractEventLoop, client: paho.Client, address: tuple[str, int]) -> None:
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
        # The failure stays in no variable: its traceback keeps paho's socket open, and would be kept by it in turn.
        try:
            client.connect(*address, KEEPALIVE_S)
        except (OSError, ValueError) as failure:
            report(failure)
        else:
            report(None)

    threading.Thread(target=connect, daemon=True).start()
    async with asyncio.timeout(2 * CONNECT_TIMEOUT_S):
        error = await done
    if error is not None:
        raise OSError(str(error)) from error


def _remove_writer(loop: asyncio.AbstractEventLoop, sock: "SocketLike") -> None:
    if isinstance(sock, socket.socket) and sock.fileno() >= 0:
        loop.remove_writer(sock)
