"""The connection to the household's broker: publishes retained messages, and subscribes only to Home Assistant's start.

It is no part of the gateway's delivery: a broker that is away or slow costs dropped messages, which the next
connection replaces.
"""

import asyncio
import random
from collections.abc import Mapping
from importlib.metadata import version

import paho.mqtt.client as paho

from commonwatt.config.settings import HouseholdSettings
from commonwatt.model.effects import Publish
from commonwatt.model.units import MicrogridId
from commonwatt.network.mqtt import MqttLink
from commonwatt.network.tls import ClientTls
from gateway.household.discovery import OFFLINE, ONLINE, topics_of


class HouseholdLink:
    """Keeps the retained messages of a place at the household's broker as they are shown."""

    def __init__(self, settings: HouseholdSettings, microgrid: MicrogridId) -> None:
        self.version = version("commonwatt")  # the version that discovery names
        self._settings = settings
        self._topics = topics_of(microgrid, settings.place, settings.prefix)
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
