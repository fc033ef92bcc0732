"""When a meter sends, and which reported times it accepts (M4; design 4.6)."""

from dataclasses import dataclass

from commonwatt.model.units import GROUP_S, EpochSeconds, MeterId
from commonwatt.protocol.messages import Trust

PUT_S = 60
"""Seconds between the puts of a meter that sends by itself (M4)."""

TOLERANCE_S = 2
"""Times are reported in whole seconds and take a moment to arrive: smaller differences count as agreement."""

AHEAD_TOLERANCE_S = 120
"""A meter that is ahead by no more is left alone: an answer is on its way for so long at times."""

GOOD_FOR_S = 86_400
"""After this a time of less trust is taken too."""


@dataclass(frozen=True)
class Reported:
    """A reported time.

    Attributes:
        time: The controller's time at some moment after ``since``.
        trust: How far it can be trusted.
        since: When it was asked, by the meter's own clock; ``None``: its travel time is unknown, so that
            the time may be later, but not earlier.
    """

    time: EpochSeconds
    trust: int
    since: float | None


class ReportedTime:
    """Remembers when a time was last taken; forgotten in a restart."""

    def __init__(self) -> None:
        self._taken_at: float | None = None

    def step_s(self, told: Reported, had: Trust | int, offset_s: int, now: float) -> int | None:
        """Return by how much a meter's time is to be set; 0: it is right; ``None``: what it has is trusted more.

        Only the certain part of the reported time is accepted.

        Args:
            told: The reported time.
            had: How far what the meter has can be trusted.
            offset_s: How far its time is ahead of its own clock.
            now: The time on its own clock.
        """
        fresh = self._taken_at is not None and now - self._taken_at <= GOOD_FOR_S
        if told.trust == Trust.NONE or (fresh and told.trust < had):
            return None
        self._taken_at = now
        behind_s = told.time - (now + offset_s)
        ahead_s = 0.0 if told.since is None else told.since + offset_s - told.time
        # Its own clock is no worse than the median of clocks like it.
        tolerance_s = AHEAD_TOLERANCE_S if told.trust == Trust.METERS else TOLERANCE_S
        if behind_s <= tolerance_s and ahead_s <= AHEAD_TOLERANCE_S:
            return 0
        return int(behind_s if behind_s > 0 else -ahead_s)


def next_put(meter: MeterId, now: float) -> float:
    """Return a meter's next turn within the minute; ids that follow each other have turns that do."""
    turn = meter % PUT_S
    return ((now - turn) // PUT_S + 1) * PUT_S + turn


def open_group(last_slot: EpochSeconds, time: float) -> EpochSeconds | None:
    """Return the start of the averaging group still being measured: its readings wait for the others."""
    start = last_slot // GROUP_S * GROUP_S
    # After a clock was set back the last group lies far ahead: nothing is being measured in it.
    return start if last_slot > start and abs(time - start) < GROUP_S + PUT_S else None
