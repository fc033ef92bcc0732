"""Which reported times a meter accepts (M4; docs/protocol.md)."""

from dataclasses import dataclass, replace

from commonwatt.device.changes import MeterState
from commonwatt.model.time.now import Trust
from commonwatt.model.units import EpochSeconds
from commonwatt.model.validation import EARLY_S

TOLERANCE_S = 2  # seconds of difference that count as agreement: times are whole seconds and arrive with a delay
AHEAD_TOLERANCE_S = 120  # seconds by which a meter may be ahead without a correction: an answer can take this long
GOOD_FOR_S = 86_400  # seconds after which a time of less trust is accepted too


@dataclass(frozen=True)
class Reported:
    """A reported time."""

    time: EpochSeconds  # the controller's time at some moment after ``since``
    trust: int  # trust of this time
    # Time of the request on the meter's own clock; ``None``: the travel time is unknown, so that the time may be later,
    # but not earlier.
    since: float | None


class ReportedTime:
    """When a time was last accepted; volatile."""

    def __init__(self) -> None:
        self._taken_at: float | None = None

    def step_s(self, told: Reported, had: Trust | int, offset_s: int, now: float) -> int | None:
        """Return the correction of a meter's time; 0: the time is right; ``None``: the present time has higher trust.

        Only the certain part of the reported time is accepted.

        Args:
            told: The reported time.
            had: Trust of the meter's present time.
            offset_s: The meter's time minus its own clock.
            now: The time on its own clock.
        """
        fresh = self._taken_at is not None and now - self._taken_at <= GOOD_FOR_S
        if told.trust == Trust.NONE or (fresh and told.trust < had):
            return None
        self._taken_at = now
        behind_s = told.time - (now + offset_s)
        ahead_s = 0.0 if told.since is None else told.since + offset_s - told.time
        # The meter's own clock is as good as the median of the meters' clocks.
        tolerance_s = AHEAD_TOLERANCE_S if told.trust == Trust.METERS else TOLERANCE_S
        if behind_s <= tolerance_s and ahead_s <= AHEAD_TOLERANCE_S:
            return 0
        return int(behind_s if behind_s > 0 else -ahead_s)


def without_far_future(state: MeterState, now: EpochSeconds) -> MeterState:
    """Return the state without times that a clock far ahead has left in it: gateways reject events at such times.

    Otherwise each later event would have such a time too, for as long as the clock was ahead. A time that is less far
    ahead stays: its record waits for that time (EARLY), and later events follow it.
    """
    changed_at, last_slot = (now if time > now + EARLY_S else time for time in (state.changed_at, state.last_slot))
    return replace(state, changed_at=changed_at, last_slot=last_slot)
