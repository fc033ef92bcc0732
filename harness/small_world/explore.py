"""Every interleaving of a small world: one meter, two gateways, one utility, three records, one command.

    python -m harness.small_world.explore

The meter has measured three slots and is connected to gateway A. A commands it, once, to disconnect its place for
100 s. B, in a later epoch, sends its first command; after any minute the meter may move to B. Messages of one sender to
one receiver keep their order, all others may overtake each other. Up to two messages are lost. One message is
duplicated, and its copy arrives at any later time (if the message is also lost, only the copy arrives). One process
crashes, at any point between two effects, and starts again at once. A minute passes when no message is in transit,
except a late copy; then all timers fire. After that the faults end, and all data must be at the utility, once.

Equivalent sequences are visited once (``_alone``); a test compares them with all sequences, for small bounds.
"""

import argparse
import sys
import time
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any

from commonwatt.model.blocks import Quality
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.commands import Kind
from harness.small_world.parts import TICK, GatewayPart, MeterPart, UtilityPart
from harness.small_world.world import (
    COMMAND_ENDS,
    METER,
    READINGS,
    START,
    UTILITY,
    A,
    B,
    Bounds,
    State,
    World,
    now_in,
)
from harness.world import masks

HEALING_MINUTES = 10  # minutes after the faults until all data is at the utility, and the command has ended


class InvariantError(AssertionError):
    """A violated invariant; the text is the sequence of steps that led to it."""


@dataclass
class Explored:
    """The result of an exploration."""

    states: int = 0  # different states of the world
    transitions: int = 0  # steps between them
    healed: int = 0  # different final states from which all data arrived
    parts: dict[str, int] = field(default_factory=dict)  # number of states of each part
    obeyed: int = 0  # steps in which the meter obeyed the command
    seconds: float = 0.0  # duration of the exploration


class Explorer:
    """Visits and checks every state of a world."""

    def __init__(self, bounds: Bounds, *, every_order: bool = False) -> None:
        self.world = World(bounds, every_order=every_order)
        self._facts: dict[tuple[int, int], Any] = {}
        self._ends: set[tuple[object, ...]] = set()
        self._parents: dict[State, tuple[State | None, str]] = {}
        self.seen = Explored()

    def within(self, bounds: Bounds) -> "Explorer":
        """Return an explorer of the same world within other bounds; a step of a part that one knows, both know."""
        other = copy(self)
        other.world = self.world.within(bounds)
        other._ends, other._parents, other.seen = set(), {}, Explored()
        return other

    def close(self) -> None:
        """Close the stores of its world, also for those within other bounds."""
        for part in self.world.parts:
            part.connection.close()

    # What must hold.

    def _fact(self, n: int, number: int) -> Any:
        """Return a part's stored data in a state; each is read only once."""
        if (n, number) not in self._facts:
            part = self.world.parts[n]
            if isinstance(part, MeterPart):
                core = part.core(number)
                held = core.desired_states.held.get(Kind.ISOLATED)
                slots = {(r.start - START) // SLOT_S for r in part.held(number)}
                self._facts[n, number] = slots, core.desired_states.epoch, held, not core.events.rows
            elif isinstance(part, GatewayPart):
                self._facts[n, number] = (*map(_slots, part.holdings(number)), part.drained(number))
            elif isinstance(part, UtilityPart):
                self._facts[n, number] = self._values(part, number)
        return self._facts[n, number]

    @staticmethod
    def _values(part: UtilityPart, number: int) -> dict[int, int]:
        blocks = part.stored(number)
        return {
            int(slot): int(blocks.values[row, slot])
            for row in range(len(blocks))
            for slot in (blocks.quality[row] == Quality.EXACT).nonzero()[0]
        }

    def check(self, before: State, after: State, text: str) -> None:
        """Check the invariants of a state and of the step to it (I1, I2, I3, I7, I8).

        Raises:
            InvariantError: An invariant is violated.
        """
        if after.parts == before.parts:
            return
        held, epoch, order, _ = self._fact(METER, after.parts[METER])
        _, epoch_before, order_before, _ = self._fact(METER, before.parts[METER])
        (in_a, done_a, _), (in_b, done_b, _) = self._fact(A, after.parts[A]), self._fact(B, after.parts[B])
        stored = self._fact(UTILITY, after.parts[UTILITY])
        lost = set(range(len(READINGS))) - held - in_a - in_b
        self._must(not lost, f"I1: slots {lost} are neither at the meter nor at a gateway", before, text)
        early = (done_a | done_b) - stored.keys()
        self._must(not early, f"I2, I3: slots {early} count as relayed, and the utility lacks them", before, text)
        wrong = {slot: value for slot, value in stored.items() if value != READINGS[slot]}
        self._must(not wrong, f"I2: the utility has {wrong}", before, text)
        self._must(epoch >= epoch_before, f"I7: the epoch went back to {epoch}", before, text)
        pair = (order.epoch, order.seq) if order else ((0, 0), 0)
        pair_before = (order_before.epoch, order_before.seq) if order_before else ((0, 0), 0)
        self._must(pair >= pair_before, f"I7: the pair went back from {pair_before} to {pair}", before, text)
        if order is not None and order.value == "on" and (order_before is None or order_before.value != "on"):
            self.seen.obeyed += 1
            # A duration, from a gateway without a trusted time, runs from the arrival of the command.
            late = order.until == COMMAND_ENDS <= now_in(after.minute)
            self._must(not late, "I7: the command was obeyed after its end", before, text)
            self._must(pair > pair_before, "I7: the command was obeyed twice", before, text)
            self._must(epoch_before <= pair[0], "I8: a deposed gateway's command was obeyed", before, text)

    def heal(self, state: State, text: str) -> None:
        """End all faults; check that all data reaches the utility soon, and that no part has unsent data (I6)."""
        key = state.parts, state.moved, state.minute
        if key in self._ends:
            return
        self._ends.add(key)
        parts, moved = state.parts, state.moved
        for minute in range(state.minute + 1, state.minute + 1 + HEALING_MINUTES):
            now = now_in(minute)
            bag: list[int] = []
            states = list(parts)
            for n in (METER, A, B):
                step = self.world.parts[n].step(states[n], TICK, b"", now)
                states[n] = step.state
                bag += self.world.post(n, step.sent, moved=moved)
            parts = self.world.quiet(tuple(states), bag, now, moved=moved)
            if self._drained(parts):
                break
        stored = self._fact(UTILITY, parts[UTILITY])
        order = self._fact(METER, parts[METER])[2]
        self._must(self._drained(parts), f"I6: not drained {HEALING_MINUTES} minutes after all faults", state, text)
        self._must(stored == dict(enumerate(READINGS)), f"I6: the utility has {stored}", state, text)
        self._must(order is None or order.value == "off", "I7: the command lasts beyond its end", state, text)

    def _drained(self, parts: tuple[int, ...]) -> bool:
        held, _, order, no_events = self._fact(METER, parts[METER])
        at_rest = order is None or order.value == "off"
        return not held and no_events and at_rest and self._fact(A, parts[A])[2] and self._fact(B, parts[B])[2]

    def _must(self, holds: bool, what: str, before: State, text: str) -> None:
        if not holds:
            raise InvariantError("\n".join([what, *self.story(before), f"  then {text}"]))

    # All of it.

    def explore(self, progress: bool = False) -> Explored:
        """Visit every state.

        Raises:
            InvariantError: With the sequence of steps that led to it.
        """
        began = time.perf_counter()
        first = self.world.first()
        self._parents[first] = None, ""
        level = [first]
        while level:
            following: list[State] = []
            for state in level:
                self._visit(state, following)
            level = following
            if progress:
                print(f"{len(self._parents):>10,} states, {len(level):>9,} not yet visited", file=sys.stderr)
        self.seen.states = len(self._parents)
        self.seen.healed = len(self._ends)
        self.seen.parts = {part.name: part.states for part in self.world.parts}
        self.seen.seconds = time.perf_counter() - began
        return self.seen

    def _visit(self, state: State, following: list[State]) -> None:
        text = "all faults end"
        for text, after in self.world.successors(state):
            self.seen.transitions += 1
            if after not in self._parents:
                self.check(state, after, text)
                self._parents[after] = state, text
                following.append(after)
        if state.minute == self.world.bounds.minutes - 1 and not any(state.queues) and state.late is None:
            self.heal(state, text)

    def story(self, state: State) -> list[str]:
        """Return the steps that led to a state, one line each."""
        lines: list[str] = []
        at: State | None = state
        while at is not None:
            parent, text = self._parents[at]
            if text:
                lines.append(f"  {now_in(at.minute) - START:>4} s  {text}")
            at = parent
        return lines[::-1]


def _slots(holdings: masks.Holdings) -> frozenset[int]:
    return frozenset(slot for mask in holdings.values() for slot in range(60) if mask.exact >> slot & 1)


def main() -> None:
    """Explore with the given bounds, and print the result."""
    parser = argparse.ArgumentParser(description="Visit every state of a small world of real cores and stores.")
    for bound in fields(Bounds):
        parser.add_argument(f"--{bound.name}", type=int, default=bound.default, help="at most (default: %(default)s)")
    try:
        seen = Explorer(Bounds(**vars(parser.parse_args()))).explore(progress=True)
    except InvariantError as broken:
        sys.exit(f"BROKEN: {broken}")
    print(f"{seen.states:,} states, {seen.transitions:,} transitions, {seen.healed:,} ends in {seen.seconds:.0f} s")
    print("states of each part: " + ", ".join(f"{name} {count:,}" for name, count in seen.parts.items()))


if __name__ == "__main__":
    main()
