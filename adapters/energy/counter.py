"""A foreign meter's cumulative counter: which increments count, and their spreading over slots (M1).

A counter that falls, or rises faster than the rated power allows, is held back until two later samples agree with it.
After a report of the device's restart a fall to an older total is confirmed at once; any other fall, which may be a
strange first reading, by one later sample that is higher and still below the highest reading. Then it is one of

- **counted**: a rise that the rated power allows since the counter last moved: the counter moves in large steps, or
  its messages waited at a broker and came together.

- **glitch**: a later sample continues from before; the samples held back are dropped.
- **dip**: without a report of a restart a fall by less than the resolution, or by less than the last sample rose:
  it may be rounded, or the end of a spike. The counter is held at its highest reading until it passes that again.
- **rollover**: the declared width explains the fall; the energy across it counts.
- **reset**: the counter began again at zero, as its rule declares it can; its new reading counts.
- **rewind**: the counter goes on from an older total, or from zero without such a rule; it counts from there. What
  flowed between the last reading before the fall and the first one after it is lost with the counter, and not counted.
- **jump**: the counter goes on from a higher total than the rated power allows, or after a reported restart or a
  silence than a known power explains (``_likely``); it counts from there.
- **unit**: the reading is 10, 100 or 1,000 times as high or low: nothing counts until the mapping is corrected.

In doubt no energy is counted: what counts is at most what flowed.

Spreading of a cumulative total over slots (docs/adapters.md, M1).
Between two samples the energy flows evenly. At the end of each slot the flows recorded so far add up to the
interpolated total, rounded down to a milliwatt-hour: each slot has the difference of two rounded totals, so no
rounding error accumulates.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import pairwise
from math import inf
from typing import NamedTuple

from commonwatt.model.units import GROUP_S, SLOT_S, EpochSeconds, MilliwattHours

EpochMilliseconds = int  # time of a sample, in milliseconds since 1970, UTC

_SLOT_MS = SLOT_S * 1000


class SlotRun(NamedTuple):
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

    def take(self, at: EpochMilliseconds, total: MilliwattHours, *, is_certain: bool = True) -> Iterator[SlotRun]:
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

    def flush(self) -> list[SlotRun]:
        """Return the completed slots of the present group: exact, or of two averages a milliwatt-hour apart."""
        start, flows, exact = self.edge - SLOT_S * len(self.flows), self.flows, self.exact
        self.flows, self.exact = [], True
        if exact:
            return [SlotRun(start + SLOT_S * n, start + SLOT_S * (n + 1), flow) for n, flow in enumerate(flows)]
        value, more = divmod(sum(flows), len(flows))
        change = self.edge - SLOT_S * more
        runs = (SlotRun(start, change, value, lossy=True), SlotRun(change, self.edge, value + 1, lossy=True))
        return [run for run in runs if run.start < run.end]


@dataclass(kw_only=True)
class SteppedValue:
    """A value that is held until the next sample: a register as read, or a battery's level; its fields are stored."""

    at: EpochMilliseconds  # time of the last sample, epoch milliseconds
    value: MilliwattHours  # the value then
    edge: EpochSeconds  # the last slot edge at or before that sample; slots up to it are recorded

    @classmethod
    def begin(cls, at: EpochMilliseconds, value: MilliwattHours) -> "SteppedValue":
        """Start with a first sample; its slot is the first one."""
        return cls(at=at, value=value, edge=at // _SLOT_MS * SLOT_S)

    def take(self, at: EpochMilliseconds, value: MilliwattHours) -> list[SlotRun]:
        """Add a sample later than the last one; return the slots that end by then, each with the value at its end."""
        end = at // _SLOT_MS * SLOT_S
        # A sample on a slot's edge is the value at the end of that slot.
        change = end - SLOT_S if end * 1000 == at and value != self.value else end
        runs = (SlotRun(self.edge, change, self.value), SlotRun(max(change, self.edge), end, value))
        self.at, self.value, self.edge = at, value, end
        return [run for run in runs if run.start < run.end]


CONFIRMING = 3  # samples in agreement, the first included, that confirm a fall or a jump
WINDOW_MS = 60_000  # least milliseconds over which a confirmed rise is compared with the rated power
TOGETHER_MS = 1000  # messages less than this apart may have waited at a broker and come together
SILENT_MS = 600_000  # milliseconds without a reading after which a rise may be a jump
REMEMBERED_MS = 3_600_000  # milliseconds of each of the two periods of which the highest power is remembered
LIKELY = 3  # times of a known power that are likely after a restart or a silence
BEGUN_SHARE = 8  # a load of this part of the rated power, one eighth, may have begun in a silence
_KNOWN_MS = 600_000  # most milliseconds between two readings of which the second can confirm the first

_RECENT = 2
_HOUR_MS = 3_600_000
_UNIT_FACTORS = (10, 100, 1000)
_UNIT_SHARE = 50  # a unit change is a ratio within a fiftieth of a factor


class SampleOutcome(StrEnum):
    """What became of a sample, or of samples held back."""

    COUNTED = "counted"
    STARTED = "started"
    BEGUN = "begun: energy counts from here on"
    HELD_BACK = "held back"
    GLITCH = "glitch"
    DIP = "dip"
    ROLLOVER = "rollover"
    RESET = "reset"
    REWIND = "rewind"
    JUMP = "jump"
    UNIT = "unit"


class _Way(IntEnum):
    """How a reading goes on; of ways with the same energy, the first is chosen."""

    CONTINUES = 0
    AGREES = 1
    ANEW = 2


class Read(NamedTuple):
    """One reading of a counter."""

    at: EpochMilliseconds  # when it was read, epoch milliseconds
    raw: MilliwattHours  # the counter's own reading


_NEVER = Read(0, 0)


class CountedEnergy(NamedTuple):
    """The energy counted so far at an accepted reading, as it is stored; the fields are those of ``Point``."""

    at: EpochMilliseconds
    total: MilliwattHours
    raw: MilliwattHours


class Point(NamedTuple):
    """The energy counted so far at an accepted reading."""

    at: EpochMilliseconds  # when it was read, epoch milliseconds
    total: MilliwattHours  # energy counted since the start
    raw: MilliwattHours  # the counter's own reading
    # Whether energy that flowed may not be in the total yet: the counter is below its highest reading.
    waits: bool = False
    # Whether all energy since the point before is in the total; a fall or a jump may have lost some.
    is_certain: bool = True


@dataclass(frozen=True, kw_only=True)
class CounterLimits:
    """What a counter can do."""

    rated_mw: int  # the highest power through it, milliwatts
    resolution: MilliwattHours  # the largest step of the counter itself
    rollover: MilliwattHours | None = None  # the reading at which it starts again at zero; ``None``: it has none
    restarts_at_zero: bool = False  # whether it begins at zero after a restart

    def most(self, duration_ms: int) -> MilliwattHours:
        """Return the most energy that a reading can rise by in a time."""
        return self.rated(duration_ms) + self.resolution

    def rated(self, duration_ms: int) -> MilliwattHours:
        """Return the energy of the rated power in a time."""
        return self.rated_mw * duration_ms // _HOUR_MS


@dataclass(kw_only=True)
class Counter:
    """A counter's accepted reading and those held back; its fields are stored."""

    at: EpochMilliseconds = 0  # time of the last accepted reading, epoch milliseconds; 0: none yet
    raw: MilliwattHours = 0  # the counter's highest accepted reading since it last began anew
    total: MilliwattHours = 0  # energy counted since the start
    moved: Read = _NEVER  # when the counter last moved, and its reading then
    anchor: Read = _NEVER  # the same for an earlier move, at least ``WINDOW_MS`` before
    # Readings held back, oldest first, each in agreement with the one before.
    held: list[Read] = field(default_factory=list)
    # Readings of the last accepted samples, at most 2, oldest first.
    recent: list[MilliwattHours] = field(default_factory=list)
    # The first reading below the highest one, while the counter waits to pass that again; else ``None``.
    fallen: MilliwattHours | None = None
    before: CountedEnergy | None = None  # the accepted point before the last confirmed fall or jump; ``None``: none
    other_unit: bool = False  # whether the readings held back seem to be of another unit
    reported: bool = False  # whether the device reported a restart before the readings held back
    doubted: bool = False  # whether, before the start, a rise over a long time was possible and confirmed nothing
    # Times of the readings held back, or of the present one, before which the device reported a restart.
    reports: list[EpochMilliseconds] = field(default_factory=list)
    # The highest power since ``peaks_at``, and in the period before that, milliwatts.
    peaks: tuple[int, int] = (0, 0)
    peaks_at: EpochMilliseconds = 0  # when the present period began; 0: no power is known

    def take(self, read: Read, limits: CounterLimits, *, restarted: bool = False) -> tuple[SampleOutcome, list[Point]]:
        """Take a reading later than all before; return what became of it, and the points that were accepted.

        ``restarted``: whether the device reported a restart since the last reading.
        """
        if not self.at:
            return self._begin(read, limits)
        fell = restarted and read.raw < self.raw
        self.reported = fell or (self.reported and bool(self.held))
        self.reports = self.reports * bool(self.held) + [read.at] * restarted
        way = self._least(read, limits)
        if way is _Way.CONTINUES and not fell:
            waits = read.raw < self.raw
            outcome = SampleOutcome.GLITCH if self.held else SampleOutcome.DIP if waits else SampleOutcome.COUNTED
            self.held, self.other_unit = [], False
            self._learn(read)
            self._accept(read)
            self.fallen = None if not waits else read.raw if self.fallen is None else self.fallen
            return outcome, [self._point(read)._replace(waits=waits)]
        is_young = way is _Way.AGREES and self._is_young(read)
        if way is not _Way.AGREES:
            self.held, self.reported = [], fell
            self.reports = [read.at] * bool(self.reports)
        self.held.append(read)
        rose = self.reported and self.held[0].raw < read.raw and (read.raw < self.raw or is_young)
        # A small fall may be the first message after a start without its decimals: the next one tells.
        is_older = fell and not self._is_small(read, limits) and self._is_older(read, limits)
        if len(self.held) < CONFIRMING and not rose and not is_older:
            return SampleOutcome.HELD_BACK, []
        return self._confirm(limits)

    def _least(self, read: Read, limits: CounterLimits) -> "_Way":
        """Return the way to go on with the least energy of those that are possible: in doubt, less counts."""
        ways: list[tuple[float, _Way]] = []
        agrees = bool(self.held) and self._agrees(read, limits)
        # Below the highest reading only the end of a spike continues, and that has nothing held back before it.
        falls = read.raw < self.raw and (self.reported or not self._is_small(read, limits))
        falls = falls or self._is_young(read)
        if self._continues(read, limits) and not (agrees and falls):
            ways.append((max(0, read.raw - self.raw), _Way.CONTINUES))
        if agrees:
            outcome, energy = self._explain(self.held[0], limits)
            ways.append((inf if outcome is SampleOutcome.UNIT else energy + read.raw - self.held[0].raw, _Way.AGREES))
        if self._returns(read, limits):
            ways.append((self._explain(read, limits)[1], _Way.ANEW))
        return min(ways, default=(0, _Way.ANEW))[1]

    def _begin(self, read: Read, limits: CounterLimits) -> tuple[SampleOutcome, list[Point]]:
        """Start when a reading goes on from the one before: the first one after a device's start may be anything."""
        # Readings that came together waited for a time that is not known: counting starts at the last of them. After a
        # long time nearly any rise is possible: the reading takes the place of the first one, once.
        last = self.held[-1] if self.held else None
        if last is None or not 0 <= read.raw - last.raw <= limits.most(read.at - last.at):
            self.held, self.doubted = [read], False
            return SampleOutcome.HELD_BACK, []
        if read.at - last.at < TOGETHER_MS and read.at - self.held[0].at < WINDOW_MS:
            self.held = [self.held[0], read]
            return SampleOutcome.HELD_BACK, []
        if not self.doubted and read.raw - last.raw > limits.most(min(read.at - last.at, _KNOWN_MS)):
            self.held, self.doubted = [read], True
            return SampleOutcome.HELD_BACK, []
        self.held = []
        points = [self._rebase(last)]
        self._accept(read)
        return SampleOutcome.STARTED, [*points, self._point(read)]

    def _agrees(self, read: Read, limits: CounterLimits) -> bool:
        """Return whether a reading continues those held back.

        After a fall without a report of a restart it is nearer to them than to the accepted reading: else they may be a
        glitch, and it a fall.
        """
        first, last = self.held[0], self.held[-1]
        if _is_other_unit(first.raw, self.raw) and _is_other_unit(read.raw, self.raw):
            return True
        if first.raw < self.raw and not self.reported and self.raw - read.raw < read.raw - last.raw:
            return False
        # After a long gap nearly any rise is possible: too little to tell a glitch.
        known_ms = min(read.at - last.at, _KNOWN_MS)
        return read.raw >= last.raw and (
            read.raw - last.raw <= limits.most(known_ms)
            or self.raw < first.raw <= read.raw <= self.raw + self._most(read, limits)
        )

    def _continues(self, read: Read, limits: CounterLimits) -> bool:
        """Return whether a reading continues from the last accepted one, dips included."""
        rise = read.raw - self.raw
        if rise < 0:
            return self._is_small(read, limits) or read.raw >= min(self.recent)
        return rise <= min(limits.most(read.at - self.at), self._likely(read, limits, reported=bool(self.reports)))

    def _likely(self, read: Read, limits: CounterLimits, *, reported: bool) -> float:
        """Return the most energy up to a reading that is no jump, after a reported restart or a silence."""
        # It is three times the highest power of the last hour or two, or of the readings after it: the load may go on.
        # In a silence an unseen load may have begun, so at least an eighth of the rated power counts; a report changes
        # nothing there, since every device reports its new connection.
        away_ms = read.at - self.at
        if not (self.peaks_at and (reported or away_ms >= SILENT_MS)):
            return inf
        power = LIKELY * max(*self.peaks, self._held_power(limits))
        power = max(power, limits.rated_mw // BEGUN_SHARE) if away_ms >= SILENT_MS else power
        return power * away_ms // _HOUR_MS + limits.resolution

    def _held_power(self, limits: CounterLimits) -> int:
        """Return the least power at which the readings held back go on, over a minute or more and beyond a step."""
        if len(self.held) < CONFIRMING:
            return 0
        return min(
            max(0, high - low - limits.resolution) * _HOUR_MS // max(WINDOW_MS, ended - began)
            for (began, low), (ended, high) in pairwise(self.held)
        )

    def _is_small(self, read: Read, limits: CounterLimits) -> bool:
        """Return whether a fall may be rounding: at most the resolution, and less than half of the reading."""
        return self.raw - read.raw <= limits.resolution and 2 * read.raw > self.raw

    def _returns(self, read: Read, limits: CounterLimits) -> bool:
        """Return whether a reading goes on from before the last fall or jump, which then was a long glitch."""
        # After a real fall the counter climbs back in steps that are smaller than what was counted since; after a real
        # jump it does not fall below its first reading.
        before = self.before
        if before is None or not 0 <= read.raw - before.raw <= limits.most(read.at - before.at):
            return False
        if self._likely(read, limits, reported=bool(self.reports)) < inf:
            return False
        counted = self.total - before.total
        began = self.raw - counted
        return read.raw < began if before.raw < began else read.raw - self.raw > counted

    def _most(self, read: Read, limits: CounterLimits) -> MilliwattHours:
        """Return the most energy between the accepted reading and this one, judged from an earlier move."""
        return limits.most(read.at - self.anchor.at) - (self.raw - self.anchor.raw)

    def _is_older(self, read: Read, limits: CounterLimits) -> bool:
        """Return whether a reported fall is to an older total, more than half of what the counter may read by now."""
        # Any other total may be a strange one.
        return self.reported and 2 * read.raw > self.raw + limits.most(read.at - self.at)

    def _confirm(self, limits: CounterLimits) -> tuple[SampleOutcome, list[Point]]:
        """Go on from the first of the readings held back."""
        first, *later = self.held
        outcome, energy = self._explain(first, limits)
        if outcome is SampleOutcome.UNIT:
            self.held, self.other_unit = self.held[1:], True
            return outcome, []
        before = CountedEnergy(self.at, self.total, self.raw)
        if outcome is SampleOutcome.COUNTED:
            self._accept(first)
            points = [self._point(first)]
        else:
            self.total += energy
            lossy = outcome in (SampleOutcome.RESET, SampleOutcome.REWIND, SampleOutcome.JUMP)
            is_older = self._is_older(first, limits)
            points = [self._rebase(first)._replace(is_certain=not lossy)]
            # An older total is right, as one that rises after a report, and a large step may follow.
            is_right = is_older or (self.reported and self.held[-1].raw > first.raw)
            self.before = before if lossy and not is_right else None
            if is_older:
                self.moved = self.anchor = Read(before.at, first.raw)
        for read in later:
            is_likely = read.raw - self.raw <= self._likely(read, limits, reported=read.at in self.reports)
            if is_likely:
                self._accept(read)
            points.append(self._point(read) if is_likely else self._rebase(read)._replace(is_certain=False))
        self.held = []
        return outcome, points

    def _is_young(self, read: Read) -> bool:
        """Return whether after a reported fall to no more than half a known power explains the rise from there."""
        if not (self.reported and self.held) or not 0 < 2 * self.held[0].raw <= self.raw:
            return False
        last = self.held[-1]
        return (read.raw - last.raw) * _HOUR_MS <= LIKELY * max(self.peaks) * (read.at - last.at)

    def _explain(self, first: Read, limits: CounterLimits) -> tuple[SampleOutcome, MilliwattHours]:
        """Return the kind of a confirmed fall or rise, and the energy that counts across it."""
        most = self._most(first, limits)
        if self.before is not None and self._returns(first, limits):
            # What was counted meanwhile is part of the counter's own total.
            return SampleOutcome.GLITCH, max(0, first.raw - self.before.raw - (self.total - self.before.total))
        likely = min(most, self._likely(first, limits, reported=first.at in self.reports))
        if 0 < first.raw - self.raw <= most:
            return (
                (SampleOutcome.COUNTED, first.raw - self.raw)
                if first.raw - self.raw <= likely
                else (SampleOutcome.JUMP, 0)
            )
        if self.other_unit or (_is_other_unit(first.raw, self.raw) and not self.reported):
            return SampleOutcome.UNIT, 0
        if first.raw > self.raw:
            return SampleOutcome.JUMP, 0
        if limits.rollover is not None and 0 <= first.raw + limits.rollover - self.raw <= likely:
            return SampleOutcome.ROLLOVER, first.raw + limits.rollover - self.raw
        if limits.restarts_at_zero and first.raw <= likely:
            return SampleOutcome.RESET, first.raw
        return SampleOutcome.REWIND, 0

    def _rebase(self, read: Read) -> Point:
        """Go on from a reading without counting energy up to it."""
        self.at, self.raw = read
        self.moved = self.anchor = read
        self.recent, self.fallen = [read.raw], None
        return self._point(read)

    def _accept(self, read: Read) -> None:
        """Count the energy up to a reading; below the highest one there is none."""
        raw = max(read.raw, self.raw)
        if read.at - self.moved.at >= WINDOW_MS and raw != self.moved.raw:
            self.anchor, self.moved = self.moved, Read(read.at, raw)
        elif read.at - self.at < TOGETHER_MS:
            self.moved = Read(self.moved.at, raw)
        self.total += raw - self.raw
        if read.raw >= self.raw:
            self.recent = [*self.recent[1 - _RECENT :], raw]
        self.at, self.raw = read.at, raw

    def _learn(self, read: Read) -> None:
        """Remember the highest power of one to two periods, over at least a minute."""
        since_ms = read.at - self.moved.at
        if since_ms < WINDOW_MS:
            return
        if read.at - self.peaks_at >= REMEMBERED_MS:
            self.peaks_at, self.peaks = read.at, (0, self.peaks[0])
        self.peaks = (max(self.peaks[0], (read.raw - self.moved.raw) * _HOUR_MS // since_ms), self.peaks[1])

    def _point(self, read: Read) -> Point:
        return Point(read.at, self.total, read.raw)


def _is_other_unit(one: MilliwattHours, other: MilliwattHours) -> bool:
    low, high = sorted((one, other))
    return low > 0 and any(abs(high - low * factor) * _UNIT_SHARE <= low * factor for factor in _UNIT_FACTORS)
