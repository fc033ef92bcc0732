"""Simulated brokers and links with the measured behaviour of amqtt: no delivery is guaranteed.

Messages in transit are lost when a connection or the broker ends, and so are messages for a client that is not
connected. Any message may be lost, doubled, delayed or overtaken. A cut link is detected late. A few messages are
delayed for up to an hour, and arrive after any number of restarts.
"""

import random
from collections.abc import Callable
from typing import Protocol

from broker import access_rules
from broker.access_rules import TopicAction
from commonwatt.identity.devices import Device, DeviceRole
from commonwatt.model.effects import Publish
from harness.world.stage import Stage

MAX_MESSAGE_BYTES = 1024 * 1024  # largest message; a broker disconnects clients that send larger ones (I10)


class Member(Protocol):
    """A process with links."""

    name: str
    up: bool

    def connected(self, link: "Link") -> None:
        """Handle a link that is connected and subscribed."""

    def arrived(self, link: "Link", topic: str, payload: bytes) -> None:
        """Handle a message."""


class Broker:
    """A broker, in memory only."""

    def __init__(self, world: Stage, name: str) -> None:
        self.refused = 0  # messages that the real broker's rules refuse (I11)
        self._known: dict[tuple[str, TopicAction, str], bool] = {}
        self.name = name  # its name
        self.up = True  # whether it runs
        self.starts = 1  # number of its starts
        self.links: list[Link] = []  # the links of its clients
        self._world = world

    def crash(self, down_s: float) -> None:
        """Lose all state; restart after a while."""
        if self.up:
            self._world.tell(self.name, f"CRASH, back in {down_s:.0f} s")
            self.up = False
            for link in self.links:
                link.disconnect()
            self._world.after(down_s, self._start)

    def allows(self, device: Device, action: TopicAction, topic: str) -> bool:
        """Return the real broker's decision."""
        key = device.identity, action, topic
        if key not in self._known:
            self._known[key] = access_rules.allowed(device, action, topic)
        return self._known[key]

    def _start(self) -> None:
        self.up = True
        self.starts += 1
        self._world.tell(self.name, "up")
        for link in self.links:
            link.reconnect()


def device(identity: str, role: DeviceRole, microgrid: str = "") -> Device:
    """Return an identity; its token does not matter here."""
    return Device(identity=identity, role=role, microgrid=microgrid, token_sha256="")


class Link:
    """One client's connection to its broker."""

    def __init__(self, world: Stage, name: str, member: Member, broker: Broker, device: Device) -> None:
        self.name = name  # its name
        self.device = device  # the client's device
        self.connected = False  # whether the client considers itself connected
        self.cut = False  # whether no message gets through
        self.stalled_until = 0.0  # time until which messages to it are delayed
        self._world = world
        self._rng: random.Random = world.net
        self._member = member
        self._broker = broker
        self._session = 0
        broker.links.append(self)

    def reconnect(self) -> None:
        """Try to connect soon."""
        self._world.after(self._rng.uniform(0.2, 5), self._connect)

    def disconnect(self) -> None:
        """End the connection; messages in transit are lost."""
        if self.connected:
            self.connected = False
            self._world.tell(self.name, f"disconnected from {self._broker.name}")

    def partition(self, for_s: float) -> None:
        """Block the link for a while; the client detects it later, if at all."""
        if self.cut:
            return
        self.cut = True
        self._world.tell(self.name, f"CUT from {self._broker.name} for {for_s:.0f} s")
        notice_s = self._rng.uniform(1, 90)
        if notice_s < for_s:
            self._world.after(notice_s, self.disconnect)
        self._world.after(for_s, self.heal)

    def stall(self, for_s: float) -> None:
        """Delay messages to this client for a while; then deliver them all at once, in random order."""
        self._world.tell(self.name, f"STALLED for {for_s:.0f} s")
        self.stalled_until = self._world.time + for_s

    def heal(self) -> None:
        """Forward all messages again."""
        if self.cut:
            self.cut = False
            self._world.tell(self.name, "healed")
            self.reconnect()

    def _connect(self) -> None:
        if not self.connected and not self.cut and self._broker.up and self._member.up:
            self.connected = True
            self._session += 1
            self._member.connected(self)

    def send(self, message: Publish, to: "Link") -> None:
        """Publish to the client that has subscribed to the topic."""
        world, rng, weather = self._world, self._rng, self._world.weather
        if len(message.payload) > MAX_MESSAGE_BYTES:
            world.fail(f"I10: {self.name} sent {len(message.payload)} bytes")
        world.sent += 1
        if not (
            self._broker.allows(self.device, TopicAction.PUBLISH, message.topic)
            and self._broker.allows(to.device, TopicAction.RECEIVE, message.topic)
        ):
            self._broker.refused += 1
            world.tell(self.name, "REFUSED by the broker", message)
            return
        if not self.connected or self.cut or not to.connected or to.cut:
            world.tell(self.name, "(lost: not connected)", message)
            return
        if rng.random() < weather.loss:
            world.tell(self.name, "(lost)", message)
            return
        copies = [0.0]
        if rng.random() < weather.double:
            copies.append(0.0)
        if rng.random() < weather.repeated:  # of QoS 0 too: a part of another maker may use QoS 1 for it
            copies.append(rng.uniform(5, 60))
        world.tell(self.name, "" if len(copies) == 1 else f"({len(copies)} times)", message)
        for later in copies:
            fate, delay, held = rng.random(), rng.uniform(0.01, 0.3) + later, False
            if to.stalled_until > world.time:
                delay, held = to.stalled_until - world.time + rng.uniform(0, 10), True
            elif fate < weather.held:
                delay, held = rng.uniform(60, 3600), True
            elif fate < weather.held + weather.late:
                delay = rng.uniform(0.3, 60) + later
            world.after(delay, self._delivery(message, to, held=held))

    def _delivery(self, message: Publish, to: "Link", *, held: bool) -> Callable[[], None]:
        session, starts = to._session, self._broker.starts

        def deliver() -> None:
            same = held or (to._session, self._broker.starts) == (session, starts)
            if same and to.connected and not to.cut and self._broker.up:
                to._member.arrived(to, message.topic, message.payload)

        return deliver
