"""The small world: its state, as numbers, and all steps from one state to the next."""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from commonwatt.config.settings import GatewaySettings
from commonwatt.device.meter import Effects, MeterCore
from commonwatt.model.effects import Effect, Publish
from commonwatt.model.records import RecordType
from commonwatt.model.time import Now, Trust
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.batches import unpack_batch_ack
from commonwatt.protocol.commands import Kind
from commonwatt.protocol.topics import LEVELS, STATUS
from commonwatt.town.loading import load_town
from commonwatt.town.registry import registry_of
from commonwatt.town.town import Function
from gateway.controller import Controller
from gateway.store.changes import Change
from harness.world.exhaustive.parts import TICK, GatewayPart, MeterPart, Part, Step, UtilityPart
from utility.registry.store.registration import fill_registry

START = 1_782_000_000
MINUTE_S = 60
READINGS = (1_000, 2_000, 3_000)
COMMAND_ENDS = START + 160  # the command is given at the end of the first minute

METER, A, B, UTILITY = range(4)
LINKS = ((METER, A), (METER, B), (A, METER), (B, METER), (A, UTILITY), (B, UTILITY), (UTILITY, A), (UTILITY, B))
NAMES = ("meter", "gateway A", "gateway B", "utility")

MAX_COPIES = 2  # most equal messages in transit at once on a link; a third would have no further effect


@dataclass(frozen=True)
class Bounds:
    """Most faults of a run, and its minutes."""

    losses: int = 2
    duplications: int = 1
    crashes: int = 1
    minutes: int = 3


class State(NamedTuple):
    """The world, as numbers."""

    parts: tuple[int, ...]  # the state of meter, A, B and utility
    minute: int  # minutes passed
    moved: bool  # whether the meter has moved to B
    queues: tuple[tuple[int, ...], ...]  # messages in transit, by link
    late: int | None  # a message that may arrive at any time
    faults: tuple[int, int, int]  # losses, duplications and crashes still to come


class World:
    """The small world."""

    def __init__(self, bounds: Bounds, *, every_order: bool = False) -> None:
        self.bounds = bounds
        self._every_order = every_order
        with TemporaryDirectory() as folder:
            path = Path(folder) / "town.toml"
            path.write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1, push_share = 1.0}]\n')
            town = load_town(path)
        microgrid = next(iter(town.microgrids.values()))
        description = next(
            m for m in microgrid.meters if m.function is Function.HOUSE and m.record_types == (RecordType.THROUGH,)
        )
        # An emergency service: a gateway itself ends the isolation of a house that is on the grid.
        registered = {
            m.id: m.model_copy(update={"function": Function.FIRE})
            for m in registry_of(microgrid).meters
            if m.id == description.id
        }
        settings = GatewaySettings(microgrid=microgrid.id)
        gateways = [GatewayPart(NAMES[n], settings, registered, store=n) for n in (A, B)]
        gateways[1].set("epoch", "2,0")
        self.parts: tuple[Part[Any, Any], ...] = (
            MeterPart(description, START - 900),
            *gateways,
            UtilityPart(lambda connection: fill_registry(connection, town)),
        )
        self._meter_id = description.id
        self._messages: list[tuple[int, str, bytes]] = []
        self._number: dict[tuple[int, str, bytes], int] = {}
        self._commuting: dict[tuple[int, int, int, int], bool] = {}

    def within(self, bounds: Bounds) -> "World":
        """Return the same world within other bounds; the two share what they know of their parts."""
        other = copy(self)
        other.bounds = bounds
        return other

    # How it begins.

    def first(self) -> State:
        """Return the world with the meter known to A, three slots measured, A's and B's first commands sent."""
        starts = [part.start(part.first_image, START) for part in self.parts]
        introduction = tuple(message for message in starts[B].sent if message.topic.endswith("cmd"))
        under_way = [m for n, start in enumerate(starts) for m in self.post(n, start.sent, moved=False)]
        under_way = [m for m in under_way if m not in self.post(B, introduction, moved=False)]
        parts = self.quiet(tuple(start.state for start in starts), under_way, START, moved=False)
        for slot, reading in enumerate(READINGS, 1):
            measured = self.parts[METER].change(parts[METER], partial(_measure, START + slot * SLOT_S, reading))
            parts = (measured.state, *parts[1:])
        ordered = self.parts[A].change(parts[A], partial(_order, self._meter_id))
        bounds = self.bounds
        faults = bounds.losses, bounds.duplications, bounds.crashes
        state = State(parts, 0, False, ((),) * len(LINKS), None, faults)
        return self._after(self._after(state, A, ordered), B, Step(parts[B], introduction, ()))

    def quiet(self, parts: tuple[int, ...], under_way: list[int], now: int, *, moved: bool) -> tuple[int, ...]:
        """Deliver all messages, in order, until none is in transit; return the parts' states."""
        states = list(parts)
        while under_way:
            to, topic, payload = self._messages[under_way.pop(0)]
            step = self.parts[to].step(states[to], topic, payload, now)
            states[to] = step.state
            under_way += self.post(to, step.sent, moved=moved)
        return tuple(states)

    # Messages.

    def post(self, sender: int, sent: tuple[Publish, ...], *, moved: bool) -> list[int]:
        """Number a part's messages, with their receivers; leave out those that the next one replaces."""
        numbers = []
        for message in sent:
            if message.topic.rpartition("/")[2] not in (LEVELS, STATUS):
                entry = self._receiver(sender, message, moved=moved), message.topic, message.payload
                if entry not in self._number:
                    self._number[entry] = len(self._messages)
                    self._messages.append(entry)
                numbers.append(self._number[entry])
        return numbers

    @staticmethod
    def _receiver(sender: int, message: Publish, *, moved: bool) -> int:
        if sender == METER:
            return B if moved else A
        if sender == UTILITY:
            return unpack_batch_ack(message.payload).store  # a gateway's store has its number
        return METER if message.topic.count("/") == 4 else UTILITY

    # Possible next steps.

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        """Yield all possible next steps, each with its name."""
        now = now_in(state.minute)
        waiting = [link for link, queue in enumerate(state.queues) if queue]
        shortcuts = [] if self._every_order else waiting
        alone = next((link for link in shortcuts if self._alone(state, link, waiting)), None)
        if alone is not None:
            yield from self._delivery(state, alone, now)
            return
        for link in waiting:
            yield from self._delivery(state, link, now)
        if state.late is not None:
            to, topic, payload = self._messages[state.late]
            step = self.parts[to].step(state.parts[to], topic, payload, now)
            yield f"LATE: {topic} reaches {NAMES[to]}", self._after(state._replace(late=None), to, step)
        if state.minute < self.bounds.minutes - 1 and not any(state.queues):
            yield from self._minute(state, "a minute passes")
            if not state.moved:
                yield from self._minute(state._replace(moved=True), "a minute passes, and the meter moves to B")

    def _alone(self, state: State, link: int, waiting: list[int]) -> bool:
        """Return whether a message may be delivered first: no earlier step could make a difference.

        At the utility, parts join to the same block in any order; ``_commutes`` checks that. At other parts the message
        is first if no other sender to that part has a step to do before that part itself does one.
        """
        source, to = LINKS[link]
        late = None if state.late is None else self._messages[state.late][0]
        if to == UTILITY:
            others = [state.queues[other][0] for other in waiting if LINKS[other][1] == UTILITY and other != link]
            others += [] if late != UTILITY or state.late is None else [state.late]
            return all(self._commutes(state, state.queues[link][0], other) for other in others)
        if late == to or any(LINKS[other][1] == to for other in waiting if other != link):
            return False
        active = {LINKS[other][1] for other in waiting} | ({late} if late is not None else set())
        active.discard(to)
        for _ in LINKS:
            active |= {b for a, b in LINKS if a in active and b != to and self._speaks(a, b, moved=state.moved)}
        return not any(
            a in active and a != source and b == to and self._speaks(a, b, moved=state.moved) for a, b in LINKS
        )

    @staticmethod
    def _speaks(source: int, to: int, *, moved: bool) -> bool:
        return source != METER or to == (B if moved else A)

    def _commutes(self, state: State, one: int, other: int) -> bool:
        key = state.parts[UTILITY], one, other, state.minute
        if key not in self._commuting:
            now = now_in(state.minute)
            ends = set()
            for order in ((one, other), (other, one)):
                at, said = state.parts[UTILITY], set()
                for _, topic, payload in (self._messages[number] for number in order):
                    step = self.parts[UTILITY].step(at, topic, payload, now)
                    at = step.state
                    said |= set(step.sent)
                ends.add((at, frozenset(said)))
            self._commuting[key] = len(ends) == 1
        return self._commuting[key]

    def _delivery(self, state: State, link: int, now: int) -> Iterator[tuple[str, State]]:
        to, topic, payload = self._messages[state.queues[link][0]]
        losses, duplications, crashes = state.faults
        rest = _with(state.queues, link, state.queues[link][1:])
        text = f"{topic} reaches {NAMES[to]}"
        step = self.parts[to].step(state.parts[to], topic, payload, now)
        yield text, self._after(state._replace(queues=rest), to, step)
        if losses:
            yield (
                f"LOST: {topic} to {NAMES[to]}",
                state._replace(queues=rest, faults=(losses - 1, duplications, crashes)),
            )
        if duplications:
            twice = state._replace(queues=rest, late=state.queues[link][0], faults=(losses, duplications - 1, crashes))
            yield f"{text}, and is duplicated", self._after(twice, to, step)
            if losses:
                delayed = twice._replace(faults=(losses - 1, duplications - 1, crashes))
                yield f"DELAYED: {topic} to {NAMES[to]}", delayed
        yield from self._crashes(state._replace(queues=rest), to, step, text)

    def _minute(self, state: State, text: str) -> Iterator[tuple[str, State]]:
        """Let a minute pass; all timers fire, and during one of those steps a part may crash."""
        state = state._replace(minute=state.minute + 1)
        for n in (METER, A, B):
            step = self.parts[n].step(state.parts[n], TICK, b"", now_in(state.minute))
            for crash, after in self._crashes(state, n, step, text):
                for later in range(n + 1, UTILITY):
                    timers = self.parts[later].step(after.parts[later], TICK, b"", now_in(state.minute))
                    after = self._after(after, later, timers)
                yield crash, after
            state = self._after(state, n, step)
        yield text, state

    def _after(self, state: State, n: int, step: Step) -> State:
        queues = list(state.queues)
        for number in self.post(n, step.sent, moved=state.moved):
            link = LINKS.index((n, self._messages[number][0]))
            if queues[link].count(number) < MAX_COPIES:
                queues[link] += (number,)
        parts = list(state.parts)
        parts[n] = step.state
        return state._replace(parts=tuple(parts), queues=tuple(queues))

    def _crashes(self, state: State, n: int, step: Step, text: str) -> Iterator[tuple[str, State]]:
        """Yield a crash at each point of a step; the part starts again at once, from what its store has."""
        losses, duplications, crashes = state.faults
        for number, point in enumerate(step.points if crashes else ()):
            started = self.parts[n].start(point.image, now_in(state.minute))
            crashed = state._replace(faults=(losses, duplications, crashes - 1))
            both = Step(started.state, point.sent + started.sent, ())
            yield f"{text}; {NAMES[n]} CRASHES at point {number + 1}", self._after(crashed, n, both)


def _with(queues: tuple[tuple[int, ...], ...], link: int, queue: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    return (*queues[:link], queue, *queues[link + 1 :])


def now_in(minute: int) -> int:
    """Return the time at a minute, counted from 0."""
    return START + (minute + 1) * MINUTE_S


def _measure(slot_end: int, reading: int, meter: MeterCore) -> Effects:
    return meter.measure(slot_end, {RecordType.THROUGH: reading})


def _order(meter: int, gateway: Controller) -> list[Effect[Change]]:
    return gateway.own.manager.order(meter, Kind.ISOLATED, "on", COMMAND_ENDS, Now(now_in(0), Trust.NONE))
