"""A gateway's part in its cliques, in the shell: datagrams, time, the durable epochs, and questions to meters.

``gateway.clique.core`` decides; this carries it out. What is to be kept is committed to the store of the controller's
own microgrid before anything that follows is done.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from commonwatt.clique.beats import BEAT_S, Beat
from commonwatt.clique.cliques import Clique, CliqueFile, beside, load_cliques, parties, warm_meters
from commonwatt.clique.datagrams import CliqueSocket
from commonwatt.clique.messages import CliqueMessage, SendBeat, Tell, Yield
from commonwatt.config.settings import GatewaySettings
from commonwatt.model.effects import Publish
from commonwatt.model.exceptions import ConfigError, ProtocolError
from commonwatt.model.units import ByteCount, ControllerId, MeterId, MicrogridId
from commonwatt.protocol.commands import Command, Outcome
from commonwatt.protocol.json_messages import unpack_json
from commonwatt.protocol.topics import COMMANDS, OUTCOMES, meter_down, parse_meter_up
from commonwatt.town.registry import REVOKED_FILE, RegisteredMeter, SignedList, load_signed_list
from commonwatt.town.town import Function
from gateway.clique.core import CliqueCore
from gateway.clique.effects import AskMeters, Begin, CliqueEffect, EpochPair, Keep, Post, TakeStates
from gateway.clique.hearing import Hearing
from gateway.clique.kept import Hooks, KeptEpochs, Registries, RevokedOffer
from gateway.clique.member import STEP_S, Member
from gateway.events import FromMeter
from gateway.store.changes import KeptSettings


class MeterQuestions:
    """The meters of each microgrid that a controller may manage."""

    def __init__(self, own: ControllerId, meters: Mapping[MicrogridId, Mapping[MeterId, RegisteredMeter]]) -> None:
        self._own = own
        self._hearing = {name: Hearing(_warm(each)) for name, each in meters.items()}
        self._was_connected = False
        self._asked = 0

    def register(self, microgrid: MicrogridId, meters: Mapping[MeterId, RegisteredMeter]) -> None:
        """Replace the registry of a microgrid by a changed one."""
        self._hearing[microgrid].meters = frozenset(_warm(meters))

    def heard(self, microgrid: MicrogridId, meter: MeterId, now: float) -> None:
        """Note a message of a meter."""
        self._hearing[microgrid].heard(meter, now)

    def look(self, hooks: Hooks, members: Mapping[MicrogridId, Member], now: float) -> bool:
        """Set what each member can do, and ask the meters that are silent; return whether any was asked."""
        is_connected, before = hooks.is_connected(), self._asked
        if self._was_connected and not is_connected:
            for hearing in self._hearing.values():
                hearing.lost()
        self._was_connected = is_connected
        commits = hooks.commits(self._own)
        for name, member in members.items():
            hearing, manages = self._hearing[name], member.commands
            hearing.put_s = hooks.put_s(name)
            reached = hearing.reached(now, manages=manages)
            member.means.able = is_connected and hearing.is_enough(reached)
            member.means.connected = reached
            member.means.commits = commits and hooks.commits(name)
            if is_connected:
                self._ask(hooks, name, hearing.due(now, manages=manages), None)
        return self._asked > before

    def ask(self, hooks: Hooks, effect: AskMeters, meters: Iterable[MeterId]) -> None:
        """Ask some of a microgrid's meters, those that were heard last."""
        asked = self._hearing[effect.microgrid].nearest(list(meters), effect.count)
        self._ask(hooks, effect.microgrid, asked, effect.about)

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


def _warm(meters: Mapping[MeterId, RegisteredMeter]) -> tuple[MeterId, ...]:
    # The boundary's meters have this place's broker alone.
    inside = (m for m in meters.values() if not m.replaced and m.function is not Function.BOUNDARY)
    return warm_meters({meter.id: meter.battery_capacity_mwh is not None for meter in inside})


LOOK_S = 1.0  # real seconds between two looks at what the utility has set
TELL_AGAIN_S = (5.0, 60.0, 3_600.0)  # real seconds after which unchanged states are told again: any may be lost


class Telling:
    """The states that are told.

    Args:
        members: The controller's parts in its cliques.
        send: Sends a message to those of a microgrid's clique.
    """

    def __init__(self, members: Mapping[MicrogridId, Member], send: Callable[[MicrogridId, Tell], object]) -> None:
        self._members = members
        self._send = send
        # By managed microgrid, the states that were told last, when, and how often.
        self._told: dict[MicrogridId, tuple[Mapping[str, Any] | None, float, int]] = {}
        self._looked = 0.0

    def look(self, hooks: Hooks, now: float) -> None:
        """Tell what changed, and all now and then."""
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        for name, member in self._members.items():
            if not member.commands:
                self._told.pop(name, None)
                continue
            states = hooks.states(name).states
            before, at, times = self._told.get(name, (None, now, 0))
            times = 0 if before != states else times
            if times == 0 or now - at >= TELL_AGAIN_S[min(times, len(TELL_AGAIN_S)) - 1]:
                self._told[name] = states, now, times + 1
                self.tell(hooks, name, member.post.others)

    def tell(self, hooks: Hooks, microgrid: MicrogridId, to: Iterable[ControllerId]) -> None:
        """Tell some controllers the states of a microgrid."""
        states = hooks.states(microgrid)
        for other in to:
            self._send(microgrid, Tell(other, states))


log = logging.getLogger(__name__)

TICK_S = 0.1  # least real seconds between two steps
FIRST_STEPS = 1_024  # by less than so much further, by chance, the first claim of a store goes
WATCHES_S = 3.0  # real seconds after a message or a question for which it steps every ``LOOK_S``, not at beats alone


class CliqueShell:
    """The part of one gateway in its cliques.

    Args:
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
        self._epochs = KeptEpochs(store, self._own, file.rank, file.microgrids)
        # What the rules want done, by group: it waits while something is kept.
        self._todo: deque[tuple[int, deque[CliqueEffect]]] = deque()
        self._keeping: asyncio.Task[None] | None = None
        now = self._now()
        self._groups = [self._core(group, now) for group in file.groups]
        self.members: dict[MicrogridId, Member] = {
            name: member for group in self._groups for name, member in group.members.items()
        }
        self._questions = MeterQuestions(self._own, {name: meters[name] for name in self.members})
        self._group_of = {name: at for at, group in enumerate(self._groups) for name in group.members}
        self._socket = CliqueSocket(self._own, file.rank, parties(file), self._beat, self._message, self._now)
        self._wake = asyncio.Event()
        self._watches_until = self._until = self._latest = 0.0
        self._hooks: Hooks | None = None
        self._managed: set[MicrogridId] = set()
        self._telling = Telling(self.members, lambda name, told: self._socket.send(self._group_of[name], told))
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

    def _core(self, group: Clique, now: float) -> CliqueCore:
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
        return CliqueCore(self._own, posts, self._epochs.of, now, secrets.randbelow(FIRST_STEPS))

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
            if error := await self._epochs.keep_all(hooks):
                log.error("the epochs can't be kept (%s): nothing is commanded", error)
            elif self._epochs.are_kept:
                self._step(hooks)
            await self._rest()

    async def _rest(self) -> None:
        """Wait until a step may be needed."""
        now = self._now()
        most_s = LOOK_S if now < self._watches_until else BEAT_S
        self._latest = self._until = now + most_s
        self._put_off(now)
        self._wake.clear()
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(min(self._until - now, LOOK_S), TICK_S)):
                    await self._wake.wait()
            now = self._now()
            # Between two steps the time is noted: a gap above ``PAUSE_S`` means that this process was stopped.
            paused = [group.note(now) for group in self._groups]
            if any(paused) or self._wake.is_set() or now >= self._until:
                return

    def _put_off(self, now: float) -> None:
        """Set until when no step is needed; a sign that came puts a step off, but none that is due or goes on."""
        until = min(self._latest, *(group.rests_until(now) for group in self._groups))
        if until < self._until or (now < self._until and until > now + STEP_S):
            self._until = until

    def watch(self) -> None:
        """Look soon at what changes: a connection, or what the utility has set."""
        self._watches_until = self._now() + WATCHES_S
        self._wake.set()

    def register(self, microgrid: MicrogridId, meters: dict[MeterId, RegisteredMeter]) -> None:
        """Replace the registry of a microgrid by a changed one."""
        if microgrid in self.meters:
            self.meters[microgrid] = meters
            self._questions.register(microgrid, meters)

    def leave(self) -> None:
        """Tell the others that it stops and will be back, and close."""
        for at, group in enumerate(self._groups):
            for beat in group.leave():
                self._socket.send(at, beat)
        self._socket.close()
        if self._keeping is not None:
            self._keeping.cancel()

    async def _keep(self, hooks: Hooks, microgrid: MicrogridId, kept: EpochPair) -> None:
        """Make an epoch durable, and go on; otherwise drop what waited for it, and go on from the epochs before."""
        error = await self._epochs.keep(hooks, microgrid, kept)
        self._keeping = None
        if error is None:
            self.members[microgrid].unkept = False
        else:
            log.error("%s: its epoch can't be kept (%s): it is not commanded", microgrid, error)
            waiting = {each.microgrid for _, some in self._todo for each in some if isinstance(each, Keep | Begin)}
            for name in {microgrid, *waiting}:
                self.members[name].restore(self._epochs.of[name])
            self._todo.clear()
        self._go_on(hooks)

    def _step(self, hooks: Hooks) -> None:
        now = self._now()
        if self._questions.look(hooks, self.members, now):
            self._watches_until = now + WATCHES_S
        for offer in self._revoked.due(self.meters, now) if hooks.is_connected() else ():
            hooks.publish(offer)
            self._watches_until = now + WATCHES_S
        for at, group in enumerate(self._groups):
            self._perform(at, group.tick(now))
        self._telling.look(hooks, now)
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
        self._questions.heard(parsed.microgrid, parsed.meter, now)
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
        now = self._now()
        self._perform(group, self._groups[group].beat(sender, beat, now))
        self._put_off(now)

    def _message(self, group: int, sender: ControllerId, message: CliqueMessage) -> None:
        self._perform(group, self._groups[group].handle(sender, message, self._now()))
        self._wake.set()

    # Effects

    def _perform(self, group: int, effects: Iterable[CliqueEffect]) -> None:
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

    def _do(self, hooks: Hooks, group: int, effect: CliqueEffect) -> None:
        match effect:
            case Begin(microgrid, epoch, why):
                self.why[microgrid] = why
                log.warning("manages %s under epoch %s: %s", microgrid, list(epoch), why)
                hooks.begin(microgrid)
            case AskMeters(microgrid):
                self._questions.ask(hooks, effect, self.meters[microgrid])
            case TakeStates(states):
                hooks.take_states(states)
            case Tell() | SendBeat():
                if isinstance(effect, Tell) and isinstance(effect.message, Yield):
                    self._telling.tell(hooks, effect.message.microgrid, (effect.to,))
                self._socket.send(group, effect)

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
