"""What the checks judge: one UTC day of many meters in quarter-hours, and the energy of the days before."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.ids import MeterId
from commonwatt.model.units import Quarter
from commonwatt.settlement.settled import QUARTERS_A_DAY

Energies: TypeAlias = NDArray[np.int64]  # milliwatt-hours, (series, quarters) or (series, days)

Flags: TypeAlias = NDArray[np.bool_]


class Check(StrEnum):
    """The checks by name."""

    HIGH = "high"
    LOW = "low"
    SPIKE = "spike"
    STUCK = "stuck"
    ZERO = "zero"
    REGISTER = "register"
    GAP = "gap"


@dataclass(frozen=True, kw_only=True)
class Limits:
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
class Finding:
    """One meter's readings that are likely wrong or missing."""

    meter: MeterId  # the meter
    record_type: int  # the record type
    first: Quarter  # the first quarter
    until: Quarter  # the quarter after the last
    check: Check  # the check that found it
    figure: int  # what was found; its unit is the check's: percent, milliwatt-hours, quarter-hours, days or slots
    threshold: int  # the threshold it passed, in the same unit


@dataclass(frozen=True, kw_only=True, eq=False)
class Day:
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
    day: Day, rows: NDArray[np.intp], check: Check, figures: Sequence[int] | Energies, threshold: int
) -> list[Finding]:
    """Return a finding about the whole day of each of some series."""
    return [
        Finding(
            meter=int(day.meter[row]),
            record_type=int(day.record_type[row]),
            first=day.first,
            until=day.first + QUARTERS_A_DAY,
            check=check,
            figure=int(figure),
            threshold=threshold,
        )
        for row, figure in zip(rows.tolist(), figures, strict=True)
    ]


def runs(flags: Flags) -> list[tuple[int, int, int]]:
    """Return (row, first column, column after the last) of each run of set flags in a row."""
    if not flags.size:
        return []
    edges = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    ends = np.nonzero(edges == -1)[1]
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))
