"""The gateway's time and its trust (docs/architecture.md): utility or NTP, hardware clock, meters, none.

The gateway's time is ``raw``, which follows the monotonic clock and no step of the machine's clock, plus an offset,
which is kept here. The offset never changes a record. There are three sources: this machine, the utility, and the
meters' median. NTP is followed while it sets the machine's clock, otherwise the utility, unless other sources
contradict. If the utility or NTP differs by more than a record may be early, no record is rejected as early.
"""

from dataclasses import dataclass
from statistics import median

from pydantic import BaseModel, ValidationError

from commonwatt.model.time import MachineClocks, Now, Trust
from commonwatt.model.units import MADE, SLOT_S, EpochSeconds, MeterId
from commonwatt.model.validation import FUTURE_S

TOLERANCE_S = 2  # times are reported in whole seconds; smaller differences count as agreement
DRIFT = 100e-6  # largest drift of an uncorrected clock, as a fraction of the elapsed time
# Seconds of possible drift since the last good time up to which a clock is trusted alone: for 6.7 days.
MAX_ERROR_S = 60
# Seconds for which a time of the utility or NTP is valid; a gateway requests one at least every hour.
CONFIRMED_FOR_S = 7200
METERS_NEEDED = 3  # fewest meters for a median
METER_GOOD_FOR_S = 3600  # seconds for which a meter's reported time is used
METERS_STEP_S = 30  # seconds by which the median must differ to be followed: it is a poor clock, but better than none
KEEP_EVERY_S = 900  # seconds between two writes of the last good time


class KeptTime(BaseModel):
    """A good time, stored for the next start."""

    time: float  # epoch seconds
    boot: str  # id of the machine's boot
    since_boot_s: float  # seconds since that boot
    wall_off_s: float  # seconds by which the machine's clock was behind


@dataclass(frozen=True)
class Word:
    """The last time of the utility or NTP, as the least and most seconds by which ``raw`` is behind it."""

    least_s: float
    most_s: float

    def off_s(self, offset_s: float) -> float:
        """Return the seconds by which an offset is certainly too low, or too high (negative); 0 if it agrees."""
        if self.least_s - TOLERANCE_S <= offset_s <= self.most_s + TOLERANCE_S:
            return 0.0
        return (self.least_s if offset_s < self.least_s else self.most_s) - offset_s


@dataclass
class TimeCounts:
    """Counts since the start, for the metrics."""

    steps: int = 0
    contradictions: int = 0


class Timekeeper:
    """Keeps the gateway's time."""

    def __init__(self, kept: str | None) -> None:
        """Start from the last good time, as ``keep`` returned it; ``None``: there is none."""
        self.counts = TimeCounts()
        self.offset_s = 0.0  # what is added to ``raw``, seconds
        self._kept = _kept(kept)
        self._machine: MachineClocks | None = None
        self._good: float | None = None
        self._confirmed: float | None = None
        self._stepped_s = 0.0
        # A report is valid until the next one, or until the machine's clock jumps: ``raw`` advances evenly.
        self._utility: Word | None = None
        self._ntp: Word | None = None
        self._meters: dict[MeterId, tuple[float, float]] = {}

    def now(self, raw: float) -> EpochSeconds:
        """Return the time."""
        return max(0, int(raw + self.offset_s))

    def tell(self, raw: float) -> Now:
        """Return the time with its trust."""
        return Now(self.now(raw), self.trust(raw))

    @property
    def contested(self) -> bool:
        """Whether the utility or NTP reports another time: then no record is rejected as from the future."""
        words = (self._utility, self._ntp)
        return any(word is not None and abs(word.off_s(self.offset_s)) > FUTURE_S for word in words)

    def trust(self, raw: float) -> Trust:
        """Return the trust of the time."""
        if self.contested:
            meters_s = self._median_ahead_s(raw)
            return Trust.NONE if meters_s is None or abs(meters_s) > FUTURE_S else Trust.METERS
        if self._confirmed is not None and raw - self._confirmed <= CONFIRMED_FOR_S:
            return Trust.NETWORK
        if self._good is not None and TOLERANCE_S + DRIFT * (raw + self.offset_s - self._good) <= MAX_ERROR_S:
            return Trust.HARDWARE
        return Trust.NONE if self._median_ahead_s(raw) is None else Trust.METERS

    @property
    def stepped_s(self) -> int:
        """Seconds by which the time was set since the start; deadlines must be shifted by what is new of them."""
        return int(self._stepped_s)

    # Sources of time

    def machine(self, machine: MachineClocks) -> None:
        """Handle a reading of the machine's clocks; at the first, continue from the last good time if possible."""
        first, self._machine = self._machine is None, machine
        if first and self._good is None and self._kept is not None:
            self._go_on(self._kept, machine)
        ahead_s = machine.wall - machine.raw
        kept = machine.synchronised and machine.wall >= MADE
        self._ntp = Word(ahead_s, ahead_s) if kept else None
        if self._ntp is not None:
            # This machine's clock at its start is no other source: NTP did not set it then.
            alone = self._utility is None and self._median_ahead_s(machine.raw) is None
            others = [] if self._utility is None else [self._utility.off_s(self.offset_s)]
            self._follow(machine.raw, self._ntp, others, alone=alone)

    def network(self, raw: float, time: float, round_trip_s: float) -> None:
        """Handle a time that the utility sent within the last ``round_trip_s``."""
        if time < MADE:
            self.counts.contradictions += 1
            return
        self._utility = Word(time - raw, time + round_trip_s - raw)
        if self._ntp is not None:
            # Only NTP is followed: otherwise the two would set the time in turns.
            self.counts.contradictions += abs(self._utility.off_s(self.offset_s)) > FUTURE_S
            return
        machine = self._machine
        others = [] if machine is None else [machine.wall - machine.raw - self.offset_s]
        self._follow(raw, self._utility, others)

    def meter(self, raw: float, meter: MeterId, time: EpochSeconds) -> None:
        """Handle a meter's report of its time."""
        if time < MADE:
            return
        self._meters[meter] = (raw, time - raw)
        ahead_s = self._median_ahead_s(raw)
        unsure = not self.contested and self.trust(raw) <= Trust.METERS
        if unsure and ahead_s is not None and abs(ahead_s) > METERS_STEP_S:
            self._step(ahead_s)

    def meter_slot(self, raw: float, meter: MeterId, slot_end: EpochSeconds) -> None:
        """Handle the end of a meter's last slot, which is half a slot ago on average."""
        self.meter(raw, meter, slot_end + SLOT_S // 2)

    def forget(self, meters: set[MeterId]) -> None:
        """Drop the reports of meters that are not in ``meters``."""
        self._meters = {meter: said for meter, said in self._meters.items() if meter in meters}

    def jumped(self) -> None:
        """Handle a jump of the machine's clock: it was set, or the machine slept and lost that time."""
        self._good = self._confirmed = self._utility = None
        # Their differences to ``raw`` are no longer valid.
        self._meters.clear()

    # The stored time

    def keep(self) -> str | None:
        """Return the good time to store for the next start; ``None``: it is not good, or the stored one is recent."""
        machine = self._machine
        if machine is None or self._confirmed is None or self.contested:
            return None
        if machine.raw - self._confirmed > CONFIRMED_FOR_S:
            return None  # Since then the clock has drifted: a restart must not hide for how long.
        time = machine.raw + self.offset_s
        if self._kept is not None and self._kept.boot == machine.boot and abs(time - self._kept.time) < KEEP_EVERY_S:
            return None
        self._kept = KeptTime(
            time=time, boot=machine.boot, since_boot_s=machine.since_boot_s, wall_off_s=time - machine.wall
        )
        return self._kept.model_dump_json()

    def _go_on(self, kept: KeptTime, machine: MachineClocks) -> None:
        """Continue from the last good time, by a clock that has run since then."""
        if kept.boot == machine.boot:
            time = kept.time + machine.since_boot_s - kept.since_boot_s
        elif machine.has_hardware_clock and abs(kept.wall_off_s) <= MAX_ERROR_S:
            time = machine.wall + kept.wall_off_s
        else:
            return
        if time < kept.time - TOLERANCE_S:
            return  # that clock has not run since then
        by_s = time - (machine.raw + self.offset_s)
        if abs(by_s) > TOLERANCE_S:
            self._step(by_s)
        self._good = kept.time

    # Setting the time

    def _follow(self, raw: float, word: Word, others_s: list[float], *, alone: bool = False) -> None:
        """Follow NTP or the utility, unless its time is far off and no other source agrees."""
        by_s = word.off_s(self.offset_s)
        meters_s = self._median_ahead_s(raw)
        witnesses_s = others_s if meters_s is None else [*others_s, meters_s]
        agreed = any(abs(other_s - by_s) <= FUTURE_S for other_s in witnesses_s)
        if alone or agreed or abs(by_s) <= FUTURE_S or (meters_s is None and raw + self.offset_s < MADE):
            if by_s:
                self._step(by_s)
            self._good, self._confirmed = raw + self.offset_s, raw
        else:
            self.counts.contradictions += 1

    def _step(self, by_s: float) -> None:
        self.offset_s += by_s
        self._stepped_s += by_s
        self.counts.steps += 1

    def _median_ahead_s(self, raw: float) -> float | None:
        """Return the seconds by which the meters' median is ahead of the time; ``None``: too few recent reports."""
        said = [off_s for heard, off_s in self._meters.values() if raw - heard <= METER_GOOD_FOR_S]
        return median(said) - self.offset_s if len(said) >= METERS_NEEDED else None


def _kept(text: str | None) -> KeptTime | None:
    try:
        return None if text is None else KeptTime.model_validate_json(text)
    except ValidationError:
        return None  # of an earlier release; the next good time replaces it
