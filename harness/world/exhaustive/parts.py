"""The parts of the small world: real cores on real stores, with numbered states.

A step of a part depends only on its state (store and memory), its input and the time. So each state is stored once,
under a number, and each step is performed once; the exploration then only compares numbers.
"""

import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from sqlalchemy import true

from commonwatt.config.settings import GatewaySettings
from commonwatt.device import changes as meter_changes
from commonwatt.device.meter import MeterCore, MeterLimits
from commonwatt.device.store import open_store
from commonwatt.model import effects
from commonwatt.model.blocks import Blocks
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.records import HistoryRecord, unpack_history
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import MeterId
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.town import Meter as Description
from gateway.controller import Controller
from gateway.core import RETRY
from gateway.events import Committed, Connected, Event, FromMeter, FromUtility, Tick
from gateway.store import changes as gateway_changes
from gateway.store.store import Store
from harness.surroundings.databases import put_back
from harness.world import masks
from harness.world.exhaustive.states import canonical, copied, pickled, rows_of
from harness.world.node import finish
from meter_sim.store import TRUTH
from utility.database.database import open_database
from utility.outbox import changes as utility_changes
from utility.readings.core import CommandsOpen, Core, FromGateway
from utility.readings.store.parts import PartReader, select_parts
from utility.readings.store.writer import Writer
from utility.registry.store.registry import load_snapshot

W = TypeVar("W")
C = TypeVar("C")

TICK = "tick"  # input to a part when its timers may be due


@dataclass(frozen=True)
class Point:
    """A possible crash of a part: the content of its store, and its messages since the step began."""

    image: int
    sent: tuple[Publish, ...]


@dataclass(frozen=True)
class Step:
    """The result of a step."""

    state: int  # number of the state after it
    sent: tuple[Publish, ...]  # the published messages
    points: tuple[Point, ...]  # the possible crashes, in order


class Part(ABC, Generic[C, W]):
    """One process: a core of type ``C`` on a store that takes changes of type ``W``."""

    def __init__(self, name: str, connection: sqlite3.Connection) -> None:
        self.name = name  # its name in a story
        self.connection = connection  # its store's
        self.unsynced = False  # whether a crash undoes the last commit of a step: a planted bug
        self._images: list[bytes] = []
        self._image_of: dict[int, int] = {}
        self._cores: list[tuple[bytes, int]] = []
        self._state_of: dict[int, int] = {}
        self._steps: dict[tuple[int, str, bytes, int], Step] = {}
        self._boots: dict[tuple[int, int], Step] = {}

    @abstractmethod
    def build(self) -> C:
        """Make the core from the store alone."""

    @abstractmethod
    def begin(self, core: C, now: int) -> Iterator[Sequence[Effect[W]]]:
        """Perform the shell's work at a start."""

    @abstractmethod
    def ask(self, core: C, topic: str, payload: bytes, now: int) -> Iterator[Sequence[Effect[W]]]:
        """Handle a message or ``TICK`` as the shell does; yield the effects of one transaction at a time."""

    @abstractmethod
    def commit(self, changes: Sequence[W]) -> None:
        """Commit."""

    def shared(self) -> Sequence[object]:
        """Return the objects that a copy of a core shares with it."""
        return ()

    # States and steps by number.

    def start(self, image: int, now: int) -> Step:
        """Start from the content of a store."""
        if (image, now) not in self._boots:
            self._restore(image)
            core = self.build()
            self._boots[image, now] = self._run(core, image, self.begin(core, now))
        return self._boots[image, now]

    @cached_property
    def first_image(self) -> int:
        """The store's content before all steps."""
        return self._keep_image()

    def step(self, state: int, topic: str, payload: bytes, now: int) -> Step:
        """Perform a part's step in a state."""
        key = state, topic, payload, now
        if key not in self._steps:
            core, image = self._core(state)
            self._steps[key] = self._run(core, image, self.ask(core, topic, payload, now))
        return self._steps[key]

    def change(self, state: int, action: Callable[[C], Sequence[Effect[W]]]) -> Step:
        """Apply a function to a part in a state."""
        core, image = self._core(state)
        return self._run(core, image, iter([action(core)]))

    def core(self, state: int) -> C:
        """Return a copy of the core in a state, on its store."""
        return self._core(state)[0]

    @property
    def states(self) -> int:
        """The number of its states."""
        return len(self._cores)

    def _core(self, state: int) -> tuple[C, int]:
        core, image = self._cores[state]
        self._restore(image)
        return copied(core, self.shared()), image

    def _run(self, core: C, image: int, transactions: Iterator[Sequence[Effect[W]]]) -> Step:
        sent: list[Publish] = []
        images = [image]
        points: list[Point] = []

        def point() -> None:
            kept = images[-2] if self.unsynced and len(images) > 1 else images[-1]
            points.append(Point(kept, tuple(sent)))

        async def commit(changes: list[W]) -> None:
            point()
            self.commit(changes)
            images.append(self._keep_image())
            point()

        def publish(message: Publish) -> None:
            sent.append(message)
            point()

        for wanted in transactions:
            finish(effects.perform(wanted, commit, publish))
        return Step(self._keep(core, images[-1]), tuple(sent), tuple(dict.fromkeys(points)))

    def _keep(self, core: C, image: int) -> int:
        identity = hash((image, canonical(core)))
        if identity not in self._state_of:
            self._state_of[identity] = len(self._cores)
            self._cores.append((pickled(core, self.shared()), image))
        return self._state_of[identity]

    def _keep_image(self) -> int:
        identity = hash(rows_of(self.connection))
        if identity not in self._image_of:
            self._image_of[identity] = len(self._images)
            self._images.append(self.connection.serialize())
        return self._image_of[identity]

    def _restore(self, image: int) -> None:
        put_back(self.connection, self._images[image])


class MeterPart(Part[MeterCore, meter_changes.MeterChange]):
    """The meter."""

    def __init__(self, description: Description, now: int) -> None:
        self._store = open_store(Path(":memory:"), TRUTH)
        super().__init__("meter", self._store.connection)
        self._description = description
        self._limits = MeterLimits(resolution=1)
        self._born = now

    def build(self) -> MeterCore:
        id_ = self._description.id
        fresh = meter_changes.StoredMeter(
            state=meter_changes.MeterState(meter=id_, generation=self._born),
            desired_states=meter_changes.DesiredStates(id_, (0, 0), {}),
        )
        return MeterCore(self._description, self._limits, self._store.load(id_) or fresh, Counter())

    def begin(self, core: MeterCore, now: int) -> Iterator[Sequence[Effect[meter_changes.MeterChange]]]:
        yield core.boot(now, power_lost=False)

    def ask(
        self, core: MeterCore, topic: str, payload: bytes, now: int
    ) -> Iterator[Sequence[Effect[meter_changes.MeterChange]]]:
        yield core.tick(now) if topic == TICK else core.receive(topic.rpartition("/")[2], payload, now)

    def commit(self, changes: Sequence[meter_changes.MeterChange]) -> None:
        self._store.commit(changes)

    def shared(self) -> Sequence[object]:
        return (self._description, self._limits)

    def held(self, state: int) -> list[HistoryRecord]:
        """Return the records in its logs."""
        return [unpack_history(row) for row in self.core(state).history.rows]


class GatewayPart(Part[Controller, gateway_changes.Change]):
    """A gateway."""

    def __init__(
        self, name: str, settings: GatewaySettings, meters: dict[MeterId, RegisteredMeter], store: int
    ) -> None:
        self._store = Store.open(Path(":memory:"))
        super().__init__(name, self._store._db)
        self._settings = settings
        self._meters = meters
        self._store.commit([gateway_changes.Setting("store_id", str(store))])
        self._store.store_id = store

    def set(self, key: str, value: str) -> None:
        """Put a setting into its store before the first start."""
        self._store.commit([gateway_changes.Setting(key, value)])

    def build(self) -> Controller:
        return Controller(self._settings, self._store, self._meters)

    def begin(self, core: Controller, now: int) -> Iterator[Sequence[Effect[gateway_changes.Change]]]:
        return self._each(core, now, Connected(), Tick(RETRY))

    def ask(
        self, core: Controller, topic: str, payload: bytes, now: int
    ) -> Iterator[Sequence[Effect[gateway_changes.Change]]]:
        if topic == TICK:
            return self._each(core, now, Tick(RETRY), Tick("relay_s"))
        return self._each(core, now, (FromMeter if "/u/" in topic else FromUtility)(topic, payload))

    def _each(self, core: Controller, now: int, *events: Event) -> Iterator[Sequence[Effect[gateway_changes.Change]]]:
        yield [effect for event in events for effect in core.handle(core.home, event, now)]
        yield core.handle(core.home, Committed(core.home), now)

    def commit(self, changes: Sequence[gateway_changes.Change]) -> None:
        self._store.commit(changes)

    def shared(self) -> Sequence[object]:
        return (self._store, self._settings, self._meters, *self._meters.values())

    def holdings(self, state: int) -> tuple[masks.Holdings, masks.Holdings]:
        """Return the gateway's blocks, and those that it has marked as acknowledged by the utility."""
        self._restore(self._cores[state][1])
        parts = list(self._store.all_parts(unsent_only=False))
        done = [part for part in parts if part.relayed == gateway_changes.DONE]
        return tuple(masks.of_parts((p.key, p.payload) for p in some) for some in (parts, done))  # type: ignore[return-value]

    def drained(self, state: int) -> bool:
        """Return whether all of its data is relayed."""
        self._restore(self._cores[state][1])
        return self._store.backlog() == (0, 0, 0)


class UtilityPart(Part[Core, utility_changes.UtilityChange]):
    """The utility."""

    def __init__(self, fill: Callable[[Any], object]) -> None:
        self._database = open_database("sqlite://", create=True)
        with self._database.writes.begin() as connection:
            fill(connection)
        self._raw = self._database.reads.raw_connection()  # which stays open
        super().__init__("utility", self._raw.driver_connection)  # type: ignore[arg-type]

    def build(self) -> Core:
        with self._database.reads.begin() as connection:
            return Core(self._database.store_id, load_snapshot(connection), 600)

    def begin(self, core: Core, now: int) -> Iterator[Sequence[Effect[utility_changes.UtilityChange]]]:
        yield core.handle(CommandsOpen(()), Now(now, Trust.NETWORK)).effects

    def ask(
        self, core: Core, topic: str, payload: bytes, now: int
    ) -> Iterator[Sequence[Effect[utility_changes.UtilityChange]]]:
        yield core.handle(FromGateway(topic, payload), Now(now, Trust.NETWORK)).effects

    def commit(self, changes: Sequence[utility_changes.UtilityChange]) -> None:
        Writer(self._database).commit(changes)

    def stored(self, state: int) -> Blocks:
        """Return the utility's blocks, as its own reader joins them."""
        self._restore(self._cores[state][1])
        with self._database.reads.begin() as connection:
            return PartReader(self._database).read(connection, select_parts(lambda _: true()))
