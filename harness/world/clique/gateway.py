"""A controller in a world of a clique: it hosts all its microgrids, each in a store of its own."""

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from commonwatt.clique.beats import PAUSE_S
from commonwatt.clique.messages import States
from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.devices import DeviceRole
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.units import MeterId, MicrogridId
from commonwatt.protocol.commands import Command, Epoch
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, OUTCOMES
from commonwatt.sqlite import SqliteError
from commonwatt.town.registry import RegisteredMeter
from gateway.clique.effects import EpochPair
from gateway.clique.kept import Hooks, kept_epochs
from gateway.clique.member import Member, MemberState
from gateway.controller import Controller, carried
from gateway.core import RETRY
from gateway.events import (
    Committed,
    Connected,
    Event,
    FromMeter,
    FromUtility,
    Granted,
    NotStored,
    Quiet,
    Tick,
    ToldStates,
)
from gateway.loop.hosted_store import HostedStore
from gateway.store.changes import AddDeadLetters, Change, Setting
from gateway.store.store import Store
from harness.world import masks
from harness.world.clique.part import NAMES, RANKS, CliquePart, Recorded
from harness.world.clique.watch import TRANSITIONS
from harness.world.gateway import GatewayNode
from harness.world.ledger import EventKey
from harness.world.network import Broker, Link, device
from harness.world.node import finish

if TYPE_CHECKING:
    from harness.world.clique.world import CliqueWorld


@dataclass(frozen=True)
class HostedHolder:
    """The store of one microgrid at a controller."""

    node: "CliqueGateway"
    microgrid: MicrogridId

    @property
    def name(self) -> str:
        """Its name in the ledger."""
        own = self.node.name
        return own if own == self.microgrid else f"{own} for {self.microgrid}"

    @property
    def jumped(self) -> bool:
        """Whether the clock jumped since the start."""
        return self.node.jumped

    @property
    def store(self) -> Store:
        """The store."""
        return self.node.stores[self.microgrid].store

    def holdings(self) -> masks.Holdings:
        """Return the holdings read from the store."""
        return masks.of_parts((part.key, part.payload) for part in self.store.all_parts(unsent_only=False))

    def events(self) -> set[EventKey]:
        """Return the events in the store."""
        stored = self.store.all_events(unsent_only=False)
        return {(event.meter_id, generation, event.record_id) for generation, event in stored}


COMMIT_S = (0.01, 0.06)  # seconds until an epoch is durable
FREE_BYTES = 10**11  # of a disk with room
_KEPT = "clique:"  # names of the settings that keep epochs begin so


class CliqueGateway(GatewayNode):
    """One controller of the clique."""

    world: "CliqueWorld"
    part: CliquePart

    def __init__(
        self,
        world: "CliqueWorld",
        settings: GatewaySettings,
        registered: Mapping[MicrogridId, dict[MeterId, RegisteredMeter]],
        broker: Broker,
        head_end: Broker,
    ) -> None:
        self.stores: dict[MicrogridId, HostedStore] = {}
        self.holders = {microgrid: HostedHolder(self, microgrid) for microgrid in NAMES}
        self.taking: Recorded | None = None  # the datagram that it takes
        self.unconfirmed: set[MicrogridId] = set()  # whose epoch was not confirmed since its start or pause
        self.durable: dict[MicrogridId, EpochPair] = {}  # the epochs that its store has
        self.older: dict[MicrogridId, str] = {}  # the epochs that its store had at an earlier time
        self.paused_at: float | None = None  # when its process was paused; ``None``: it goes on
        self._waits: list[Callable[[], None]] = []
        self._keeping: Coroutine[object, None, None] | None = None
        self._states: dict[MicrogridId, MemberState] = {}
        self._at = settings.microgrid
        self._registered = registered
        super().__init__(world, settings, registered[settings.microgrid], broker, head_end)
        serving = replace(
            device(self.name, DeviceRole.GATEWAY, self.name), serves=tuple(n for n in NAMES if n != self.name)
        )
        self.local.device = serving
        self.broker = broker  # on its machine

    # Its stores.

    def open_store(self) -> None:
        now = int(self.world.time)
        self.stores = {name: HostedStore.open(self.disk.folder / f"{name}.db", now) for name in NAMES}
        self.hosted = self.stores[self.name]
        self.opened()

    def opened(self) -> None:
        """Give new stores ids of the seed's."""
        for one in self.stores.values():
            one.opening = False
            if one.store.setting("of_the_seed") is None:
                one.store.commit([Setting("store_id", str(self._disk_rng.getrandbits(62))), Setting("of_the_seed", "")])
                one.store.store_id = int(one.store.setting("store_id") or 0)

    def close_store(self) -> None:
        for one in self.stores.values():
            one.store.close()

    def open_again(self, failure: Exception) -> None:
        """Open the stores after one failed."""
        for one in self.stores.values():
            one.open_again(failure, int(self.world.time), gone=False)

    def refused(self, error: object) -> None:
        """Tell that a store took no changes."""
        super().refused(error)
        self.hosted.opening = True

    def compare(self) -> None:
        """Compare the stores with the ledger."""
        for holder in self.holders.values():
            self.world.ledger.check_gateway(holder.name, holder.holdings())

    def lose_store(self, down_s: float) -> None:
        """Crash, and begin with empty stores: data that only the old ones had is lost."""
        lost = {holder.name: holder.events() for holder in self.holders.values()}
        self.crash(down_s)
        self.world.tell(self.name, "its STORES ARE LOST")
        self.world.story.count("stores lost")
        self.lose_files()
        for name, events in lost.items():
            self.world.ledger.lost_gateway(name, events)

    def set_back(self, down_s: float) -> None:
        """Crash, and begin with older epochs."""
        self.crash(down_s)
        self.world.tell(self.name, f"its epochs are OLD: {self.older}")
        self.empty()
        self.store.commit([Setting(_KEPT + name, text) for name, text in self.older.items()])

    # Its life.

    def build(self) -> None:
        """Make the cores again."""
        self.asleep = False
        self._puts.clear()
        self._states.clear()
        self.unconfirmed = set(NAMES)
        self.part = CliquePart(self, dict(self._registered), self.store)
        kept = {name: kept_epochs(self.store, name) for name in NAMES}
        self.durable = {name: one for name, one in kept.items() if one is not None}
        self.controller = Controller(self.settings, self.store, self.meters, self.part.members)
        self.host_again()
        self.compare()

    def host_again(self) -> None:
        """Host all microgrids from their stores."""
        for name in (self.name, *(n for n in NAMES if n != self.name)):
            self.controller.host(name, self.stores[name].store, self._registered[name])
            if self.starts_again:
                self.controller.hosted[name].reopened(self.clock())

    @property
    def starts_again(self) -> bool:
        """Whether its stores failed, and are opened again."""
        return self._failure is not None

    def started(self) -> None:
        """Begin to tick and to take part."""
        self._failure = None
        super().started()
        self.part.begin(
            Hooks(
                store=lambda: self.hosted,
                keep=self._keep,
                publish=self._send,
                begin=self._begun,
                states=self._told,
                take_states=lambda said: self.put_in(
                    "states", said.microgrid, json.dumps([said.states, said.now]).encode()
                ),
                resume=lambda: self.put_in("tick", RETRY),
                is_connected=lambda: self.local.connected,
                commits=lambda name: not self.asleep and not self.controller.hosted[name].upkeep.short,
                put_s=lambda name: self.controller.hosted[name].manager.put_s,
            )
        )
        self._turn_at = 0.0
        self._turn(0.0)

    def crash(self, down_s: float) -> None:
        """Lose all but the stores."""
        self.paused_at, self._waits = None, []
        self._drop_keeping()
        super().crash(down_s)

    def close(self) -> None:
        """Close the stores, and forget the disk."""
        self._drop_keeping()
        super().close()

    def _drop_keeping(self) -> None:
        if self._keeping is not None:
            self._keeping.close()
            self._keeping = None

    def pause(self) -> None:
        """Stop the process (SIGSTOP)."""
        if self.up and self.paused_at is None:
            self.world.tell(self.name, "is PAUSED")
            self.paused_at = self.world.time

    def go_on(self) -> None:
        """Let a paused process go on (SIGCONT)."""
        if self.paused_at is None:
            return
        self.world.tell(self.name, "goes on")
        if self.world.time - self.paused_at > PAUSE_S:
            self.unconfirmed = set(NAMES)
        self.paused_at, waits, self._waits = None, self._waits, []
        for action in waits:
            self.guarded(action)
        if self.waiting:
            self._wait()

    def guarded(self, action: Callable[[], None]) -> None:
        """Do something, once the process is not paused; it may end in a crash."""
        if self.paused_at is None:
            super().guarded(action)
        else:
            self._waits.append(action)

    def _wait(self) -> None:
        if self.paused_at is None:
            super()._wait()

    # Its part in the clique.

    def _turn(self, at: float) -> None:
        if self._turn_at == at:
            self._turn_at = self.part.turn()
            self.look()
            for microgrid, member in self.part.members.items():
                if member.commands and not member.unkept:
                    self.check(microgrid, member)
            self._rest()

    def _rest(self) -> None:
        at = self._turn_at
        self.later(max(0.0, at - self.world.monotonic), lambda: self._turn(at))

    def _woken(self) -> None:
        """Do a step soon, if what came asks for it."""
        if self.part.is_awake:
            self._turn_at = self.world.monotonic
            self._rest()

    def take(self, recorded: Recorded) -> None:
        """Take a datagram."""

        def take() -> None:
            self.taking = recorded
            self.part.socket._take(recorded.data, (recorded.source,))
            recorded.came = True
            self._woken()

        self.guarded(take)

    def arrived(self, link: Link, topic: str, payload: bytes) -> None:
        """Queue a message; the part in the clique hears the meters' first."""

        def arrive() -> None:
            if link is self.local:
                if topic.endswith(OUTCOMES):
                    self.unconfirmed.discard(topic.split("/")[1])
                self.part.heard(FromMeter(topic, payload))
            elif topic.endswith(f"/{COMMANDS}"):
                self.part.watch()
            self._woken()
            super(CliqueGateway, self).arrived(link, topic, payload)

        if self.up:
            self.guarded(arrive)

    def keep_later(self, work: Coroutine[object, None, None]) -> Coroutine[object, None, None]:
        """Let a commit take its time."""
        self._keeping = work

        def end() -> None:
            if self._keeping is work:
                self._keeping = None
                finish(work)
                self.look()  # what its store did not take is undone: a state of its own, however short
                self._woken()

        self.later(self.rng.uniform(*COMMIT_S), end)
        return work

    async def _keep(self, changes: list[Change]) -> SqliteError | None:
        if self.asleep:
            return SqliteError("the store is not open")
        self._at = self.name
        try:
            await self._commit(changes)
        except SqliteError as error:
            return error
        return None

    def _begun(self, microgrid: MicrogridId) -> None:
        member = self.part.members[microgrid]
        self.unconfirmed.discard(microgrid)
        self.world.began(self.name, microgrid, member.kept.held)
        self.check(microgrid, member)
        self.put_in("granted", microgrid)

    def _told(self, microgrid: MicrogridId) -> States:
        core = self.controller.hosted[microgrid]
        now = int(core.tell(self.clock()))
        return States.model_construct(microgrid=microgrid, now=now, states=carried(core))

    def look(self) -> None:
        """Look at the states: which follows which."""
        for microgrid, member in self.part.members.items():
            before, state = self._states.get(microgrid, member.state), member.state
            self._states[microgrid] = state
            if before != state:
                self.world.story.count(f"{before} to {state}")
                if (before, state) not in TRANSITIONS:
                    self.world.fail(f"state: {self.name} in {microgrid}: from {before} to {state}")

    def check(self, microgrid: MicrogridId, member: Member) -> None:
        """Check that it commands only under an epoch that was granted to it, is durable, and not in doubt."""
        held: Epoch = member.kept.held
        if self.world.grants.get((microgrid, held)) != self.name:
            self.world.fail(f"I-b: {self.name} commands {microgrid} under {held}, which was not granted to it")
        if self.durable.get(microgrid) != member.kept:
            self.world.fail(f"I-b: {self.name} commands {microgrid} under {held}, which is not durable")
        if microgrid in self.unconfirmed:
            self.world.fail(
                f"I-c: {self.name} commands {microgrid}, though its epoch was not confirmed since it stopped"
            )

    # Its work.

    def _event(self, what: str, topic: str, payload: bytes) -> Event:
        match what:
            case "tick":
                return Tick(topic)
            case "connected":
                return Connected()
            case "quiet":
                return Quiet(topic)
            case "granted":
                return Granted(topic)
            case "states":
                states, sent = json.loads(payload)
                return ToldStates(topic, states, sent)
        return (FromMeter if what == self.local.name else FromUtility)(topic, payload)

    def step(self, group: Sequence[tuple[str, str, bytes]], now: int) -> None:
        """Handle a group of messages, each microgrid's in its own store, and what follows from their commit."""
        if any(each[:2] == ("tick", RETRY) for each in group):
            for name in NAMES:
                self.controller.hosted[name].disk_space(0 if self.disk.full else FREE_BYTES)
        self._act([self._event(*each) for each in group], now)
        self._act([Committed(name) for name in NAMES], now)

    def refuse(self, group: Sequence[tuple[str, str, bytes]], now: int) -> None:
        """Refuse the puts of a group while there is no store; what else it holds is sent again, or due."""
        self._act([NotStored(topic, payload) for what, topic, payload in group if what == self.local.name], now)

    def _act(self, events: Sequence[Event], now: int) -> None:
        wanted: dict[MicrogridId, list[Effect[Change]]] = {}
        for event in events:
            for microgrid in self.controller.receivers(event):
                wanted.setdefault(microgrid, []).extend(self.controller.handle(microgrid, event, now))
        for self._at, effects in wanted.items():
            self.perform(effects)

    def commit(self, changes: Sequence[Change]) -> None:
        holder = self.holders[self._at]
        self.world.ledger.before_gateway(holder, changes)
        holder.store.commit(changes)

    def note(self, changes: Sequence[Change]) -> None:
        self.world.ledger.after_gateway(self.holders[self._at].name, changes)
        for change in changes:
            if isinstance(change, Setting) and change.key.startswith(_KEPT):
                name = change.key.removeprefix(_KEPT)
                if name in self.durable and name not in self.older and self.world.monotonic > 100:
                    self.older[name] = self.durable[name].text()
                self.durable[name] = EpochPair.read(change.value)
                self.world.knows(self.name, name, self.durable[name].highest)

    def transmit(self, message: Publish) -> None:
        if message.topic.startswith(self._prefix):
            self.head_end.send(message, self.world.utility.link)
            return
        if self.part.permits(message):
            self._send(message)

    def _send(self, message: Publish) -> None:
        """Send a message to a meter; check that it is no command that may not be given."""
        _, microgrid, meter, *_ = message.topic.split("/")
        if message.topic.endswith(COMMANDS):
            epoch = unpack_json(Command, message.payload).epoch
            if epoch[0]:
                if epoch[1] != RANKS[self.name]:
                    self.world.fail(f"I8: {self.name} commands meter {meter} in epoch {epoch}, of another rank")
                self.check(microgrid, self.part.members[microgrid])
        self.local.send(message, self.world.fleets[microgrid].link_to(int(meter), self.name))

    def drained(self) -> bool:
        """Return whether the utility has all data."""
        return self.up and all(
            not one.store.closed and one.store.backlog() == (0, 0, 0) and not self.controller.hosted[name].relay.wanted
            for name, one in self.stores.items()
        )

    def has(self, changes: Sequence[Change]) -> bool:
        letters = set(self.holders[self._at].store.dead_letters())
        return any(set(one.dead_letters) <= letters for one in changes if isinstance(one, AddDeadLetters))

    # What is looked at.

    @property
    def runs(self) -> bool:
        """Whether its process does anything."""
        return self.up and self.paused_at is None

    def manages(self, microgrid: MicrogridId) -> bool:
        """Return whether it believes to manage a microgrid."""
        member = self.part.members[microgrid] if self.runs else None
        return member is not None and member.commands and not member.unkept
