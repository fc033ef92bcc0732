"""A second manager of the same meters: a replaced one, or one that took over for a while (I7, I8)."""

import random
from pathlib import Path
from typing import TYPE_CHECKING

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import Role
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.model.time.now import Now, Trust
from commonwatt.protocol.commands import Epoch, Kind
from commonwatt.town.registry import RegisteredMeter
from gateway.changes import Change, Setting
from gateway.control.manager import Manager
from gateway.store.store import Store
from harness.world.network import Broker, Link, device

if TYPE_CHECKING:
    from harness.world.world import World

EPOCHS: tuple[Epoch, ...] = ((0, 1), (0, 7), (1, 1), (2, 1))
"""Epochs of a manager before the gateway's first epoch, which is (1, 0), and of managers after it."""

WANTED: tuple[tuple[Kind, str], ...] = (
    (Kind.SHARING, "on"),
    (Kind.SHARING, "off"),
    (Kind.REDUCING, "on"),
    (Kind.ISOLATED, "on"),
    (Kind.AGGREGATION, "lossy"),
    (Kind.AGGREGATION, "none"),
)


class Rival:
    """A real manager with its own store, which ignores all messages."""

    wanted = WANTED  # the states that it commands

    def __init__(
        self, world: "World", settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter], broker: Broker
    ) -> None:
        self.name = f"{settings.microgrid}-rival"
        self.up = True
        self._acted = False
        self._world = world
        self._rng: random.Random = world.rng
        self._microgrid = settings.microgrid
        self._meters = list(meters)
        store = Store.open(Path(":memory:"))
        store.commit([Setting("epoch", ",".join(map(str, self._rng.choice(EPOCHS))))])
        self._manager = Manager(settings, settings.microgrid, store, meters)
        store.close()
        self._link = Link(world, self.name, self, broker, device(settings.microgrid, Role.GATEWAY, settings.microgrid))
        self._link.reconnect()

    def connected(self, link: Link) -> None:
        """Not listen."""

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Not listen."""

    def act(self) -> None:
        """Send a command, and again some time later, as managers do."""
        self._acted = True
        kind, value = self._rng.choice(self.wanted)
        trust = self._rng.choice((Trust.NONE, Trust.NETWORK))
        now = Now(self._world.clock(), trust)
        until = now + self._rng.randrange(30, 1800) if value in ("on", "lossy") else None
        self._do(self._manager.order(self._rng.choice(self._meters), kind, value, until, now))
        for after_s in (15, 60, 400):
            self._world.after(after_s, lambda: self._do(self._manager.resend(Now(self._world.clock(), trust))))

    def collect(self) -> None:
        """Request its meters' records every minute: a gateway requests none of a meter that obeys another."""
        if self._acted:
            asked = [(meter, what) for meter in self._meters for what in ("records", "events")]
            self._do([self._manager.command(meter, "get", what=what) for meter, what in asked])
            self._world.after(60, self.collect)

    def _do(self, effects: list[Effect[Change]]) -> None:
        for effect in effects:
            if isinstance(effect, Publish):
                meter = int(effect.topic.split("/")[2])
                self._link.send(effect, self._world.link_of(self._microgrid, meter))
