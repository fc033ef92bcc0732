"""When a microgrid was an island, shared or reduced, from the events of its meters; pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from commonwatt.model.records import State
from commonwatt.model.units import EpochSeconds

ISLAND = State.DEAD_FEEDER | State.SWITCH_OPEN | State.ISOLATED  # bits of a boundary that is not closed
ROWS = {"Island": ISLAND, "Sharing": State.SHARING, "Reducing": State.REDUCING}
"""The rows of a timeline, and the bits of which a meter in the row has one."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A meter's state from a time on."""

    meter: int  # a number of the meter
    time: EpochSeconds  # when it began
    bits: int  # the state


@dataclass(frozen=True, kw_only=True)
class Span:
    """A time in which at least one meter had a state."""

    begin: EpochSeconds  # its begin; the timeline's, if it began before
    end: EpochSeconds  # its end; the timeline's, if it lasted on
    most: int  # the most meters that had it at once


def spans(changes: Iterable[Change], mask: int, begin: EpochSeconds, end: EpochSeconds) -> list[Span]:
    """Return the times in ``[begin, end)`` in which a meter had one of the bits of ``mask``.

    Args:
        changes: The changes of all meters; the last of each meter before ``begin`` says how it began.
    """
    found: list[Span] = []
    having: set[int] = set()
    since, most = begin, 0
    for change in sorted(changes, key=lambda each: each.time):
        time = max(begin, change.time)
        if time >= end:
            break
        before = bool(having)
        (having.add if change.bits & mask else having.discard)(change.meter)
        if having and not before:
            since, most = time, 0
        elif before and not having and time > since:
            found.append(Span(begin=since, end=time, most=most))
        most = max(most, len(having))
    if having:
        found.append(Span(begin=since, end=end, most=most))
    return found
