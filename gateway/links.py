"""The gateway's connections: to the meters' broker, the head-end, and the household's broker; liveness.

A connection may be open and deliver nothing. After a while without a message it is tested by a request that must be
answered; without an answer the gateway reconnects, to the other head-end if there are two.

The connection to the household's broker: publishes retained messages, and subscribes only to Home Assistant's start.
It is no part of the gateway's delivery: a broker that is away or slow costs dropped messages, which the next
connection replaces.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from importlib.metadata import version

import paho.mqtt.client as paho

from commonwatt.config.settings import GatewaySettings, HouseholdSettings
from commonwatt.identity.devices import load_tokens
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MicrogridId
from commonwatt.network.lte import ByteTally
from commonwatt.network.mqtt import Liveness, MqttLink
from commonwatt.network.tls import ClientTls, Expiry, client_tls
from commonwatt.protocol.topics import BATCHES, COMMANDS, all_meters_up, broker_up, gateway_down, gateway_up
from gateway.clique.shell import CliqueShell
from gateway.core import RETRY
from gateway.events import Connected, FromMeter, FromUtility, Quiet, Tick
from gateway.household import OFFLINE, ONLINE, topics_of
from gateway.loop.inbox import Inbox

WATCH_EVERY_S = 5.0  # real seconds between two liveness checks of the connections
QUIET_S = 15.0  # real seconds without a message from any meter after which some get a request
HEAD_END_QUIET_S = 30.0  # the same until the utility gets an empty batch: batches and their answers go each minute
# Real seconds without an answer after which the gateway reconnects; doubled with each reconnection in vain.
LINK_SILENT_S = 30.0

LONGEST_SILENCE_S = 3600.0
LONGEST_AT_ONE_S = 300.0  # the same with two head-ends: it goes to the other one each time
LATE_S = 2.0  # real seconds by which the gateway's own work is late, from which it blames no connection for a silence

METERS, HEAD_END = "meters", "head_end"


class Links:
    """The two connections of one gateway.

    Args:
        inbox: The queue before the core.
        clique: Its part in its cliques, which hears the meters before the core does; ``None``: it has none.
        tally: Counts the bytes of the head-end's connections.
        late_s: Returns the real seconds by which the gateway's work is late.

    Raises:
        ConfigError: A file they need is missing or wrong.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        inbox: Inbox,
        clique: CliqueShell | None,
        tally: ByteTally,
        late_s: Callable[[], float],
    ) -> None:
        self._inbox, self._clique = inbox, clique
        self._late_s = late_s
        self._broker_topic = broker_up(settings.controller)
        self._head_end_prefix = gateway_up(settings.controller, "")
        token = own_token(settings)
        rng = random.Random()  # noqa: S311 - spreads reconnections, keeps no secret

        def changed() -> None:
            if clique is not None:
                clique.watch()

        def connected() -> None:
            changed()
            inbox.queue(Tick(RETRY))

        meters = MqttLink(
            address=settings.broker,
            identity=settings.controller,
            token=token,
            rng=rng,
            subscribe=all_meters_up(settings.microgrid),
            on_message=lambda topic, payload: self._receive(METERS, FromMeter(topic, payload)),
            on_connect=connected,
            on_lost=changed,
            tls=client_tls(settings.broker_ca, settings.certificate, settings.broker_revoked),
        )
        head_end = MqttLink(
            address=settings.head_end,
            identity=settings.controller,
            token=token,
            rng=rng,
            subscribe=gateway_down(settings.controller, "+"),
            on_message=lambda topic, payload: self._receive(HEAD_END, FromUtility(topic, payload)),
            on_connect=lambda: inbox.queue(Connected()),
            tls=client_tls(settings.head_end_ca, settings.certificate, settings.head_end_revoked),
            tally=tally,
        )
        files = (settings.certificate, settings.broker_certificate, settings.head_end_ca, settings.broker_ca)
        # The next expiry of one of their certificates.
        self.expiry = Expiry(*(path for path in files if path is not None))
        self._meters = meters
        self.each = {METERS: meters, HEAD_END: head_end}  # the connections, ``METERS`` and ``HEAD_END``
        most_s = {METERS: LONGEST_SILENCE_S, HEAD_END: LONGEST_SILENCE_S}
        if len(settings.head_end) > 1:
            most_s[HEAD_END] = LONGEST_AT_ONE_S
        self._liveness = {name: Liveness(LINK_SILENT_S, most_s[name]) for name in self.each}

    def start(self) -> list[asyncio.Task[None]]:
        """Start the connections and their liveness check; return their endless tasks."""
        tasks = [asyncio.create_task(link.run(), name=f"the connection {name}") for name, link in self.each.items()]
        tasks.append(asyncio.create_task(self._watch(), name="the connections' liveness check"))
        return tasks

    def host(self, microgrid: MicrogridId) -> None:
        """Receive what the meters of another microgrid publish at this controller's broker."""
        self._meters.subscribe(all_meters_up(microgrid))

    def publish(self, message: Publish) -> None:
        """Send a message of the cores, unless it is a command for a microgrid that another controller manages."""
        if self._clique is None or self._clique.permits(message):
            self.send(message)

    def send(self, message: Publish) -> None:
        """Send a message over the connection that its topic belongs to."""
        name = HEAD_END if message.topic.startswith(self._head_end_prefix) else METERS
        sent = self.each[name].publish(message)
        if sent and message.topic.endswith((f"/{COMMANDS}", f"/{BATCHES}")):
            # Only these messages are answered.
            self._liveness[name].expected(asyncio.get_running_loop().time())

    def _receive(self, name: str, event: FromMeter | FromUtility) -> None:
        """Note that the connection delivers, let the clique hear, and queue the message for the core."""
        if event.topic != self._broker_topic:  # A broker's own message does not prove that it passes on others.
            self._liveness[name].heard(asyncio.get_running_loop().time())
        if self._clique is not None:
            if isinstance(event, FromMeter):
                self._clique.heard(event)
            elif event.topic.endswith(f"/{COMMANDS}"):
                self._clique.watch()
        self._inbox.queue(event)

    async def _watch(self) -> None:
        """Reconnect when a request stays unanswered on an open connection."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + WATCH_EVERY_S
            await asyncio.sleep(WATCH_EVERY_S)
            now = loop.time()
            late = max(now - due, self._late_s()) >= LATE_S
            for name, link in self.each.items():
                liveness = self._liveness[name]
                if not link.connected:
                    liveness.gone()
                elif late:
                    liveness.put_off(now)
                elif liveness.too_long(now):
                    link.restart("silent", move=True)
                elif liveness.quiet_s(now) >= (QUIET_S if name == METERS else HEAD_END_QUIET_S):
                    self._inbox.queue(Quiet(name))
                    if name == HEAD_END:
                        liveness.expected(now)  # the answer to this, or to a batch in flight from before a reconnection


def own_token(settings: GatewaySettings) -> str:
    """Return the gateway's token."""
    tokens = load_tokens(settings.tokens)
    if settings.controller not in tokens:
        raise ConfigError(
            f"{settings.tokens}: has no token for {settings.controller}; make it with: commonwatt utility register"
        )
    return tokens[settings.controller]


class HouseholdLink:
    """Keeps the retained messages of a place at the household's broker as they are shown."""

    def __init__(self, settings: HouseholdSettings, microgrid: MicrogridId) -> None:
        self.version = version("commonwatt")  # the version that discovery names
        self._settings = settings
        self._topics = topics_of(microgrid, settings.place)
        self._messages: dict[str, bytes] = {}
        self._sent: dict[str, bytes] = {}
        # The connection.
        self.mqtt = MqttLink(
            address=settings.address,
            identity=f"commonwatt-{microgrid}-gateway",
            token="",  # ``_prepare`` sets the user
            subscribe=self._topics.status,
            on_message=self._hear,
            on_connect=self._connected,
            rng=random.Random(),  # noqa: S311 - spreads reconnections, keeps no secret
            tls=None if settings.ca is None else ClientTls(settings.ca),
            prepare=self._prepare,
        )

    def start(self) -> asyncio.Task[None]:
        """Start the connection; return its endless task."""
        return asyncio.create_task(self.mqtt.run(), name="the household's connection")

    def show(self, messages: Mapping[str, bytes]) -> None:
        """Publish the messages that have changed, or all after Home Assistant's start or a new connection."""
        self._messages = {self._topics.availability: ONLINE, **messages} if messages else {}
        for topic, payload in self._messages.items():
            changed = self._sent.get(topic) != payload
            if changed and self.mqtt.connected and self.mqtt.publish(Publish(topic, payload), retain=True):
                self._sent[topic] = payload

    def status(self) -> dict[str, object]:
        """Return the connection's state for the status page."""
        return {
            "place": self._settings.place,
            "connected": self.mqtt.connected,
            "failure": self.mqtt.complaint,
            "oversize": self.mqtt.oversize.count,
            "published": bool(self._messages),
        }

    def _prepare(self, client: paho.Client) -> None:
        client.will_set(self._topics.availability, OFFLINE, qos=1, retain=True)
        client.username_pw_set(self._settings.user, self._settings.password)

    def _connected(self) -> None:
        self._sent.clear()
        self.show(self._messages)

    def _hear(self, topic: str, payload: bytes) -> None:
        # Published by the next ``show``, a few seconds later: however often it comes, it costs little.
        if topic == self._topics.status and payload == ONLINE:
            self._sent.clear()
