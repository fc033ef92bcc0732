"""A gateway in a simulated world: ``gateway.shell`` without sockets and scheduler."""

import random
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import MeterId
from commonwatt.protocol.commands import Command
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, RECORDS, gateway_up
from commonwatt.town.registry import RegisteredMeter
from gateway.controller import JOBS, Controller
from gateway.core import RETRY, HostedMicrogrid
from gateway.events import Committed, Connected, Event, FromMeter, FromUtility, NotStored, Quiet, Tick
from gateway.loop.hosted_store import HostedStore
from gateway.loop.inbox import MAX_GROUP, MAX_WAITING
from gateway.loop.work import REOPEN_AFTER_S
from gateway.relay.outbox import WINDOW
from gateway.relay.relay import MAX_WANTED
from gateway.store.changes import AddDeadLetters, Change, Setting
from gateway.store.store import Store
from gateway.store.tables import part_is_sound
from harness.world import masks
from harness.world.network import Broker, Link, device
from harness.world.node import Node

if TYPE_CHECKING:
    from harness.world.world import World


class Holder(Protocol):
    """A store of a microgrid's records, at a controller."""

    @property
    def name(self) -> str:
        """Its name in the ledger."""

    @property
    def jumped(self) -> bool:
        """Whether its clock jumped since the start."""

    @property
    def store(self) -> Store:
        """The store."""

    def holdings(self) -> masks.Holdings:
        """Return the holdings read from the store."""


class GatewayNode(Node[Change]):
    """One microgrid's gateway."""

    world: "World"
    controller: Controller  # the cores
    # Two meters as slow as the longest delay of a message: an old acknowledgement agrees with them.
    wrong_s: tuple[int, ...] = (-1_781_900_000, -14_400, -3600, -2700, -1800, -400, 400, 1800, 3600, 86_400)
    max_waiting = MAX_WAITING

    def __init__(
        self,
        world: "World",
        settings: GatewaySettings,
        meters: dict[MeterId, RegisteredMeter],
        broker: Broker,
        head_end: Broker,
    ) -> None:
        super().__init__(world, settings.microgrid)
        self._disk_rng = random.Random(f"{world.seed}/{self.name}/cuts")
        self._store_id = 0
        self._failure: Exception | None = None
        self.open_store()
        identity = device(self.name, DeviceRole.GATEWAY, self.name)
        self.local = Link(world, f"{self.name}-l", self, broker, identity)  # its link to the microgrid's broker
        self.head_end = Link(world, f"{self.name}-h", self, head_end, identity)  # its link to the head-end
        self.asleep = False
        self._puts: list[tuple[str, str, bytes]] = []
        self.links = [self.local, self.head_end]
        self.settings = settings
        self.meters = meters
        self._prefix = gateway_up(settings.microgrid, "")

    @property
    def store(self) -> Store:
        """The store, which outlives a crash."""
        return self.hosted.store

    def open_store(self) -> None:
        self.hosted = HostedStore.open(self.disk.folder / "gateway.db", int(self.world.time))
        self.opened()

    def opened(self) -> None:
        """Note what a new store lost of the one that it replaced, and give it an id of the seed's."""
        if self.store.store_id == self._store_id:
            return
        if self._store_id:
            self.world.tell(self.name, "its store was DAMAGED, and is replaced")
            self.world.story.count("stores replaced")
        self._store_id = self._disk_rng.getrandbits(62)
        self.store.commit([Setting("store_id", str(self._store_id))])
        self.store.store_id = self._store_id

    def build(self) -> None:
        """Make the core again; compare the store with the ledger."""
        self.asleep = False
        self._puts.clear()
        self.controller = Controller(self.settings, self.store, self.meters)
        self.compare()

    def compare(self) -> None:
        """Compare the store with the ledger."""
        if self.disk.rotten:
            self.world.ledger.rotted(self.name, self.holdings())
            self.disk.rotten = False
        else:
            self.world.ledger.check_gateway(self.name, self.holdings())

    def close_store(self) -> None:
        self.store.close()

    @property
    def core(self) -> HostedMicrogrid:
        """The core of its microgrid."""
        return self.controller.own

    def lose_store(self, down_s: float) -> None:
        """Crash, and begin with an empty store: data that only the old one had is lost."""
        stored = self.store.all_events(unsent_only=False)
        events = {(event.meter_id, generation, event.record_id) for generation, event in stored}
        self.crash(down_s)
        self.world.tell(self.name, "its STORE IS LOST")
        self.world.story.count("stores lost")
        self._store_id = 0
        self.lose_files()
        self.world.ledger.lost_gateway(self.name, events)

    def rot(self) -> None:
        """Flip a bit on the disk; what only this store has may be lost, and nothing else may be believed."""
        where = self.disk.rot()
        self.world.tell(self.name, f"ROT: {where}")
        self.world.story.count("rot")

    def holdings(self) -> masks.Holdings:
        """Return the holdings read from the store."""
        found = [(part.key, part.payload) for part in self.store.all_parts(unsent_only=False)]
        return masks.of_parts(each for each in found if not self.disk.rotten or part_is_sound(*each[0], each[1]))

    def started(self) -> None:
        """Begin to tick, each job separately."""
        for job in JOBS:
            self._again(job, self.rng.uniform(0, self.controller.tick_every_s(job)))

    def _again(self, job: str, delay: float) -> None:
        def tick() -> None:
            self.put_in("tick", job)
            self._again(job, self.controller.tick_every_s(job))

        self.later(delay, tick)

    def connected(self, link: Link) -> None:
        """Perform the shell's work after a subscription."""
        if link is self.local:
            self.put_in("tick", RETRY)
        else:
            self.put_in("connected")

    def put_in(self, what: str, topic: str = "", payload: bytes = b"") -> None:
        """Queue a call; puts of records wait for others first, while everything else passes them."""
        if what != self.local.name or not topic.endswith(f"/{RECORDS}"):
            super().put_in(what, topic, payload)
        elif len(self.waiting) + len(self._puts) < self.max_waiting:
            self._puts.append((what, topic, payload))
            if len(self._puts) == 1:
                self.later(self.rng.uniform(0, self.settings.commit_s), self._due)

    def _due(self) -> None:
        puts, self._puts = self._puts, []
        for put in puts:
            super().put_in(*put)

    def work(self) -> None:
        """Handle all waiting messages in one transaction, then the effects that it allows, as the shell does."""
        now = self.clock()
        group, self.waiting = self.waiting[:MAX_GROUP], self.waiting[MAX_GROUP:]
        if self.asleep:
            self.refuse(group, now)
            return
        try:
            self.step(group, now)
        except sqlite3.Error as error:
            self.refused(error)
            self.refuse(group, now)
            self.asleep, self._failure = True, error
            self.later(REOPEN_AFTER_S, self._reopen)
        self._check_bounds()

    def _check_bounds(self) -> None:
        """Check its state in memory (I10)."""
        relay = self.core.relay
        bounds = {
            "waiting messages": (len(self.waiting), self.max_waiting),
            "batches in flight": (len(relay.in_flight), WINDOW + 1),
            "blocks asked for": (len(relay.wanted), MAX_WANTED),
        }
        for what, (number, most) in bounds.items():
            if number > most:
                self.world.fail(f"I10: {self.name} has {number} {what}, {most} at most")

    def step(self, group: Sequence[tuple[str, str, bytes]], now: int) -> None:
        """Handle a group of messages, and what follows from their commit."""
        self.perform([effect for event in group for effect in self.asked(*event, now)])
        self.perform(self.committed(now))

    def refuse(self, group: Sequence[tuple[str, str, bytes]], now: int) -> None:
        """Refuse the puts of a group while there is no store; what else it holds is sent again, or due."""
        puts = [NotStored(topic, payload) for what, topic, payload in group if what == self.local.name]
        self.perform([effect for put in puts for effect in self._handle(put, now)])

    def _reopen(self) -> None:
        """Open the store again, and make the core again from it."""
        assert self._failure is not None
        try:
            self.open_again(self._failure)
        except (StoreError, sqlite3.Error) as error:
            why = str(error).replace(str(self.disk.folder), "")  # the same in each process
            self.world.tell(self.name, f"can't open its store: {why}")
            self.later(REOPEN_AFTER_S, self._reopen)
            return
        self.opened()
        self.asleep, self._failure = False, None
        self.host_again()
        self.compare()
        for job in JOBS:
            self.put_in("tick", job)

    def open_again(self, failure: Exception) -> None:
        """Open the store after it failed."""
        self.hosted.open_again(failure, int(self.world.time), gone=False)

    def host_again(self) -> None:
        """Make the core again from the store that was opened again."""
        self.controller.host(self.name, self.store, self.meters)
        self.core.reopened(self.clock())

    def _handle(self, event: Event, now: int) -> list[Effect[Change]]:
        return self.controller.handle(self.name, event, now)

    def committed(self, now: int) -> list[Effect[Change]]:
        """Do the work that reads committed data."""
        return self._handle(Committed(self.name), now)

    def asked(self, what: str, topic: str, payload: bytes, now: int) -> list[Effect[Change]]:
        """Pass a message or a call to the core."""
        if what == "tick":
            return self._handle(Tick(topic), now)
        if what == "connected":
            return self._handle(Connected(), now)
        if what == "quiet":
            return self._handle(Quiet(topic), now)
        return self._handle((FromMeter if what == self.local.name else FromUtility)(topic, payload), now)

    def commit(self, changes: Sequence[Change]) -> None:
        self.world.ledger.before_gateway(self, changes)
        self.store.commit(changes)

    def note(self, changes: Sequence[Change]) -> None:
        self.world.ledger.after_gateway(self.name, changes)

    def has(self, changes: Sequence[Change]) -> bool:
        """Return whether it has what a power cut left in doubt; the ledger reads its readings from it at the start."""
        letters = set(self.store.dead_letters())
        return any(set(one.dead_letters) <= letters for one in changes if isinstance(one, AddDeadLetters))

    def transmit(self, message: Publish) -> None:
        if message.topic.startswith(self._prefix):
            self.head_end.send(message, self.world.utility.link)
        else:
            meter = message.topic.split("/")[2]
            if message.topic.endswith(COMMANDS) and (epoch := unpack_json(Command, message.payload).epoch)[1]:
                self.world.fail(f"I8: {self.name} commands meter {meter} in epoch {epoch}, of another manager's rank")
            self.local.send(message, self.world.link_of(self.name, int(meter)))

    def drained(self) -> bool:
        """Return whether the utility has all data."""
        return self.up and not self.store.closed and self.store.backlog() == (0, 0, 0) and not self.core.relay.wanted
