"""Overload: a disk that fills, a backlog that grows, and a utility that lags (pure, C6)."""

from collections import deque
from dataclasses import dataclass

from commonwatt.model.disk_space import LOW_BYTES
from commonwatt.model.units import QUARTER_S, EpochSeconds

SPACED_S = 900  # least seconds between two changes of a reason
FULL_WITHIN_S = 7 * 86_400  # a disk that is full within these seconds is a reason; it ends at twice as many
DISK_EVERY_S = 3_600  # seconds between two samples of the disk's free space
DISK_SAMPLES = 25  # samples that give the present rate: a day
ENOUGH_SAMPLES = 7  # samples without which there is no rate: six hours
GROWING_QUARTERS = 4  # quarter-hours in a row in which the backlog grew, or did not, that begin or end the reason


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A reason to save, that begins and ends at most once in a quarter-hour."""

    on: bool = False  # whether it holds
    since: EpochSeconds = 0  # when it last began or ended

    def to(self, wanted: bool | None, now: EpochSeconds) -> "Reason":
        """Return the reason after it was judged; ``None``: as before."""
        if wanted is None or wanted == self.on or 0 <= now - self.since < SPACED_S:
            return self
        return Reason(on=wanted, since=now)


class FillingDisk:
    """Judges from samples of a day when the disk will be full."""

    def __init__(self) -> None:
        self._samples: deque[tuple[EpochSeconds, int]] = deque(maxlen=DISK_SAMPLES)

    def judge(self, free_bytes: int, now: EpochSeconds) -> bool | None:
        """Return whether the disk is full within a week at the present rate; ``None``: not known, or nearly so."""
        if self._samples and now < self._samples[-1][0]:
            self._samples.clear()  # The clock was set back.
        if not self._samples or now - self._samples[-1][0] >= DISK_EVERY_S:
            self._samples.append((now, free_bytes))
        if len(self._samples) < ENOUGH_SAMPLES:
            return None
        begin, free_then = self._samples[0]
        left, taken = free_bytes - LOW_BYTES, free_then - free_bytes
        if taken <= 0:
            return left <= 0
        left_s = left * (now - begin) // taken
        return None if FULL_WITHIN_S <= left_s < 2 * FULL_WITHIN_S else left_s < FULL_WITHIN_S


class GrowingBacklog:
    """Compares the least backlog of each quarter-hour with that of the one before."""

    def __init__(self) -> None:
        self._quarter = 0
        self._least: int | None = None
        self._before: int | None = None
        self._run = 0  # quarter-hours in a row with the same answer
        self._grew = False

    def judge(self, parts: int, now: EpochSeconds) -> bool | None:
        """Return whether the backlog has grown for an hour; ``None``: neither that nor the opposite."""
        if now // QUARTER_S != self._quarter:
            if self._least is not None and self._before is not None:
                grew = self._least > self._before
                self._run = self._run + 1 if grew == self._grew else 1
                self._grew = grew
            self._quarter, self._before, self._least = now // QUARTER_S, self._least, None
        self._least = parts if self._least is None else min(self._least, parts)
        return self._grew if self._run >= GROWING_QUARTERS else None
