"""Connections to the broker of the foreign meters: a persistent session, and last wills that end commands.

paho's own thread receives; the service takes messages from a queue that is bounded in messages and bytes. When it is
full, messages of QoS 0 are dropped and counted; of QoS 1, the thread waits, and so does the broker. The subscription
has QoS 1: with QoS 2 the broker may forget a message before it is committed.

Connections whose last wills end what devices were told: their broker publishes them if the adapter is gone.
A connection has one will, so each such device has a connection of its own, while it is told anything.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from adapters.commands import Armed
from adapters.messages import MOST_IN_FLIGHT, Arrived
from commonwatt.config.adapter import AdapterSource
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.network.packets import MAX_PACKET_BYTES, BoundedClient, Oversize
from commonwatt.network.tls import ClientTls

MAX_WAITING = 10_000  # most messages in the queue
MAX_WAITING_BYTES = 32 * 1024 * 1024  # most bytes in it: the service may have 256 MiB
# Waiting messages of QoS 1 that are handled at once: brokers send about 20 before the first acknowledgement.
MANY_TO_ACKNOWLEDGE = 16
AT_ONCE = 500  # most messages in one commit; as many are handled at once
SESSION_S = 7 * 86_400  # how long a broker of MQTT 5 keeps messages for an adapter that is away
REFUSED = "subscriptions refused"  # key of ``Source.limits``: why the broker refused a subscription

_LIMITS = ("ReceiveMaximum", "MaximumQoS", "MaximumPacketSize", "SessionExpiryInterval", "TopicAliasMaximum")

_FIRST_RETRY_S = 1
_LAST_RETRY_S = 30
_KEEPALIVE_S = 30
_PATIENCE_S = 0.5

_log = logging.getLogger(__name__)


def password_of(settings: AdapterSource) -> str | None:
    """Return the password at the foreign meters' broker; ``None``: it needs none.

    Raises:
        ConfigError: Its file can't be read.
    """
    if settings.password is None:
        return None
    try:
        return settings.password.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(f"{settings.password}: can't be read: {error}") from error


def new_client(settings: AdapterSource, client_id: str, *, clean: bool) -> BoundedClient:
    """Return a client for the foreign meters' broker, not connected yet; ``clean``: the broker keeps nothing for it."""
    is_5 = settings.mqtt == "5"
    client = BoundedClient(
        Oversize(f"source {settings.address}"),
        CallbackAPIVersion.VERSION2,
        client_id,
        clean_session=None if is_5 else clean,
        protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
        manual_ack=True,
    )
    if settings.user is not None:
        client.username_pw_set(settings.user, password_of(settings))
    client.reconnect_delay_set(_FIRST_RETRY_S, _LAST_RETRY_S)
    return client


def secure(client: paho.Client, settings: AdapterSource) -> None:
    """Have a client use TLS, if its broker has it."""
    if settings.ca is not None:
        tls = ClientTls(settings.ca, settings.certificate)
        client.tls_set_context(tls.context())
        client.on_pre_connect = lambda client, _: _read_anew(client, tls)


class Source:
    """A subscriber on the foreign meters' broker."""

    def __init__(
        self,
        *,
        settings: AdapterSource,
        client_id: str,
        filters: Iterable[str],
        now: Callable[[], float],
        wake: Callable[[], None],
        states: Iterable[str] = (),
        keeps: bool = True,
        retained: bool = False,
    ) -> None:
        """Prepare a connection.

        Args:
            client_id: The adapter's name at the broker.
            states: Topics of devices' states, of which the message that the broker kept is asked for too.
            wake: Called when messages begin to wait, when they are many, and for a new connection; on paho's thread.
            keeps: Whether the broker keeps messages while the adapter is away.
            retained: Whether to ask a broker of MQTT 5 for retained messages.
        """
        self.address = settings.address  # the broker's address
        self.connected = False  # whether the broker has accepted the connection
        self.complaint = "not connected yet"  # why there is no connection; empty while there is one
        self.connects = 0  # times it was connected
        self.sessions = 0  # times the broker had no session of this adapter
        self.dropped = 0  # messages of QoS 0 dropped because the queue was full
        self.failures = 0  # exceptions in this class, each logged
        # The limits reported by a broker of MQTT 5, by name; of any broker, whether it had kept the session, and why it
        # refused a subscription.
        self.limits: dict[str, object] = {}
        self._settings = settings
        self._states = frozenset(states)
        self._filters = tuple(sorted({*filters, *self._states}))
        self._now = now
        self._wake = wake
        self._keeps = keeps
        self._retained = retained
        self._is_5 = settings.mqtt == "5"
        self._waiting: deque[Arrived] = deque()
        self._bytes = 0  # of those that wait
        self._to_acknowledge = 0
        self._room = threading.Condition()
        self._stopping = False
        self._was_refused = False
        self._client = self._new_client(client_id)
        self.oversize = self._client.oversize  # messages that were too long to be read

    def start(self) -> None:
        """Connect, and reconnect whenever the connection is lost, until ``stop``.

        Raises:
            ConfigError: A certificate file can't be used.
        """
        host, port = split_address(self._settings.address)
        secure(self._client, self._settings)
        if self._is_5:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = SESSION_S if self._keeps else 0
            properties.ReceiveMaximum = MOST_IN_FLIGHT
            properties.MaximumPacketSize = MAX_PACKET_BYTES  # the broker drops a longer one
            self._client.connect_async(host, port, _KEEPALIVE_S, clean_start=not self._keeps, properties=properties)
        else:
            self._client.connect_async(host, port, _KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Disconnect; messages that are not acknowledged stay at the broker."""
        with self._room:
            self._stopping = True
            self._room.notify_all()
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def waiting(self) -> int:
        """Number of messages in the queue."""
        return len(self._waiting)

    @property
    def _is_full(self) -> bool:
        return len(self._waiting) >= MAX_WAITING or self._bytes >= MAX_WAITING_BYTES

    @property
    def are_many(self) -> bool:
        """Whether the waiting messages should be handled at once."""
        return self._to_acknowledge >= MANY_TO_ACKNOWLEDGE or len(self._waiting) >= AT_ONCE

    def take(self, most: int) -> list[Arrived]:
        """Return waiting messages, oldest first."""
        with self._room:
            taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
            self._to_acknowledge -= sum(message.qos > 0 for message in taken)
            self._bytes -= sum(map(_size, taken))
            self._room.notify_all()
        return taken

    def acknowledge(self, messages: Iterable[Arrived]) -> None:
        """Acknowledge committed messages, except messages of an earlier connection: the broker sends them again."""
        for message in messages:
            if message.qos and message.connection == self.connects:
                self._client.ack(message.number, message.qos)

    def publish(self, message: Publish) -> bool:
        """Send a command to a device; return whether there is a connection."""
        if not self.connected:
            return False
        return self._client.publish(message.topic, message.payload, message.qos).rc == paho.MQTT_ERR_SUCCESS

    def _new_client(self, client_id: str) -> BoundedClient:
        client = new_client(self._settings, client_id, clean=not self._keeps)
        client.on_connect = self._connected
        client.on_connect_fail = lambda *_: self._complain("can't be reached")
        client.on_subscribe = self._subscribed
        client.on_disconnect = self._disconnected
        client.on_message = self._received
        return client

    def _connected(
        self,
        client: paho.Client,
        _: object,
        flags: paho.ConnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.is_failure:
            self._was_refused = True
            self._complain(f"the broker refused it: {reason}")
            return
        self.sessions += not flags.session_present
        self.connects += 1
        self.connected = True
        self.complaint = ""
        self.limits = {"session kept": "yes" if flags.session_present else "no"}
        self.limits |= {name: getattr(properties, name) for name in _LIMITS if hasattr(properties, name)}
        client.drop_out_messages()  # a command of the connection before may have ended since
        for topic in self._filters:
            if self._is_5:
                send, hold = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE, SubscribeOptions.RETAIN_DO_NOT_SEND
                handling = send if self._retained or topic in self._states else hold
                client.subscribe(topic, options=SubscribeOptions(qos=1, retainHandling=handling))
            else:
                client.subscribe(topic, qos=1)
        _log.info("source: connected to %s", self._settings.address)
        self._wake()

    def _subscribed(self, _: paho.Client, __: object, ___: int, reasons: list[ReasonCode], ____: object) -> None:
        if refused := [reason for reason in reasons if reason.is_failure]:
            self.limits[REFUSED] = str(refused[0])
            _log.warning("source: %s refuses a subscription: %s", self._settings.address, refused[0])

    def _disconnected(self, _: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
        self.connected = False
        was_refused, self._was_refused = self._was_refused, False
        # A broker that refuses the connection has given its reason before.
        if not self._stopping and not was_refused:
            self._complain(f"the connection ended: {reason}")

    def _complain(self, why: str) -> None:
        if why != self.complaint:
            _log.warning("source: no connection to %s: %s", self._settings.address, why)
        self.complaint = why

    def _received(self, _: paho.Client, __: object, message: paho.MQTTMessage) -> None:
        # An exception here would end paho's thread for ever.
        try:
            self._put(
                Arrived(
                    message.topic,
                    bytes(message.payload),
                    message.retain,
                    int(self._now() * 1000),
                    message.qos,
                    message.mid,
                    self.connects,
                    self.sessions,
                    message.dup,
                )
            )
        except Exception:
            self.failures += 1
            _log.exception("source: a message could not be taken")

    def _put(self, arrived: Arrived) -> None:
        with self._room:
            if self._is_full and not arrived.qos:
                self.dropped += 1
                return
            while self._is_full and not self._stopping:
                self._room.wait(_PATIENCE_S)
            self._waiting.append(arrived)
            self._bytes += _size(arrived)
            self._to_acknowledge += arrived.qos > 0
            wakes = len(self._waiting) == 1 or self.are_many
        if wakes:
            self._wake()


def _size(message: Arrived) -> int:
    return len(message.topic) + len(message.payload)


def _read_anew(client: paho.Client, tls: ClientTls) -> None:
    """Use the present certificates for the next connection: their files may have been replaced."""
    try:
        client._ssl_context = tls.context()  # noqa: SLF001 - paho lets it be set only once
    except ConfigError as error:
        _log.warning("source: the certificates read before stay in use: %s", error)


KEEPALIVE_S = 20  # a broker publishes the will of a silent client after one and a half of these, within ``WILL_S``


class Wills:
    """The connections to one broker."""

    def __init__(self, settings: AdapterSource, client_id: str, wake: Callable[[], None]) -> None:
        """Prepare them.

        Args:
            client_id: The adapter's name at the broker; each of these adds meter and state.
            wake: Called when a will has reached the broker, or is gone; on a thread of paho.
        """
        self._settings = settings
        self._client_id = client_id
        self._wake = wake
        self._clients: dict[Armed, paho.Client] = {}
        self._armed: set[Armed] = set()
        self._lock = threading.Lock()  # callbacks come on a thread of each connection

    @property
    def armed(self) -> frozenset[Armed]:
        """What has its will at the broker."""
        with self._lock:
            return frozenset(self._armed)

    def keep(self, wanted: Mapping[Armed, Publish]) -> None:
        """Have the broker hold these wills, and no others."""
        for state in self._clients.keys() - wanted.keys():
            with self._lock:
                client = self._clients.pop(state)
                self._armed.discard(state)
            client.disconnect()  # Its thread ends by itself.
        for state in wanted.keys() - self._clients.keys():
            self._begin(state, wanted[state])

    def stop(self) -> None:
        """Leave without a word: the broker publishes the wills, as if the adapter had died."""
        for client in self._clients.values():
            client.loop_stop()
            if (socket := client.socket()) is not None:
                socket.close()
        self._clients.clear()

    def _begin(self, state: Armed, will: Publish) -> None:
        client = new_client(self._settings, "-".join((self._client_id, *map(str, state))), clean=True)
        client.will_set(will.topic, will.payload, will.qos)

        def connected(_: paho.Client, __: object, ___: object, reason: ReasonCode, ____: object) -> None:
            with self._lock:
                is_wanted = self._clients.get(state) is client
                if is_wanted and not reason.is_failure:
                    self._armed.add(state)
            if not is_wanted:
                client.disconnect()
            self._wake()

        def disconnected(*_: object) -> None:
            with self._lock:
                if self._clients.get(state) is client:
                    self._armed.discard(state)
            self._wake()

        client.on_connect = connected
        client.on_disconnect = disconnected
        try:
            secure(client, self._settings)
        except ConfigError as error:
            # The source read these files at its start. Without a will the device is not told.
            _log.warning("no will at %s: %s", self._settings.address, error)
            return
        self._clients[state] = client
        host, port = split_address(self._settings.address)
        client.connect_async(host, port, KEEPALIVE_S)
        client.loop_start()
