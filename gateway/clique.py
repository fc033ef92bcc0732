"""A gateway's part in its cliques, in the shell: datagrams, time, the durable epochs, and questions to meters.

``gateway.takeover`` decides; this carries it out. What is to be kept is committed to the store of the controller's own
microgrid before anything that follows is done.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from commonwatt.cliques.signs import BEAT_S, NUMBERS, RESTART, Beat
from commonwatt.cliques.warm import warm_meters
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.byte_count import ByteCount
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.network.clique_socket import CliqueSocket
from commonwatt.protocol.clique_messages import CliqueMessage, SendBeat, States, Tell, Yield
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, OUTCOMES, meter_down, parse_meter_up
from commonwatt.sqlite.damage import SqliteError
from commonwatt.town.clique_file import CliqueFile, Group, beside, load_cliques, parties
from commonwatt.town.registry import RegisteredMeter
from commonwatt.town.revoked_file import REVOKED_FILE, SignedList, load_signed_list
from commonwatt.town.town import Function
from gateway.changes import Change, Setting
from gateway.events import FromMeter
from gateway.hosted_store import HostedStore
from gateway.registries import Registries
from gateway.revoked import RevokedOffer
from gateway.stored import KeptSettings
from gateway.takeover.controller import Takeover
from gateway.takeover.effects import AskMeters, Begin, Effect, Keep, Kept, TakeStates
from gateway.takeover.hearing import Hearing
from gateway.takeover.member import Member
from gateway.takeover.post import Post

log = logging.getLogger(__name__)

TICK_S = 0.1  # least real seconds between two steps
LOOK_S = 1.0  # real seconds between two looks at what the utility has set
WATCHES_S = 3.0  # real seconds after a message or a question for which it steps every ``LOOK_S``, not at beats alone
TELL_AGAIN_S = (5.0, 60.0, 3_600.0)  # real seconds after which unchanged states are told again: any may be lost
_BOOT = "boot"  # name of the setting that counts the starts


@dataclass(frozen=True)
class Hooks:
    """What the clique needs of the shell."""

    store: Callable[[], HostedStore]  # the own microgrid's store
    keep: Callable[[list[Change]], Awaitable[SqliteError | None]]  # commits to it; returns why it did not
    publish: Callable[[Publish], object]  # sends a message to a meter
    begin: Callable[[MicrogridId], object]  # lets the core begin to manage a microgrid
    resume: Callable[[], object]  # lets the cores send at once what is due, since an epoch was confirmed
    is_connected: Callable[[], bool]  # whether the connection to the own broker is open
    states: Callable[[MicrogridId], States]  # what the utility has set for a managed microgrid, for those of its clique
    take_states: Callable[[States], object]  # lets the core keep what another one says of that
    commits: Callable[[MicrogridId], bool]  # whether a microgrid's store takes commits
    put_s: Callable[[MicrogridId], int]  # seconds between the puts of a microgrid's meters


class Clique:
    """The part of one gateway in its cliques.

    Args:
        settings: The gateway's settings.
        file: Its cliques.
        meters: The meters of each microgrid that it may manage.
        store: The store of its own microgrid.
        revoked: The list of revoked controllers for the meters; ``None``: there is none.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        file: CliqueFile,
        meters: dict[MicrogridId, dict[MeterId, RegisteredMeter]],
        store: KeptSettings,
        revoked: SignedList | None = None,
    ) -> None:
        self.meters = meters  # the meters of each microgrid that it may manage
        self._own, self._listen, self._rank = settings.controller, settings.beats, file.rank
        self._revoked = RevokedOffer(self._own, revoked)
        self._boot = int(store.setting(_BOOT) or 0) + 1
        self._durable = {name: _kept(store, name, file.rank, is_own=name == self._own) for name in file.microgrids}
        self._kept_in: object = None  # the store that has them; it changes when it was opened again
        # What the rules want done, by group: it waits while something is kept.
        self._todo: deque[tuple[int, deque[Effect]]] = deque()
        self._keeping: asyncio.Task[None] | None = None
        now = self._now()
        self._groups = [self._takeover(group, now) for group in file.groups]
        self.members: dict[MicrogridId, Member] = {
            name: member for group in self._groups for name, member in group.members.items()
        }
        self._hearing = {name: Hearing(_warm(meters[name])) for name in self.members}
        self._group_of = {name: at for at, group in enumerate(self._groups) for name in group.members}
        self._socket = CliqueSocket(self._own, file.rank, parties(file), self._beat, self._message, self._now)
        self._wake = asyncio.Event()
        self._watches_until = 0.0
        self._hooks: Hooks | None = None
        self._was_connected = False
        self._managed: set[MicrogridId] = set()
        self._asked = 0
        # By managed microgrid, the states that were told last, when, and how often.
        self._told: dict[MicrogridId, tuple[Mapping[str, Any] | None, float, int]] = {}
        self._looked = 0.0
        self.why: dict[MicrogridId, str] = {}  # why it manages what it manages, for people

    @classmethod
    def load(cls, settings: GatewaySettings, store: KeptSettings, registries: Registries) -> Self | None:
        """Read the clique's file and the registries of the other microgrids; ``None``: the settings have no clique.

        Raises:
            ConfigError: A file is missing or wrong.
        """
        if settings.clique is None:
            return None
        file = load_cliques(settings.clique)
        if file.own != settings.controller:
            raise ConfigError(f"{settings.clique}: is of {file.own}, but this gateway is {settings.controller}'s")
        if settings.microgrid not in file.microgrids:
            raise ConfigError(
                f"{settings.clique}: has no place for {settings.microgrid}: it was revoked, or is unknown"
            )
        revoked = load_signed_list(settings.clique.with_name(REVOKED_FILE))
        return cls(settings, file, {name: registries.load(name) for name in file.microgrids}, store, revoked)

    def _takeover(self, group: Group, now: float) -> Takeover:
        ranks = {other.name: other.rank for other in group.others} | {self._own: self._rank}
        posts = [
            Post(
                microgrid=name,
                own=self._own,
                order=order,
                ranks={each: ranks[each] for each in order},
                meters=len(self.meters[name]),
            )
            for name, order in group.orders.items()
            if self._own in order
        ]
        return Takeover(self._own, posts, self._durable, self._boot * RESTART % NUMBERS, now)

    # The shell

    async def run(self, hooks: Hooks) -> None:
        """Beat, watch, vote, claim and give back, for ever.

        Raises:
            OSError: The address for beats is in use.
        """
        self._hooks = hooks
        assert self._listen is not None
        await self._socket.open(self._listen)
        while True:
            if await self._keeps_all(hooks):
                self._step(hooks)
            await self._rest()

    async def _rest(self) -> None:
        """Wait until a step may be needed."""
        now = self._now()
        most_s = LOOK_S if now < self._watches_until else BEAT_S
        until = min(now + most_s, *(group.rests_until(now) for group in self._groups))
        self._wake.clear()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(min(until - now, LOOK_S), TICK_S)):
                    await self._wake.wait()
            now = self._now()
            # Between two steps the time is noted: a gap above ``PAUSE_S`` means that this process was stopped.
            paused = [group.note(now) for group in self._groups]
            if any(paused) or self._wake.is_set() or now >= until:
                return

    def watch(self) -> None:
        """Look soon at what changes: a connection, or what the utility has set."""
        self._watches_until = self._now() + WATCHES_S
        self._wake.set()

    def register(self, microgrid: MicrogridId, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry of a microgrid by a changed one."""
        if microgrid in self.meters:
            self.meters[microgrid] = meters
            self._hearing[microgrid].meters = frozenset(_warm(meters))

    def leave(self) -> None:
        """Tell the others that it stops and will be back, and close."""
        for at, group in enumerate(self._groups):
            for beat in group.leave():
                self._socket.send(at, beat)
        self._socket.close()
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keeps_all(self, hooks: Hooks) -> bool:
        """Return whether the present store has the number of this start and all epochs; another one gets them."""
        store = hooks.store()
        if store.opening or (opened := store.store) is self._kept_in:
            return self._kept_in is not None
        kept = [Setting(_key(name), each.text()) for name, each in self._durable.items()]
        if error := await hooks.keep([Setting(_BOOT, str(self._boot)), *kept]):
            log.error("the epochs can't be kept (%s): nothing is commanded", error)
            return False
        self._kept_in = opened
        return True

    async def _keep(self, hooks: Hooks, microgrid: MicrogridId, kept: Kept) -> None:
        """Make an epoch durable, and go on; otherwise drop what waited for it, and go on from the epochs before."""
        error = await hooks.keep([Setting(_key(microgrid), kept.text())])
        self._keeping = None
        if error is None:
            self._durable[microgrid] = kept
            self.members[microgrid].unkept = False
        else:
            log.error("%s: its epoch can't be kept (%s): it is not commanded", microgrid, error)
            waiting = {each.microgrid for _, some in self._todo for each in some if isinstance(each, Keep | Begin)}
            for name in {microgrid, *waiting}:
                self.members[name].restore(self._durable[name])
            self._todo.clear()
        self._go_on(hooks)

    def _step(self, hooks: Hooks) -> None:
        now, is_connected = self._now(), hooks.is_connected()
        if self._was_connected and not is_connected:
            for hearing in self._hearing.values():
                hearing.lost()
        self._was_connected = is_connected
        commits = hooks.commits(self._own)
        for name, member in self.members.items():
            hearing, manages = self._hearing[name], member.commands
            hearing.put_s = hooks.put_s(name)
            reached = hearing.reached(now, manages=manages)
            member.means.able = is_connected and hearing.is_enough(reached)
            member.means.connected = reached
            member.means.commits = commits and hooks.commits(name)
            if is_connected and (silent := hearing.due(now, manages=manages)):
                self._ask(hooks, name, silent, None)
                self._watches_until = now + WATCHES_S
        for offer in self._revoked.due(self.meters, now) if is_connected else ():
            hooks.publish(offer)
            self._watches_until = now + WATCHES_S
        for at, group in enumerate(self._groups):
            self._perform(at, group.tick(now))
        self._tell_changes(hooks, now)
        managed = {name for name, member in self.members.items() if member.commands}
        if managed - self._managed:
            hooks.resume()
        self._managed = managed

    def permits(self, message: Publish) -> bool:
        """Return whether a message to a meter may be sent: no command after a pause, or of a deposed manager."""
        parts = message.topic.split("/")
        if parts[-1] != COMMANDS or parts[1] not in self.members:
            return True
        return self.members[parts[1]].may_command(self._now())

    def heard(self, event: FromMeter) -> None:
        """Take a message of a meter, before the core does."""
        parsed = parse_meter_up(event.topic)
        if parsed is None or parsed.meter not in self.meters.get(parsed.microgrid, {}):
            return
        now = self._now()
        self._hearing[parsed.microgrid].heard(parsed.meter, now)
        self._revoked.heard(parsed.microgrid, parsed.meter, now)
        if parsed.leaf != OUTCOMES:
            return
        try:
            outcome = unpack_json(Outcome, event.payload)
        except ProtocolError:
            return  # The core keeps it for inspection.
        if outcome.cmd == "revoked":
            self._revoked.answered[parsed.meter] = outcome.result
        epoch = max([outcome.epoch, *(held.epoch for held in outcome.held.values())])
        member = self.members[parsed.microgrid]
        said = member.meter_said(parsed.meter, epoch, now, outcome.acknowledged)
        self._perform(self._group_of[parsed.microgrid], said)

    def _beat(self, group: int, sender: ControllerId, beat: Beat) -> None:
        self._perform(group, self._groups[group].beat(sender, beat, self._now()))

    def _message(self, group: int, sender: ControllerId, message: CliqueMessage) -> None:
        self._perform(group, self._groups[group].handle(sender, message, self._now()))
        self._wake.set()

    # Effects

    def _perform(self, group: int, effects: Iterable[Effect]) -> None:
        """Do what the rules want done, in order; what follows an epoch to keep waits until it is durable."""
        if self._hooks is None:
            return
        todo = deque(effects)
        for effect in todo:
            if isinstance(effect, Keep):
                self.members[effect.microgrid].unkept = True
            if not isinstance(effect, SendBeat):
                self._wake.set()
        self._todo.append((group, todo))
        if self._keeping is None:
            self._go_on(self._hooks)

    def _go_on(self, hooks: Hooks) -> None:
        while self._todo:
            group, effects = self._todo[0]
            while effects:
                effect = effects.popleft()
                if isinstance(effect, Keep):
                    self.members[effect.microgrid].unkept = True
                    self._keeping = asyncio.create_task(self._keep(hooks, effect.microgrid, effect.kept))
                    return
                self._do(hooks, group, effect)
            self._todo.popleft()

    def _do(self, hooks: Hooks, group: int, effect: Effect) -> None:
        match effect:
            case Begin(microgrid, epoch, why):
                self.why[microgrid] = why
                log.warning("manages %s under epoch %s: %s", microgrid, list(epoch), why)
                hooks.begin(microgrid)
            case AskMeters(microgrid, about, count):
                asked = self._hearing[microgrid].nearest(self.meters[microgrid], count)
                self._ask(hooks, microgrid, asked, about)
            case TakeStates(states):
                hooks.take_states(states)
            case Tell() | SendBeat():
                if isinstance(effect, Tell) and isinstance(effect.message, Yield):
                    self._tell_states(hooks, effect.message.microgrid, (effect.to,))
                self._socket.send(group, effect)

    def _tell_changes(self, hooks: Hooks, now: float) -> None:
        """Tell the others what the utility has set for what is managed here: when it changed, and now and then."""
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for name, member in self.members.items():
            if not member.commands:
                self._told.pop(name, None)
                continue
            states = hooks.states(name).states
            before, at, times = self._told.get(name, (None, now, 0))
            times = 0 if before != states else times
            if times == 0 or now - at >= TELL_AGAIN_S[min(times, len(TELL_AGAIN_S)) - 1]:
                self._told[name] = states, now, times + 1
                self._tell_states(hooks, name, member.post.others)

    def _tell_states(self, hooks: Hooks, microgrid: MicrogridId, to: Iterable[ControllerId]) -> None:
        states = hooks.states(microgrid)
        for other in to:
            self._socket.send(self._group_of[microgrid], Tell(other, states))

    def _ask(self, hooks: Hooks, microgrid: MicrogridId, meters: Iterable[MeterId], about: ControllerId | None) -> None:
        """Ask meters which epoch they hold, and whether a controller still acknowledges."""
        for meter in meters:
            self._asked += 1
            question = Command(
                id=f"{self._own}-manager-{self._asked}",
                cmd="get",
                issuer=self._own,
                epoch=(0, 0),
                what="manager",
                about=about,
            )
            hooks.publish(Publish(meter_down(microgrid, meter, COMMANDS), question.pack(), qos=0))

    # What is shown

    def view(self) -> dict[str, object]:
        """Return what /status shows of it, as JSON: of each microgrid, and of each line."""
        now = self._now()
        lines = [(at, name, line) for at, group in enumerate(self._groups) for name, line in group.signs.lines.items()]
        return {
            "microgrids": {name: self._viewed(member) for name, member in self.members.items()},
            "others": {
                name: {
                    "heard_s": None if line.since is None else round(now - line.heard, 1),
                    "lost": line.lost(now),
                    "deadline_s": line.deadline_s(now),
                }
                for _, name, line in lines
            },
            "refused_datagrams": dict(self._socket.refused),
            **self._revoked.view(),
        }

    def _viewed(self, member: Member) -> dict[str, object]:
        kept = member.kept
        holder = self._own if member.commands else member.watched
        return {
            "manager": holder,
            "manages": member.commands,
            "epoch": list(kept.highest),
            "held": list(kept.held),
            "why": self.why.get(member.post.microgrid, "") if member.commands else "",
            "order": list(member.post.order),
            "reached": member.means.connected,
            "able": bool(member.means),
            "state": member.state.value,
        }

    @property
    def byte_count(self) -> ByteCount:
        """The bytes of its datagrams."""
        return self._socket.byte_count

    @staticmethod
    def _now() -> float:
        return time.monotonic()


def hosted_stores(settings: GatewaySettings) -> list[Path]:
    """Return the stores of the other microgrids that a gateway hosts, those that exist.

    Raises:
        ConfigError: The clique's file is missing or wrong.
    """
    names = [] if settings.clique is None else load_cliques(settings.clique).microgrids
    others = dict.fromkeys((*names, *settings.collects))
    paths = [beside(settings.store, name) for name in others if name != settings.microgrid]
    return [path for path in paths if path.exists()]


def _warm(meters: Mapping[MeterId, RegisteredMeter]) -> tuple[MeterId, ...]:
    # The boundary's meters have this place's broker alone.
    inside = (m for m in meters.values() if not m.replaced and m.function is not Function.BOUNDARY)
    return warm_meters({meter.id: meter.battery_capacity_mwh is not None for meter in inside})


def _kept(store: KeptSettings, microgrid: MicrogridId, rank: int, *, is_own: bool) -> Kept:
    """Return what the store has; without anything, a microgrid's own controller has its first epoch."""
    if (kept := kept_epochs(store, microgrid)) is not None:
        return kept
    return Kept((1, rank), (1, rank)) if is_own else Kept((0, rank), (0, 0))


def kept_epochs(store: KeptSettings, microgrid: MicrogridId) -> Kept | None:
    """Return the epochs of a microgrid that a store has; ``None``: it was never that of a controller of a clique."""
    text = store.setting(_key(microgrid))
    return None if text is None else Kept.read(text)


def _key(microgrid: MicrogridId) -> str:
    return f"clique:{microgrid}"
