"""Time with its trust (docs/architecture.md), the clocks of a machine, and how much counters grew lately."""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, Self, TypeVar

from commonwatt.model.units import EpochSeconds


class Trust(IntEnum):
    """Trust of the time in an acknowledgement: its source (docs/architecture.md)."""

    NONE = 0
    METERS = 1  # the median of the meters
    HARDWARE = 2  # a hardware clock, within its drift since the last good time
    NETWORK = 3  # the utility, or NTP


class Now(EpochSeconds):
    """The time of an event, UTC epoch seconds, with the trust of its clock.

    Arithmetic with it gives plain seconds.
    """

    trust: Trust

    def __new__(cls, seconds: float, trust: Trust) -> Self:
        """Return whole seconds with their trust."""
        now = super().__new__(cls, seconds)
        now.trust = trust
        return now

    def __reduce__(self) -> tuple[type[Self], tuple[int, Trust]]:  # For copies.
        return type(self), (int(self), self.trust)


@dataclass(frozen=True, kw_only=True)
class MachineClocks:
    """The readings of this machine's clocks at one moment."""

    raw: float  # the part's own ``Clock``
    wall: float  # epoch seconds on the machine's clock
    since_boot_s: float  # seconds since the machine's start, with time in suspend
    boot: str  # the id of this start
    synchronised: bool  # whether the kernel reports the machine's clock as synchronised by NTP
    has_hardware_clock: bool  # whether the machine's clock was set from a battery-backed clock


SAMPLE_EVERY_S = 60.0  # seconds between two samples that are kept
LONGEST_S = 3600.0  # longest window

Name = TypeVar("Name")


class Recent(Generic[Name]):
    """Samples of counters that began at 0.

    Args:
        now: Seconds of a clock that only goes forward.
    """

    def __init__(self, now: float) -> None:
        self._samples: deque[tuple[float, Mapping[Name, int]]] = deque([(now, {})])
        self._last: tuple[float, Mapping[Name, int]] = self._samples[0]

    def look(self, counts: Mapping[Name, int], now: float) -> None:
        """Take the counters' present values."""
        self._last = now, dict(counts)
        if now - self._samples[-1][0] >= SAMPLE_EVERY_S:
            self._samples.append(self._last)
        while len(self._samples) > 1 and now - self._samples[1][0] >= LONGEST_S:
            self._samples.popleft()

    @property
    def watched_s(self) -> int:
        """Seconds since the start, up to the longest window."""
        return int(min(LONGEST_S, self._last[0] - self._samples[0][0]))

    @property
    def names(self) -> Collection[Name]:
        """The counters of the last look."""
        return self._last[1]

    def increase(self, name: Name, window_s: float) -> int:
        """Return by how much a counter grew within the window, or since the start if that is shorter."""
        now, counts = self._last
        before = [old for time, old in self._samples if now - time >= window_s]
        base = before[-1] if before else self._samples[0][1]
        value, then = counts.get(name, 0), base.get(name, 0)
        return value - then if value >= then else value  # A new core after a failure of the store counts from 0.


class Lows(Generic[Name]):
    """The lowest value of each figure in each period: a figure that comes and goes has a low, one that grows has none.

    Args:
        period_s: Seconds of a period.
    """

    def __init__(self, period_s: int) -> None:
        self._period_s = period_s
        self._lows: dict[Name, dict[int, float]] = {}

    def look(self, figures: Mapping[Name, float], now: float) -> None:
        """Take the present values; figures that are not among them are forgotten."""
        period = int(now // self._period_s)
        self._lows = {
            name: {n: low for n, low in lows.items() if n >= period - 2} | {period: min(value, lows.get(period, value))}
            for name, value in figures.items()
            for lows in (self._lows.get(name, {}),)
        }

    def growing(self, now: float) -> list[Name]:
        """Return the figures whose lowest value rose from one whole period to the next, and has not fallen since."""
        last, present = int(now // self._period_s) - 1, int(now // self._period_s)
        return [
            name
            for name, lows in self._lows.items()
            if last - 1 in lows and last in lows and lows[last - 1] < lows[last] <= lows.get(present, lows[last])
        ]
