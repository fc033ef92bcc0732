"""Checks of readings by day: which are likely wrong, and why (docs/billing.md)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.units import MeterId, Quarter
from utility.energy.quarters import QUARTERS_A_DAY

Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours, (series, quarters) or (series, days)

Flags: TypeAlias = NDArray[np.bool_]


class ReadingCheck(StrEnum):
    """The checks by name."""

    HIGH = "high"
    LOW = "low"
    SPIKE = "spike"
    STUCK = "stuck"
    ZERO = "zero"
    REGISTER = "register"
    GAP = "gap"


@dataclass(frozen=True, kw_only=True)
class CheckLimits:
    """The thresholds of the checks."""

    reference_days: int = 14  # days whose mean is a meter's ordinary day
    least_days: int = 7  # fewer such days judge nothing
    high_percent: int = 400  # most energy of a day, percent of an ordinary day
    low_percent: int = 25  # least energy of a day, percent of an ordinary day
    spike_percent: int = 500  # most energy of a day's highest quarter-hour, percent of its third-highest
    spike_least: int = 250_000  # a quarter-hour with less energy is no spike, milliwatt-hours
    stuck_quarters: int = 4  # quarter-hours in a row with one reading, not zero, in every slot
    zero_days: int = 1  # days in a row without energy
    register_permille: int = 10  # most difference of the readings' sum from the register, thousandths of the register's
    register_least: int = 100_000  # a lesser difference is none, milliwatt-hours
    gap_slots: int = 1  # missing slots in a row


@dataclass(frozen=True, kw_only=True)
class SuspectReadings:
    """One meter's readings that are likely wrong or missing."""

    meter: MeterId  # the meter
    record_type: int  # the record type
    first: Quarter  # the first quarter
    until: Quarter  # the quarter after the last
    check: ReadingCheck  # the check that found it
    figure: int  # what was found; its unit is the check's: percent, milliwatt-hours, quarter-hours, days or slots
    threshold: int  # the threshold it passed, in the same unit


@dataclass(frozen=True, kw_only=True, eq=False)
class SeriesDay:
    """A UTC day of n series, each a meter's record type, (n) or (n, 96)."""

    meter: NDArray[np.uint64]  # the meters' ids, uint64
    record_type: NDArray[np.uint8]  # the record types, uint8
    first: Quarter  # the day's first quarter
    energy: Energies  # energy of each quarter, milliwatt-hours; 0 where not known
    known: Flags  # whether every slot has a reading
    outage: Flags  # whether the meter was off, or its microgrid an island, for any time
    before: Energies  # energy of whole days without an outage before this one, the last one last, (n, days)
    usable: Flags  # which of these there are, (n, days)

    @property
    def total(self) -> Energies:
        """Energy of the day, (n)."""
        return np.asarray(self.energy.sum(axis=1))

    @property
    def ordinary(self) -> Flags:
        """Whether every quarter is known and none had an outage, (n)."""
        return np.asarray(self.known.all(axis=1) & ~self.outage.any(axis=1))


def findings(
    day: SeriesDay, rows: NDArray[np.intp], check: ReadingCheck, figures: Sequence[int] | Energies, threshold: int
) -> list[SuspectReadings]:
    """Return a finding about the whole day of each of some series."""
    return [
        _suspect(day, row, check, int(figure), threshold) for row, figure in zip(rows.tolist(), figures, strict=True)
    ]


def _suspect(
    day: SeriesDay,
    row: int,
    check: ReadingCheck,
    figure: int,
    threshold: int,
    span: tuple[int, int] = (0, QUARTERS_A_DAY),
) -> SuspectReadings:
    """Return a finding about a series, from one quarter-hour of the day to before another one."""
    return SuspectReadings(
        meter=int(day.meter[row]),
        record_type=int(day.record_type[row]),
        first=day.first + span[0],
        until=day.first + span[1],
        check=check,
        figure=figure,
        threshold=threshold,
    )


def runs(flags: Flags) -> list[tuple[int, int, int]]:
    """Return (row, first column, column after the last) of each run of set flags in a row."""
    if not flags.size:
        return []
    edges = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))


def high_or_low(day: SeriesDay, limits: CheckLimits) -> list[SuspectReadings]:
    """Find days far above or below the mean of the days before; days with an outage or a gap are not judged."""
    mean, enough = ordinary_day(day, limits)
    judged = enough & day.ordinary & (mean > 0)
    percent = np.where(judged, day.total * 100 // np.maximum(mean, 1), 100)
    above = np.flatnonzero(percent > limits.high_percent)
    # A day without energy is the check `zero`'s.
    below = np.flatnonzero((percent < limits.low_percent) & (day.total != 0))
    return findings(day, above, ReadingCheck.HIGH, percent[above], limits.high_percent) + findings(
        day, below, ReadingCheck.LOW, percent[below], limits.low_percent
    )


def zero(day: SeriesDay, limits: CheckLimits) -> list[SuspectReadings]:
    """Find meters that used to measure energy, and measure none for some days."""
    mean, enough = ordinary_day(day, limits)
    days = day.before.shape[1]
    is_zero = (day.before == 0) & day.usable
    # How many days directly before this one are without energy.
    run = np.cumprod(is_zero[:, ::-1], axis=1).sum(axis=1) if days else np.zeros(len(day.meter), np.int64)
    found = enough & day.ordinary & (mean > 0) & (day.total == 0) & (run + 1 >= limits.zero_days)
    # Of a meter that often has no energy for days, such as one for export, a day without is ordinary.
    often = is_zero.sum(axis=1) > run
    rows = np.flatnonzero(found & ~often)
    return findings(day, rows, ReadingCheck.ZERO, run[rows] + 1, limits.zero_days)


def ordinary_day(day: SeriesDay, limits: CheckLimits) -> tuple[Energies, Flags]:
    """Return each series' mean energy of the days before, and whether there are enough of them, (n)."""
    used = day.usable
    count = used.sum(axis=1)
    return np.where(used, day.before, 0).sum(axis=1) // np.maximum(count, 1), np.asarray(count >= limits.least_days)


def stuck(day: SeriesDay, least: Energies, most: Energies, limits: CheckLimits) -> list[SuspectReadings]:
    """Find runs of quarter-hours whose every slot has one reading, not zero.

    A run is looked for within a day: one over midnight is found if either part is long enough.

    Args:
        day: Series of flows; a level may stand still.
        least: The least reading of a slot in each quarter, (n, 96).
        most: The greatest one, (n, 96).
        limits: The thresholds.
    """
    constant = day.known & (least == most) & (most != 0)
    found = []
    for row, start, end in runs(constant):
        # A run is split where the reading changes.
        changes = np.flatnonzero(np.diff(most[row, start:end])) + 1
        for first, until in zip([0, *changes.tolist()], [*changes.tolist(), end - start], strict=True):
            if until - first >= limits.stuck_quarters:
                span = start + first, start + until
                found.append(_suspect(day, row, ReadingCheck.STUCK, until - first, limits.stuck_quarters, span))
    return found


def spike(day: SeriesDay, limits: CheckLimits) -> list[SuspectReadings]:
    """Find the highest quarter-hour of a day that is far above the third-highest; not on days with an outage."""
    energy = np.where(day.known, day.energy, 0)
    third = np.partition(energy, -3, axis=1)[:, -3]
    place = energy.argmax(axis=1)
    highest = energy[np.arange(len(energy)), place]
    percent = highest * 100 // np.maximum(third, 1)
    # The quarter-hours after an outage are high: what was switched off is switched on.
    judged = ~day.outage.any(axis=1) & (highest >= limits.spike_least) & (third > 0)
    return [
        _suspect(day, row, ReadingCheck.SPIKE, int(percent[row]), limits.spike_percent, (at, at + 1))
        for row in np.flatnonzero(judged & (percent > limits.spike_percent)).tolist()
        for at in [int(place[row])]
    ]


def sum_against_register(
    day: SeriesDay, difference: Energies, has: Flags, limits: CheckLimits
) -> list[SuspectReadings]:
    """Find days whose readings do not add up to the register's difference; the figure is sum minus difference.

    Args:
        day: Series of energy through meters.
        difference: The register at the day's end minus the register at its beginning, (n).
        has: Whether both are known, (n).
        limits: The thresholds.
    """
    off = day.total - difference
    allowed = np.maximum(np.abs(difference) * limits.register_permille // 1000, limits.register_least)
    rows = np.flatnonzero(has & day.known.all(axis=1) & (np.abs(off) > allowed))
    return [_suspect(day, row, ReadingCheck.REGISTER, int(off[row]), int(allowed[row])) for row in rows.tolist()]


def gaps(day: SeriesDay, missing: NDArray[np.int64], limits: CheckLimits) -> list[SuspectReadings]:
    """Find quarter-hours in a row with missing slots; the figure is the number of these slots.

    Args:
        day: The series.
        missing: Missing slots of each quarter, without those in which the meter was off, (n, 96).
        limits: The thresholds.
    """
    return [
        _suspect(day, row, ReadingCheck.GAP, slots, limits.gap_slots, (start, end))
        for row, start, end in runs(missing > 0)
        if (slots := int(missing[row, start:end].sum())) >= limits.gap_slots
    ]


@dataclass(frozen=True, kw_only=True, eq=False)
class DaySlots:
    """What is known of the slots of a day's quarters, (n, 96), and of the registers, (n)."""

    day: SeriesDay  # the meters' readings of flows as they were sent
    least: Energies  # the least reading of a slot in each quarter
    most: Energies  # the greatest one
    missing: Energies  # missing slots, without those in which the meter was off
    register: Energies  # the register's difference over the day
    has_register: Flags  # whether it is known


def checked(judged: SeriesDay, slots: DaySlots, limits: CheckLimits) -> Sequence[SuspectReadings]:
    """Return everything the checks find in a day, by meter.

    Args:
        judged: Generation of each place with panels, use of each place with an incoming meter,
            under the incoming meter.
        slots: The readings as they were sent.
        limits: The thresholds.
    """
    if not len(judged.meter) and not len(slots.day.meter):
        return []
    found = [
        *high_or_low(judged, limits),
        *zero(judged, limits),
        *spike(judged, limits),
        *stuck(slots.day, slots.least, slots.most, limits),
        *sum_against_register(slots.day, slots.register, np.asarray(slots.has_register), limits),
        *gaps(slots.day, slots.missing, limits),
    ]
    return sorted(found, key=lambda one: (one.meter, one.record_type, one.first, one.check))
