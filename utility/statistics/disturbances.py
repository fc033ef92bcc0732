"""How long a meter's state had a bit, such as reduced demand, from the changes in its event log."""

from collections.abc import Iterable
from dataclasses import dataclass

from commonwatt.model.units import EpochSeconds


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of one bit of a meter's state."""

    time: EpochSeconds  # when
    is_on: bool  # whether the bit is set from then on


def seconds_on(changes: Iterable[Change], start: EpochSeconds, end: EpochSeconds) -> int:
    """Return for how many seconds of ``[start, end)`` the bit was set.

    Args:
        changes: The changes before ``end``, in order. The last one before ``start`` says how the span begins; without
            one, the bit was clear, unless the first change within the span clears it.
        start: The first second.
        end: The second after the last.
    """
    known = list(changes)
    before = [each for each in known if each.time < start]
    within = [each for each in known if start <= each.time < end]
    is_on = before[-1].is_on if before else bool(within) and not within[0].is_on
    total, since = 0, start
    for each in within:
        total += (each.time - since) * is_on
        is_on, since = each.is_on, each.time
    return total + (end - since) * is_on
