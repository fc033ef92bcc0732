"""Spreading of a cumulative total over slots (docs/adapters.md, M1).

Between two samples the energy flows evenly. At the end of each slot the flows recorded so far add up to the
interpolated total, rounded down to a milliwatt-hour: each slot has the difference of two rounded totals, so no
rounding error accumulates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from commonwatt.model.units import GROUP_S, SLOT_S, EpochSeconds, MilliwattHours

EpochMilliseconds = int  # time of a sample, in milliseconds since 1970, UTC

_SLOT_MS = SLOT_S * 1000


class Run(NamedTuple):
    """Consecutive slots with the same value."""

    start: EpochSeconds  # first second covered
    end: EpochSeconds  # second after the last one covered
    value: MilliwattHours  # value of each slot
    lossy: bool = False  # whether it is an average


@dataclass(kw_only=True)
class Spread:
    """The flow of one counter, not yet recorded slots included; its fields are stored."""

    at: EpochMilliseconds  # time of the last sample, epoch milliseconds
    total: MilliwattHours  # the cumulative energy then
    edge: EpochSeconds  # the last slot edge at or before that sample
    carried: MilliwattHours  # the total at that edge, rounded down; energy up to it is in ``flows`` or recorded
    certain: bool = True  # whether the total at that edge is known from samples of neighbouring slots
    # Flows of the slots before ``edge`` that are not recorded yet, all of one group.
    flows: list[MilliwattHours] = field(default_factory=list)
    exact: bool = True  # whether all of them are exact

    @classmethod
    def begin(cls, at: EpochMilliseconds, total: MilliwattHours) -> "Spread":
        """Start with a first sample; its slot is the first one, and has the energy from the sample on."""
        return cls(at=at, total=total, edge=at // _SLOT_MS * SLOT_S, carried=total)

    def take(self, at: EpochMilliseconds, total: MilliwattHours, *, is_certain: bool = True) -> Iterator[Run]:
        """Add a sample later than the last one, with a total not below the last; yield the groups it completes.

        Slots since the last sample are averages if not all of the energy is certain to be in the total.
        """
        # A sample on a slot's edge ends that slot.
        near = is_certain and (at - 1) // _SLOT_MS - (self.at - 1) // _SLOT_MS <= 1
        span_ms, energy = at - self.at, total - self.total
        while (edge_ms := (self.edge + SLOT_S) * 1000) <= at:
            flowed = self.total + energy * (edge_ms - self.at) // span_ms
            certain = near or edge_ms == at
            self.exact = self.exact and self.certain and certain and is_certain
            self.flows.append(flowed - self.carried)
            self.edge, self.carried, self.certain = self.edge + SLOT_S, flowed, certain
            if self.edge % GROUP_S == 0:
                yield from self.flush()
        self.at, self.total, self.certain = at, total, self.certain and is_certain

    def flush(self) -> list[Run]:
        """Return the completed slots of the present group: exact, or of two averages a milliwatt-hour apart."""
        start, flows, exact = self.edge - SLOT_S * len(self.flows), self.flows, self.exact
        self.flows, self.exact = [], True
        if exact:
            return [Run(start + SLOT_S * n, start + SLOT_S * (n + 1), flow) for n, flow in enumerate(flows)]
        value, more = divmod(sum(flows), len(flows))
        change = self.edge - SLOT_S * more
        runs = (Run(start, change, value, lossy=True), Run(change, self.edge, value + 1, lossy=True))
        return [run for run in runs if run.start < run.end]


@dataclass(kw_only=True)
class Steps:
    """A value that is held until the next sample: a register as read, or a battery's level; its fields are stored."""

    at: EpochMilliseconds  # time of the last sample, epoch milliseconds
    value: MilliwattHours  # the value then
    edge: EpochSeconds  # the last slot edge at or before that sample; slots up to it are recorded

    @classmethod
    def begin(cls, at: EpochMilliseconds, value: MilliwattHours) -> "Steps":
        """Start with a first sample; its slot is the first one."""
        return cls(at=at, value=value, edge=at // _SLOT_MS * SLOT_S)

    def take(self, at: EpochMilliseconds, value: MilliwattHours) -> list[Run]:
        """Add a sample later than the last one; return the slots that end by then, each with the value at its end."""
        end = at // _SLOT_MS * SLOT_S
        # A sample on a slot's edge is the value at the end of that slot.
        change = end - SLOT_S if end * 1000 == at and value != self.value else end
        runs = (Run(self.edge, change, self.value), Run(max(change, self.edge), end, value))
        self.at, self.value, self.edge = at, value, end
        return [run for run in runs if run.start < run.end]
