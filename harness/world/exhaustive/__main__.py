"""Every interleaving of a small world: one meter, two gateways, one utility, three records, one command.

    python -m harness.world.exhaustive

The meter has measured three slots and is connected to gateway A. A commands it, once, to disconnect its place for
100 s. B, in a later epoch, sends its first command; after any minute the meter may move to B. Messages of one sender to
one receiver keep their order, all others may overtake each other. Up to two messages are lost. One message is
duplicated, and its copy arrives at any later time (if the message is also lost, only the copy arrives). One process
crashes, at any point between two effects, and starts again at once. A minute passes when no message is in transit,
except a late copy; then all timers fire. After that the faults end, and all data must be at the utility, once.

Equivalent sequences are visited once (``_alone``); a test compares them with all sequences, for small bounds.
"""

from collections.abc import Iterator
from copy import copy
from typing import Any

from commonwatt.model.blocks import Quality
from commonwatt.model.units import SLOT_S
from commonwatt.protocol.commands import Kind
from harness.world import masks
from harness.world.exhaustive import search
from harness.world.exhaustive.parts import TICK, GatewayPart, MeterPart, UtilityPart
from harness.world.exhaustive.search import must
from harness.world.exhaustive.world import (
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

HEALING_MINUTES = 10  # minutes after the faults until all data is at the utility, and the command has ended


class Explorer(search.Explorer[State]):
    """Visits every interleaving of a meter, two gateways and the utility."""

    def __init__(self, bounds: Bounds, *, every_order: bool = False) -> None:
        super().__init__()
        self.world = World(bounds, every_order=every_order)
        self.healed: set[tuple[object, ...]] = set()  # different ends from which all data arrived
        self.obeyed = 0  # steps in which the meter obeyed the command
        self._facts: dict[tuple[int, int], Any] = {}

    def within(self, bounds: Bounds) -> "Explorer":
        """Return an explorer of the same world within other bounds; a step of a part that one knows, both know."""
        other = copy(self)
        search.Explorer.__init__(other)
        other.world = self.world.within(bounds)
        other.healed, other.obeyed = set(), 0
        return other

    @property
    def parts(self) -> dict[str, int]:
        """The number of states of each part."""
        return {part.name: part.states for part in self.world.parts}

    def close(self) -> None:
        """Close the stores of its world, also for those within other bounds."""
        for part in self.world.parts:
            part.connection.close()

    def first(self) -> State:
        return self.world.first()

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        return self.world.successors(state)

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

    def check(self, before: State, after: State) -> None:
        """Check the invariants of a state and of the step to it (I1, I2, I3, I7, I8)."""
        if after.parts == before.parts:
            return
        held, epoch, order, _ = self._fact(METER, after.parts[METER])
        _, epoch_before, order_before, _ = self._fact(METER, before.parts[METER])
        (in_a, done_a, _), (in_b, done_b, _) = self._fact(A, after.parts[A]), self._fact(B, after.parts[B])
        stored = self._fact(UTILITY, after.parts[UTILITY])
        lost = set(range(len(READINGS))) - held - in_a - in_b
        must(not lost, f"I1: slots {lost} are neither at the meter nor at a gateway")
        early = (done_a | done_b) - stored.keys()
        must(not early, f"I2, I3: slots {early} count as relayed, and the utility lacks them")
        wrong = {slot: value for slot, value in stored.items() if value != READINGS[slot]}
        must(not wrong, f"I2: the utility has {wrong}")
        must(epoch >= epoch_before, f"I7: the epoch went back to {epoch}")
        pair = (order.epoch, order.seq) if order else ((0, 0), 0)
        pair_before = (order_before.epoch, order_before.seq) if order_before else ((0, 0), 0)
        must(pair >= pair_before, f"I7: the pair went back from {pair_before} to {pair}")
        if order is not None and order.value == "on" and (order_before is None or order_before.value != "on"):
            self.obeyed += 1
            # A duration, from a gateway without a trusted time, runs from the arrival of the command.
            late = order.until == COMMAND_ENDS <= now_in(after.minute)
            must(not late, "I7: the command was obeyed after its end")
            must(pair > pair_before, "I7: the command was obeyed twice")
            must(epoch_before <= pair[0], "I8: a deposed gateway's command was obeyed")

    def end(self, state: State) -> None:
        """End all faults; check that all data reaches the utility soon, and that no part has unsent data (I6)."""
        key = state.parts, state.moved, state.minute
        if key in self.healed:
            return
        self.healed.add(key)
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
        must(self._drained(parts), f"I6: not drained {HEALING_MINUTES} minutes after all faults")
        must(stored == dict(enumerate(READINGS)), f"I6: the utility has {stored}")
        must(order is None or order.value == "off", "I7: the command lasts beyond its end")

    def _drained(self, parts: tuple[int, ...]) -> bool:
        held, _, order, no_events = self._fact(METER, parts[METER])
        at_rest = order is None or order.value == "off"
        return not held and no_events and at_rest and self._fact(A, parts[A])[2] and self._fact(B, parts[B])[2]


def _slots(holdings: masks.Holdings) -> frozenset[int]:
    return frozenset(slot for mask in holdings.values() for slot in range(60) if mask.exact >> slot & 1)


if __name__ == "__main__":
    search.main(Explorer, Bounds)
