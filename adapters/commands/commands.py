"""All commands of an adapter's devices: the meters' desired states in, messages to devices and answers out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from adapters.changes import Change
from adapters.commands.command import DeviceCommand, Wish
from adapters.commands.loop import Loop, Reach
from adapters.mapping.values import UnreadableError
from commonwatt.config.adapter import AdapterMeter
from commonwatt.device.commands.deferred import Deferred
from commonwatt.device.meter import Meter
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.device_states import Stage

Effects: TypeAlias = list[Effect[Change]]
Armed: TypeAlias = tuple[MeterId, Kind]  # a state of a meter's device

UNSAFE = "is never told to share, since nothing would end it without the adapter: accept_unsafe"
_NOW = float("-inf")
KEEPALIVE_S = 25  # seconds between the messages that keep a device publishing; they stop after 60 s
_GATEWAY_S = 60
_ENDED = (Stage.OBEYS, Stage.UNCONFIRMED, Stage.OFF)  # stages in which a command is answered


class Commands:
    """The loops of all commands."""

    def __init__(
        self, commands: Iterable[DeviceCommand], meters: Mapping[MeterId, Meter], tally: Counter[tuple[str, str]]
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
            (loop.command.meter, loop.command.kind): loop.command.message(Wish(), 0, None)
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
            name = meter.source or str(meter.id)
            self._meters[meter.id].deferred = Deferred(name, meter.preset, frozenset(kinds[meter.id]))
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
                reach = Reach(told.at in self.reached, (told.meter, told.kind) in self.armed, not others)
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
        wish = Wish(on, (held.until or 0) if held and on else 0, commanded.import_limit_w)
        loop.want(wish if kind is Kind.IMPORT_LIMIT else wish._replace(limit_w=None), now, ever=held is not None)
        if kind in core.deferred.ended:
            core.deferred.ended.remove(kind)
            loop.permit(now)

    def _act(self, loop: Loop, reach: Reach, now: float) -> Effects:
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


def _percent(meter: Meter) -> int | None:
    battery, level = meter.description.battery, meter.state.level
    return None if battery is None or level is None else max(0, min(100, level * 100 // battery.capacity))
