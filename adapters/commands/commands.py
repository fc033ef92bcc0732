"""All commands of an adapter's devices: the meters' desired states in, messages to devices and answers out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from adapters.changes import Change
from adapters.commands.command import DeviceCommand, Wish
from adapters.commands.loop import Loop, Reach
from adapters.mapping.values import UnreadableError
from commonwatt.device.commands.desired_states import DEFAULT
from commonwatt.device.meter import Meter
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.ids import MeterId
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.device_states import Stage

Effects: TypeAlias = list[Effect[Change]]

UNSAFE = "is never told to share, since nothing would end it without the adapter: accept_unsafe"
_NOW = float("-inf")
KEEPALIVE_S = 25  # seconds between the messages that keep a device publishing; they stop after 60 s
_ENDED = (Stage.OBEYS, Stage.UNCONFIRMED, Stage.OFF)  # stages in which a command is answered


class Commands:
    """The loops of all commands."""

    def __init__(
        self, commands: Iterable[DeviceCommand], meters: Mapping[MeterId, Meter], tally: Counter[tuple[str, str]]
    ) -> None:
        self.all = tuple(commands)  # every command, also the refused ones
        self.loops = [Loop(command) for command in self.all if not command.is_refused]
        self.armed: frozenset[MeterId] = frozenset()  # the meters whose device's broker has its will
        self.reached = False  # whether the devices' broker is connected
        self._meters = meters
        self._tally = tally
        self._shown: dict[str, list[Loop]] = defaultdict(list)
        self._devices: dict[str, list[Loop]] = defaultdict(list)
        self._keepalives = {c.keepalive: _NOW for c in self.all if c.keepalive is not None}  # when each is due
        for loop in self.loops:
            self._devices[loop.command.device].append(loop)
            if loop.command.shown_on is not None:
                self._shown[loop.command.shown_on].append(loop)

    @property
    def topics(self) -> list[str]:
        """The topics on which devices show their states."""
        return sorted(self._shown)

    @property
    def wake_at(self) -> float | None:
        """When ``run`` is due next; ``None``: not by itself."""
        keepalives = self._keepalives.values() if self.reached else ()
        due = min((*(loop.due_at for loop in self.loops), *keepalives), default=float("inf"))
        return None if due == float("inf") else due

    def is_awaited(self, now: float) -> bool:
        """Return whether a device was told, and its answer is awaited."""
        return any(loop.in_flight(now) for loop in self.loops)

    def wills(self) -> dict[MeterId, Publish]:
        """Return the messages that end what devices were told, which their broker is to publish if we are gone."""
        return {
            loop.command.meter: loop.command.message(Wish(), 0, None)
            for loop in self.loops
            if loop.command.settings.failsafe == "will" and (loop.wish.on or loop.stage is not Stage.OFF) and loop.ever
        }

    def boot(self) -> None:
        """Have the meters leave the answers to their commands to these loops."""
        for command in self.all:
            deferred = self._meters[command.meter].deferred
            deferred.states[command.kind] = Loop(command).state()
            if command.is_refused:
                deferred.states[command.kind] = deferred.states[command.kind].model_copy(update={"finding": UNSAFE})
            else:
                deferred.kinds |= {command.kind}

    def connected(self, now: float) -> None:
        """Read the devices' states after a new connection."""
        self._keepalives = dict.fromkeys(self._keepalives, _NOW)
        for loop in self.loops:
            loop.begin(now)

    def show(self, topic: str, payload: bytes, now: float, *, retained: bool) -> None:
        """Note what a device shows."""
        for loop in self._shown.get(topic, ()):
            try:
                shows = loop.command.shows(payload, loop.wish)
            except UnreadableError:
                self._tally["message", "state_unreadable"] += 1
                continue
            if shows is not None and loop.show(shows, now, retained=retained):
                self._tally["obedience", "ended_by_itself"] += 1

    def permit(self, meter: MeterId, now: float) -> None:
        """Let a meter's switch at the boundary close, if the message that just came says so."""
        for loop in self.loops:
            held = self._meters[meter].desired_states.held.get(loop.command.kind)
            if loop.command.meter == meter and loop.wish.on and held and held.value == DEFAULT[loop.command.kind]:
                loop.permits = True
                loop.due_at = now

    def run(self, now: float) -> Effects:
        """Tell devices what their meters' desired states say, and answer commands that are obeyed or are not."""
        effects: Effects = []
        for topic in [topic for topic, due in self._keepalives.items() if self.reached and now >= due]:
            self._keepalives[topic] = now + KEEPALIVE_S
            effects.append(Publish(topic, b"", 0))
        for loops in self._devices.values():
            for loop in loops:
                self._want(loop, now)
                others = any(other.in_flight(now) for other in loops if other is not loop)
                effects += self._act(loop, Reach(self.reached, loop.command.meter in self.armed, not others), now)
        return effects

    def _want(self, loop: Loop, now: float) -> None:
        core, kind = self._meters[loop.command.meter], loop.command.kind
        at = core.time(now)
        commanded = core.commanded(int(at))
        held = core.desired_states.held.get(kind)
        on = {
            Kind.SHARING: commanded.sharing and commanded.weight > 0,
            Kind.REDUCING: commanded.reducing,
            Kind.ISOLATED: commanded.isolated,
            Kind.IMPORT_LIMIT: commanded.import_limit_w is not None,
        }[kind]
        # The end by the adapter's clock, and for the device by the gateway's.
        wish = Wish(on, (held.until or 0) if held and on else 0, commanded.import_limit_w)
        loop.want(wish if kind is Kind.IMPORT_LIMIT else wish._replace(limit_w=None), now, ever=held is not None)

    def _act(self, loop: Loop, reach: Reach, now: float) -> Effects:
        meter, kind = self._meters[loop.command.meter], loop.command.kind
        before = loop.state()
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
