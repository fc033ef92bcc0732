"""Commands of foreign devices in a closed loop: told, seen to obey, told again, and ended when we are gone.

It reads no clock and has no connection. It takes what is wished and what the device shows, and says what to publish.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple, TypeAlias

from adapters.mapping.payloads import MAX_BYTES
from adapters.mapping.readers import known_presets, replaced_by, without_dots
from adapters.mapping.values import UnreadableError, at_path, json_of, number, split_path
from adapters.messages import AdapterChange
from commonwatt.config.adapter import (
    AdapterCommand,
    AdapterMeter,
    AdapterSettings,
    CommandKind,
    Confirm,
    Shown,
    fill,
    places_of,
)
from commonwatt.device.commands import Deferred
from commonwatt.device.meter import MeterCore
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.exceptions import SettingError
from commonwatt.model.units import EpochSeconds, MeterId
from commonwatt.protocol.commands import DeviceState, Kind, Stage

KINDS: dict[CommandKind, Kind] = {
    "share": Kind.SHARING,
    "reduce": Kind.REDUCING,
    "isolate": Kind.ISOLATED,
    "limit_import": Kind.IMPORT_LIMIT,
}
"""The kind of desired state of each command."""

REDUCED_PERCENT = 80  # the share of its load that a place uses while it reduces
_WORDS = 60  # characters of a shown state that are kept


class DeviceWish(NamedTuple):
    """What a device should do."""

    on: bool = False
    until: EpochSeconds = 0  # the end of the state
    limit_w: int | None = None  # most watts from the town, of ``limit_import``


class Shows(NamedTuple):
    """What a device shows of its state."""

    on: bool | None  # whether that is on; ``None``: neither on nor off
    words: str  # the state, for people


@dataclass(frozen=True, kw_only=True, eq=False)
class DeviceCommand:
    """One command of one device."""

    meter: MeterId  # our id of its meter
    kind: Kind  # the state that it sets
    settings: AdapterCommand  # how
    source: AdapterMeter  # the settings of its meter
    at: str  # the name of the source on whose broker it is

    @property
    def is_refused(self) -> bool:
        """Whether it is never sent: nothing would end it without the adapter, and no person accepted that."""
        return self.kind is Kind.SHARING and self.settings.failsafe == "none" and not self.source.accept_unsafe

    @property
    def device(self) -> tuple[str, str]:
        """The source and the name of the device; commands of one device wait for each other."""
        return self.at, self.source.source or str(self.meter)

    @property
    def shown_on(self) -> str | None:
        """The topic on which the device shows its state; ``None``: it does not."""
        return None if self.settings.confirm is None else self._topic(self.settings.confirm.topic)

    @property
    def keepalive(self) -> str | None:
        """The topic without whose messages the device stops to publish; ``None``: it does not stop."""
        return None if self.settings.keepalive is None else self._topic(self.settings.keepalive)

    @property
    def shows_off(self) -> bool:
        """Whether it shows that the state has ended: a power may have other reasons, a switch waits to close."""
        confirm = self.settings.confirm
        return confirm is not None and confirm.by == "state" and not self.is_boundary

    @property
    def is_boundary(self) -> bool:
        """Whether it is a switch or a limit at a boundary, which nothing but a permit closes or lifts."""
        return self.kind in (Kind.ISOLATED, Kind.IMPORT_LIMIT)

    def message(self, wish: DeviceWish, now: float, level_percent: int | None) -> Publish:
        """Return the message that tells the device a state."""
        values = self._values(wish) | {
            "level": self.source.minimum_percent if level_percent is None else level_percent,
            "seconds": max(0, int(wish.until - now)),
            "until": wish.until,
        }
        payload = fill(self.settings.on if wish.on else self.settings.off, values)
        return Publish(self._topic(self.settings.topic), payload.encode(), via=self.at)

    def shows(self, payload: bytes, wish: DeviceWish) -> Shows | None:
        """Return the state that a message shows; ``None``: it shows none."""
        confirm = self.settings.confirm
        assert confirm is not None
        if len(payload) > MAX_BYTES:
            return None
        found: object = payload.decode(errors="replace").strip()
        if confirm.path:
            found = at_path(json_of(payload), split_path(fill(confirm.path, self._values(wish))))
        if isinstance(found, bool):
            found = str(found).lower()
        if not isinstance(found, str) or not found:
            return None
        return Shows(self._is_on(confirm, found, wish), found[:_WORDS])

    def _is_on(self, confirm: Confirm, found: str, wish: DeviceWish) -> bool | None:
        if confirm.by == "power":
            least = Decimal(self.source.watts or 0) * confirm.percent / 100
            power = number(found)
            return (power if confirm.sign == "positive" else -power) >= least
        assert confirm.on is not None
        if self._equals(confirm.on, found, wish):
            return True
        return False if confirm.off is None or self._equals(confirm.off, found, wish) else None

    def _equals(self, wanted: Shown, found: str, wish: DeviceWish) -> bool:
        try:
            if isinstance(wanted, tuple):
                return wanted[0] <= number(found) <= wanted[1]
            wanted = fill(wanted, self._values(wish))
            return found == wanted or number(found) == number(wanted)
        except UnreadableError:
            return False

    def _values(self, wish: DeviceWish) -> dict[str, str | int]:
        watts = self.source.watts if wish.limit_w is None else wish.limit_w
        percent = self.source.minimum_percent if self.kind is Kind.SHARING else REDUCED_PERCENT
        named: dict[str, str | int] = {"device": self.source.source, "channel": self.source.channel}
        return named | {"watts": watts or 0, "percent": percent}

    def _topic(self, topic: str) -> str:
        return without_dots(topic.replace("{device}", self.source.source).replace("{channel}", self.source.channel))


def commands_of(settings: AdapterSettings) -> tuple[DeviceCommand, ...]:
    """Return the commands of every meter."""
    known = {name: preset for name, preset in known_presets().items() if name not in replaced_by(settings)}
    presets = {name: list(preset.commands) for name, preset in known.items()}
    for n, command in enumerate(settings.command):
        if command.preset in known:
            why = "Commonwatt has one of this name; name yours otherwise"
            raise SettingError(("command", n, "preset"), f"[[command]] of preset {command.preset}: {why}")
        if any(command.kind == other.kind for other in presets.get(command.preset, ())):
            raise SettingError(("command", n, "kind"), f"[[command]] {command.kind} of {command.preset} is there twice")
        presets.setdefault(command.preset, []).append(command)
    found: dict[tuple[Publish, Kind], DeviceCommand] = {}
    for n, meter in enumerate(settings.meter):
        kinds = [kind for device in meter.devices for kind in dict.fromkeys(device.obeys)]
        if twice := {kind for kind in kinds if kinds.count(kind) > 1}:
            why = f"several of its devices obey {min(twice)}; let one of them, or give each a meter"
            raise SettingError(("meter", n, "obeys"), f"[[meter]] {meter.id}: {why}")
        for device in meter.devices:
            for one in _of_device(n, device, settings.source_of(device), presets.get(device.preset, [])):
                ends = one.message(DeviceWish(), 0, None)
                if other := found.get((ends, one.kind)):
                    why = f"meter {other.meter} obeys the same command at {ends.topic}; let one of them"
                    raise SettingError(("meter", n, "obeys"), f"[[meter]] {meter.id}: {why}")
                found[ends, one.kind] = one
    return tuple(found.values())


def _of_device(n: int, meter: AdapterMeter, at: str, known: list[AdapterCommand]) -> Iterator[DeviceCommand]:
    for kind in meter.obeys:
        found = next((command for command in known if command.kind == kind), None)
        if found is None:
            have = f"it has {', '.join(command.kind for command in known)}" if known else "it has none"
            why = f"preset {meter.preset} has no command {kind}; {have}; leave it out, or write a [[command]]"
            raise SettingError(("meter", n, "obeys"), f"[[meter]] {meter.id}: {why}")
        by_power = found.confirm is not None and found.confirm.by == "power"
        if meter.watts is None and kind != "limit_import" and (by_power or "watts" in places_of(found.on)):
            why = f"{kind} of preset {meter.preset} needs watts, the power that it is told to give"
            raise SettingError(("meter", n, "watts"), f"[[meter]] {meter.id}: {why}")
        yield DeviceCommand(meter=meter.id, kind=KINDS[kind], settings=found, source=meter, at=at)


TRIES = 3  # times that a device is told before it disobeys
_NEVER = float("-inf")
_NOT_DUE = float("inf")


@dataclass(frozen=True)
class DeviceReach:
    """What can be done for a device now."""

    broker: bool  # whether its broker is connected
    armed: bool  # whether its broker has the will that ends the state
    free: bool  # whether no other command of it is in flight


@dataclass
class Loop:
    """One command of one device."""

    command: DeviceCommand  # how it is told
    wish: DeviceWish = field(default_factory=DeviceWish)  # what the device should do
    ever: bool = False  # whether it was ever commanded
    permits: bool = False  # of a switch at a boundary: whether a command permits it to close
    stage: Stage = Stage.UNKNOWN  # how far it obeys
    since: float = 0.0  # since when
    finding: str | None = None  # of a device that disobeys: what it should do, and what it shows
    found_at: float = 0.0  # since when it disobeys
    gave_up: bool = False  # whether ``act`` gave up this time
    shows: Shows | None = None  # what it showed last
    due_at: float = _NEVER  # when ``act`` is due next, if nothing else happens
    _failed: bool = field(default=False, repr=False)  # the wish that it did not obey
    _shown_at: float = _NEVER
    _told: bool | None = None  # what it was told last; ``None``: nothing since the connection began
    _told_at: float = _NEVER
    _unended: bool = False  # whether it was told on, and not off since, as far as is known
    _ours: bool = False  # whether what it does may be by what it was told since the start
    _starts: bool = True  # whether what it does may be of before the adapter's start
    _asked_at: float = _NEVER  # when it was told last so that it changes
    _wished_at: float = _NEVER
    _not_before: float = _NEVER
    _tries: int = 0
    _read_by: float = _NEVER  # until when its state is awaited before any command

    def begin(self, now: float) -> None:
        """Await the device's state after a new connection: it may have restarted, or missed a command."""
        self._unended = self._unended or (self._told is False and not self._is_settled())
        self.shows = self._told = None
        self._told_at = min(self._told_at, now)
        self._asked_at = self._not_before = _NEVER
        self._tries, self._wished_at = 0, now
        self._read_by = now + (self.command.settings.confirm_s if self.command.shown_on else 0)
        self.due_at = now

    def want(self, wish: DeviceWish, now: float, *, ever: bool) -> None:
        """Set what the device should do; the newest wish counts."""
        if wish.limit_w != self.wish.limit_w:
            self.shows = self._told = None
        if (wish.on, wish.limit_w) != (self.wish.on, self.wish.limit_w):
            self._tries, self._wished_at, self._not_before, self.due_at = 0, now, _NEVER, now
            self._enter(Stage.ASKED, now)
        self.wish, self.ever = wish, ever
        self.permits = self.permits and not wish.on

    def permit(self, now: float) -> None:
        """Let a switch at a boundary close, or lift its limit, once: a command says so."""
        self.permits, self.due_at = self.command.is_boundary, now

    def show(self, shows: Shows, now: float, *, retained: bool) -> bool:
        """Note what the device shows; return whether its state ended by itself.

        A message that its broker kept counts only if nothing newer is known, and never at a boundary.
        """
        if retained and (self.shows is not None or self._told is not None or self.command.is_boundary):
            return False
        ended = self.stage is Stage.OBEYS and shows.on is not True
        if ended:
            self._tries, self._wished_at = 0, now
            self._enter(Stage.ASKED, now)
        self.shows, self._shown_at, self.due_at = shows, now, now
        return ended

    def in_flight(self, now: float) -> bool:
        """Whether the device was told and has not answered."""
        if not self.command.shown_on or now >= self._asked_at + self.command.settings.confirm_s:
            return False
        return self.shows is None or self._shown_at < self._asked_at or self.shows.on is not self._told

    def act(self, now: float, reach: DeviceReach, level_percent: int | None) -> Publish | None:
        """Return the message to publish now, if there is one; set the stage and when it is due next."""
        settings = self.command.settings
        self.gave_up, self.due_at = False, _NOT_DUE
        can_tell = self._can_tell(reach)
        fresh_s = settings.confirm.fresh_s if settings.confirm is not None else None
        if fresh_s is not None and self.wish.on and now >= self._shown_at + fresh_s:
            self.shows = None  # It may be dead.
        if self.shows is None and self._told is None and now < self._read_by:
            self.due_at = self._read_by
        elif self._is_settled():
            self._settle(now)
            # After a new connection it is told soon: it may count the seconds since the last command.
            repeat_s = 0 if self._told is None else settings.repeat_s
            again_at = self._told_at + max(repeat_s, settings.at_most_each_s)
            if self.wish.on and now >= again_at and can_tell:
                return self._tell(now, level_percent)
            self.due_at = max(now + 1, again_at) if self.wish.on else _NOT_DUE
        elif not self._is_asked:
            self._starts = False
            self._enter(Stage.OFF if self.shows is not None else Stage.UNKNOWN, now)
        elif self.in_flight(now):
            self.due_at = self._asked_at + settings.confirm_s
        elif self._tries >= TRIES:
            self._give_up(now, reach)
        elif (later := max(self._not_before, self._told_at + settings.at_most_each_s)) > now:
            self.due_at = later
        elif not can_tell or not reach.free:
            latest = self._wished_at + TRIES * settings.confirm_s
            if now >= latest:
                self._give_up(now, reach)
            else:
                self.due_at = latest
        else:
            self._tries, self._asked_at = self._tries + 1, now
            self._enter(Stage.ASKED, now)
            message = self._tell(now, level_percent)
            if self._is_settled():
                self._settle(now)
            return message
        return None

    def state(self) -> DeviceState:
        """Return what is known of it."""
        settings = self.command.settings
        return DeviceState(
            stage=Stage.DISOBEYS if self.finding else self.stage,
            since=max(0, int(self.found_at if self.finding else self.since)),
            failsafe=settings.failsafe,
            failsafe_s=settings.ends_within_s,
            finding=self.finding,
        )

    def _can_tell(self, reach: DeviceReach) -> bool:
        return reach.broker and (reach.armed or self.command.settings.failsafe != "will" or not self.wish.on)

    def _is_settled(self) -> bool:
        if not self.command.shown_on or (not self.wish.on and not self.command.shows_off):
            return self._told is self.wish.on and not self.permits
        if self._unended and not self.wish.on and not self.command.is_boundary:
            return False  # What it shows may be old: no state is left without a command that ends it.
        return self.shows is not None and self.shows.on is self.wish.on and self._shown_at >= self._asked_at

    @property
    def _is_asked(self) -> bool:
        """Whether the device is to be told; a boundary is never closed without a permit.

        What a person, or the device itself, switches on is not ours to end: only what we told, or may have told before
        the start.
        """
        if self.wish.on:
            return True
        if self.command.is_boundary:
            return self.permits
        is_off = self.shows is not None and self.shows.on is False
        ours = self.ever or (self.command.kind is Kind.SHARING and self.shows is not None)
        return self._ours or (not is_off and (self.finding is not None or (self._starts and ours)))

    def _settle(self, now: float) -> None:
        self._tries, self._starts, self._ours = 0, False, self.wish.on
        if self._failed is self.wish.on:
            self.finding = None
        on = Stage.OBEYS if self.command.shown_on else Stage.UNCONFIRMED
        self._enter(on if self.wish.on else Stage.OFF, now)

    def _give_up(self, now: float, reach: DeviceReach) -> None:
        self._tries, self._not_before = 0, now + self.command.settings.repeat_s
        self._wished_at = self._not_before
        self.due_at = self._not_before
        if self.shows is not None and self.shows.on is self.wish.on and reach.broker:
            # It shows its state only when that changes, and had this one before it was told.
            self._asked_at = self.due_at = self._shown_at
            return
        # Escapes are longer than the text.
        shown = "shows nothing" if self.shows is None else f"shows {self.shows.words!r:.100}"
        if self.finding is None:
            self.found_at = now
        should = "be on" if self.wish.on else "be off"
        unsent = "its broker has no will that would end it" if reach.broker else "its broker is not connected"
        self.finding = f"should {should}, and {shown if self._can_tell(reach) else unsent}"
        self.gave_up, self._failed, self.permits = True, self.wish.on, False
        self._enter(Stage.DISOBEYS, now)

    def _tell(self, now: float, level_percent: int | None) -> Publish:
        self._told, self._unended, self._told_at, self.permits = self.wish.on, self.wish.on, now, False
        self._ours = True
        settings = self.command.settings
        self.due_at = now + (settings.repeat_s if self._is_settled() else settings.confirm_s)
        return self.command.message(self.wish, now, level_percent)

    def _enter(self, stage: Stage, now: float) -> None:
        if stage is not self.stage:
            self.stage, self.since = stage, now


Effects: TypeAlias = list[Effect[AdapterChange]]
Armed: TypeAlias = tuple[MeterId, Kind]  # a state of a meter's device

UNSAFE = "is never told to share, since nothing would end it without the adapter: accept_unsafe"
_NOW = float("-inf")
KEEPALIVE_S = 25  # seconds between the messages that keep a device publishing; they stop after 60 s
_GATEWAY_S = 60
_ENDED = (Stage.OBEYS, Stage.UNCONFIRMED, Stage.OFF)  # stages in which a command is answered


class CommandLoops:
    """The loops of all commands."""

    def __init__(
        self, commands: Iterable[DeviceCommand], meters: Mapping[MeterId, MeterCore], tally: Counter[tuple[str, str]]
    ) -> None:
        self.all = tuple(commands)  # every command, also the refused ones
        self.loops = [Loop(command) for command in self.all if not command.is_refused]
        self.armed: frozenset[Armed] = frozenset()  # what has its will at the device's broker
        self.heard_at = float("inf")  # when the gateway was heard last; until then, the start
        self.reached: frozenset[str] = frozenset()  # the names of the sources that are connected
        self._ran_at = _NOW
        self._meters = meters
        self._tally = tally
        self._shown: dict[tuple[str, str], list[Loop]] = defaultdict(list)
        self._devices: dict[tuple[str, str], list[Loop]] = defaultdict(list)
        # When each is due, by source and topic.
        self._keepalives = {(c.at, c.keepalive): _NOW for c in self.all if c.keepalive is not None}
        for loop in self.loops:
            self._devices[loop.command.device].append(loop)
            if loop.command.shown_on is not None:
                self._shown[loop.command.at, loop.command.shown_on].append(loop)

    def topics(self, source: str) -> list[str]:
        """Return the topics on which a source's devices show their states."""
        return sorted(topic for at, topic in self._shown if at == source)

    @property
    def wake_at(self) -> float | None:
        """When ``run`` is due next; ``None``: not by itself."""
        due = min((loop.due_at for loop in self.loops), default=float("inf"))
        due = min([due, *(at for (source, _), at in self._keepalives.items() if source in self.reached)])
        if any(loop.command.kind is Kind.SHARING and loop.wish.on for loop in self.loops):
            due = min(due, self.heard_at + self._patience_s)
        return None if due == float("inf") else due

    def is_awaited(self, now: float) -> bool:
        """Return whether a device was told, and its answer is awaited."""
        return any(loop.in_flight(now) for loop in self.loops)

    @property
    def _patience_s(self) -> float:
        """Seconds without a word of the gateway after which it is gone: two periods of puts, which it acknowledges."""
        return _GATEWAY_S + 2 * max((meter.desired_states.put_s for meter in self._meters.values()), default=0)

    def wills(self, source: str) -> dict[Armed, Publish]:
        """Return the messages that end what devices were told, which a source's broker publishes if we are gone."""
        return {
            (loop.command.meter, loop.command.kind): loop.command.message(DeviceWish(), 0, None)
            for loop in self.loops
            if (loop.command.at, loop.command.settings.failsafe) == (source, "will")
            and (loop.wish.on or loop.stage is not Stage.OFF)
            and loop.ever
        }

    def boot(self, settings: Iterable[AdapterMeter]) -> None:
        """Have the meters leave the answers to their commands to these loops."""
        kinds: dict[MeterId, set[Kind]] = defaultdict(set)
        for loop in self.loops:
            kinds[loop.command.meter].add(loop.command.kind)
        for meter in settings:
            device = next((one for one in meter.devices if one.obeys), meter)
            name = device.source or str(meter.id)
            self._meters[meter.id].deferred = Deferred(name, device.preset, frozenset(kinds[meter.id]))
        for command in self.all:
            state = Loop(command).state()
            refused = state.model_copy(update={"finding": UNSAFE})
            self._meters[command.meter].deferred.states[command.kind] = refused if command.is_refused else state

    def connected(self, source: str, now: float) -> None:
        """Read the states of a source's devices after a new connection."""
        self._keepalives |= {key: _NOW for key in self._keepalives if key[0] == source}
        for loop in self.loops:
            if loop.command.at == source:
                loop.begin(now)

    def show(self, source: str, topic: str, payload: bytes, now: float, *, retained: bool) -> None:
        """Note what a device shows."""
        for loop in self._shown.get((source, topic), ()):
            try:
                shows = loop.command.shows(payload, loop.wish)
            except UnreadableError:
                self._tally["message", "state_unreadable"] += 1
                continue
            if shows is not None and loop.show(shows, now, retained=retained):
                self._tally["obedience", "ended_by_itself"] += 1

    def run(self, now: float) -> Effects:
        """Tell devices what their meters' desired states say, and answer commands that are obeyed or are not."""
        effects: Effects = []
        if now < self._ran_at:
            # The clock was set back: times before that would be due too late.
            self.heard_at = min(self.heard_at, now)
            for source in {loop.command.at for loop in self.loops}:
                self.connected(source, now)
        self._ran_at = now
        for source, topic in [key for key, due in self._keepalives.items() if key[0] in self.reached and now >= due]:
            self._keepalives[source, topic] = now + KEEPALIVE_S
            effects.append(Publish(topic, b"", 0, via=source))
        for loops in self._devices.values():
            for loop in loops:
                self._want(loop, now)
                others = any(other.in_flight(now) for other in loops if other is not loop)
                told = loop.command
                reach = DeviceReach(told.at in self.reached, (told.meter, told.kind) in self.armed, not others)
                effects += self._act(loop, reach, now)
        return effects

    def _want(self, loop: Loop, now: float) -> None:
        core, kind = self._meters[loop.command.meter], loop.command.kind
        at = core.time(now)
        commanded = core.commanded(int(at))
        held = core.desired_states.held.get(kind)
        on = {
            # A battery stops giving with its gateway; what reduces or isolates goes on until its end.
            Kind.SHARING: commanded.sharing and commanded.weight > 0 and now < self.heard_at + self._patience_s,
            Kind.REDUCING: commanded.reducing,
            Kind.ISOLATED: commanded.isolated,
            Kind.IMPORT_LIMIT: commanded.import_limit_w is not None,
        }[kind]
        # The end by the adapter's clock, and for the device by the gateway's.
        wish = DeviceWish(on, (held.until or 0) if held and on else 0, commanded.import_limit_w)
        loop.want(wish if kind is Kind.IMPORT_LIMIT else wish._replace(limit_w=None), now, ever=held is not None)
        if kind in core.deferred.ended:
            core.deferred.ended.remove(kind)
            loop.permit(now)

    def _act(self, loop: Loop, reach: DeviceReach, now: float) -> Effects:
        meter, kind = self._meters[loop.command.meter], loop.command.kind
        before = meter.deferred.states[kind]
        message = loop.act(now, reach, _percent(meter))
        effects: Effects = [] if message is None else [message]
        if message is not None:
            self._tally["device_command", kind.value] += 1
        state = loop.state()
        meter.deferred.states[kind] = state
        if loop.gave_up:
            self._tally["obedience", "disobeyed"] += 1
            effects += meter.answer_deferred(kind, now, state.finding)
        elif loop.stage in _ENDED and (meter.deferred.is_open(kind) or (before.finding and not state.finding)):
            effects += meter.answer_deferred(kind, now)
        return effects


def _percent(meter: MeterCore) -> int | None:
    battery, level = meter.description.battery, meter.state.level
    return None if battery is None or level is None else max(0, min(100, level * 100 // battery.capacity))
