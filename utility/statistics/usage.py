"""The usage of accounts and microgrids in a month: sums, peaks, shapes, completeness, totals, and their words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, MilliwattHours, Quarter
from commonwatt.town.town import Function
from utility.energy.quarters import Energies, Quantity, SettledQuality, SettledQuarters
from utility.registry.accounts import Installed
from utility.statistics.months import CELLS, MonthColumns
from utility.webkit.columns import Shown, Written


@dataclass(frozen=True, kw_only=True)
class BitChange:
    """A change of one bit of a meter's state."""

    time: EpochSeconds  # when
    is_on: bool  # whether the bit is set from then on


def seconds_on(changes: Iterable[BitChange], start: EpochSeconds, end: EpochSeconds) -> int:
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


QUANTITIES = tuple(Quantity)  # the order of the quantities in arrays: imported, shared in, exported, shared out
MICROGRID = 0  # in place of an account's number: the microgrid itself


@dataclass(frozen=True, kw_only=True)
class UsageStretch:
    """Some columns of a meter's row that count for a subject."""

    row: int  # the row of the settled quarter-hours
    subject: int  # the number of the subject
    start: int  # the first column
    end: int  # the column after the last


@dataclass(frozen=True, kw_only=True, eq=False)
class MonthUsage:
    """The usage of some subjects in a month, a row each; energies are milliwatt-hours."""

    energies: Energies  # sums by quantity, (n, 4)
    peak: Energies  # the highest quarter-hour taken from the town, (n); its mean power in milliwatts is four times that
    peak_at: NDArray[np.int64]  # when it begins, (n)
    quarters: NDArray[np.int64]  # quarter-hours of meters that were installed, (n)
    settled: NDArray[np.int64]  # of them, those that are settled
    missing: NDArray[np.int64]  # of the settled ones, those in which a reading is missing
    estimated: NDArray[np.int64]  # of the settled ones, those that were estimated or entered by a person
    shape: Energies  # sums by quantity and cell of the load shape, (n, 4, 48)

    def then(self, later: "MonthUsage") -> "MonthUsage":
        """Return the usage of the time of this one and of a later one, of the same subjects."""
        is_higher = later.peak > self.peak
        summed = ("energies", "quarters", "settled", "missing", "estimated", "shape")
        return MonthUsage(
            peak=np.where(is_higher, later.peak, self.peak),
            peak_at=np.where(is_higher, later.peak_at, self.peak_at),
            **{name: getattr(self, name) + getattr(later, name) for name in summed},
        )


def stretches_of(
    members: Sequence[Installed],
    rows: Mapping[int, int],
    subjects: dict[tuple[int, AccountNumber], int],
    owner_no: int,
    first: Quarter,
    until: Quarter,
) -> list[UsageStretch]:
    """Return what counts for the accounts and for the microgrid of some meters.

    Args:
        members: The meters of one microgrid.
        rows: The row of each meter.
        subjects: The numbers of (microgrid's number, account or ``MICROGRID``); those of these meters are added.
        owner_no: The microgrid's number.
        first: The month's first quarter.
        until: The quarter after its last.
    """
    found = []
    for meter in members:
        if meter.function is Function.BOUNDARY or meter.id not in rows:
            continue
        spans = [(MICROGRID, *meter.within(first, until)), *meter.held(first, until)]
        for account, start, end in spans:
            if start < end:
                subject = subjects.setdefault((owner_no, account), len(subjects))
                found.append(UsageStretch(row=rows[meter.id], subject=subject, start=start - first, end=end - first))
    return found


def usage_of(
    settled: SettledQuarters, stretches: Sequence[UsageStretch], subjects: int, columns: MonthColumns
) -> MonthUsage:
    """Return the usage of subjects 0 to ``subjects`` - 1.

    Args:
        settled: The settled quarter-hours of the columns.
        stretches: What counts for which subject.
        subjects: How many there are.
        columns: The month, or a part of it.
    """
    counts = np.zeros((4, subjects), np.int64)
    for each in stretches:
        span = each.row, slice(each.start, each.end)
        quality = settled.quality[span][settled.version[span] > 0]
        by_edit = (quality == SettledQuality.ESTIMATED) | (quality == SettledQuality.EDITED)
        lacking = int((quality == SettledQuality.MISSING).sum())
        counts[:, each.subject] += (each.end - each.start, len(quality), lacking, int(by_edit.sum()))
    energies = np.empty((subjects, len(QUANTITIES)), np.int64)
    shape = np.empty((subjects, len(QUANTITIES), CELLS), np.int64)
    peak = peak_at = np.zeros(subjects, np.int64)
    for number, quantity in enumerate(QUANTITIES):
        series = _summed(settled.of(quantity), stretches, subjects)
        energies[:, number] = series.sum(axis=1)
        shape[:, number] = by_cell(series, columns)
        if quantity is Quantity.IMPORTED:
            peak, peak_at = series.max(axis=1), columns.first + series.argmax(axis=1)
    quarters, there, missing, estimated = counts
    return MonthUsage(
        energies=energies,
        peak=peak,
        peak_at=peak_at,
        quarters=quarters,
        settled=there,
        missing=missing,
        estimated=estimated,
        shape=shape,
    )


def _summed(energies: Energies, stretches: Sequence[UsageStretch], subjects: int) -> Energies:
    """Return the sums of the stretches of each subject; a copy of all stretches would take more memory."""
    found = np.zeros((subjects, energies.shape[1]), np.int64)
    for each in stretches:
        found[each.subject, each.start : each.end] += energies[each.row, each.start : each.end]
    return found


def by_cell(series: Energies, columns: MonthColumns) -> Energies:
    """Return the sums of rows of quarter-hours by cell of the load shape, (n, 48)."""
    found = np.zeros((len(series), CELLS), np.int64)
    order = np.argsort(columns.cells, kind="stable")
    present, begins = np.unique(columns.cells[order], return_index=True)
    for row, values in enumerate(series):
        found[row, present] = np.add.reduceat(values[order], begins)
    return found


@dataclass(frozen=True, kw_only=True)
class Totals:
    """The usage of a subject over some months; energies are milliwatt-hours."""

    months: int  # how many of the months have a row
    imported: Annotated[MilliwattHours, Shown("Imported", Written.ENERGY)]  # taken from the town
    exported: Annotated[MilliwattHours, Shown("Exported", Written.ENERGY)]  # given to the town
    shared_in: MilliwattHours  # taken from other places of the microgrid
    shared_out: MilliwattHours  # given to other places of the microgrid
    generated: MilliwattHours | None  # generated by places with a battery; ``None``: no meter tells
    # Used; ``None``: no meter tells. Both are of the months and microgrids of which a meter tells.
    used: Annotated[MilliwattHours | None, Shown("Used", Written.ENERGY)]
    self_sufficiency: Annotated[
        float | None,
        Shown("Self-sufficiency"),
        Field(description="The part of what was used that was not taken from the town; null: not known."),
    ]
    use_known: Annotated[
        float | None,
        Field(
            description="The part of `imported` that was taken by the microgrids, in the months, of which `used`, "
            "`generated` and `self_sufficiency` are; null: nothing was taken."
        ),
    ]
    peak: Annotated[
        MilliwattHours,
        Shown("Highest quarter-hour", Written.ENERGY),
        Field(description="The highest quarter-hour taken from the town."),
    ]
    peak_at: Annotated[Quarter, Field(exclude=True)]  # when it begins
    quarters: Annotated[int, Field(description="Quarter-hours of the meters; the next three count some of them.")]
    settled: int  # of them, settled
    missing: int  # of the settled ones, without some reading
    estimated: int  # of the settled ones, estimated or entered by a person
    generation_known: Annotated[
        float | None, Field(description="The part of the readings of generation that is there; null: no battery.")
    ]
    reduced_s: int  # seconds of reduced demand
    islanded_s: int  # seconds off the town's grid

    @property
    def complete(self) -> float:
        """The part of the meters' quarter-hours that are settled with all readings, 0 to 1."""
        return (self.settled - self.missing) / self.quarters if self.quarters else 0.0


_ADDED = ("imported", "shared_in", "exported", "shared_out", "quarters", "settled", "missing", "estimated", "reduced_s")


def totals_of(rows: Sequence[Mapping[str, Any]]) -> Totals:
    """Return the sum of the months of one subject.

    Args:
        rows: Rows of ``usage_month``, at least one; those of classes and the town also with ``taken_with_use``, what
            the microgrids took whose use is known.
    """
    highest = max(rows, key=lambda row: row["peak"])
    known = [row for row in rows if row["used"] is not None]
    used = sum(row["used"] for row in known)
    taken = sum(row.get("taken_with_use", row["imported"]) for row in known)
    imported = sum(row["imported"] for row in rows)
    wanted = sum(row["wanted"] for row in rows)
    return Totals(
        **{name: sum(row[name] for row in rows) for name in _ADDED},
        months=len({row["month"] for row in rows}),
        generated=sum(row["generated"] for row in known) if known else None,
        used=used if known else None,
        self_sufficiency=max(0.0, 1 - taken / used) if used > 0 else None,
        use_known=taken / imported if imported else None,
        peak=highest["peak"],
        peak_at=highest["peak_at"],
        generation_known=sum(row["slots"] for row in rows) / wanted if wanted else None,
        # An account's microgrids are islanded at their own times.
        islanded_s=sum(row["islanded_s"] for row in rows),
    )


ENERGIES = ("imported", "exported", "shared_in", "shared_out", "generated", "used")

COLUMNS = (
    "scope",
    "name",
    "period",
    *(f"{name}_kwh" for name in ENERGIES),
    "self_sufficiency_percent",
    "use_known_percent",
    "peak_kw",
    "peak_at",
    "complete_percent",
    "estimated_percent",
    "generation_known_percent",
    "reduced_hours",
    "islanded_hours",
    "months",
    "provisional",
)
"""Columns of a row in a file; an empty cell: no meter tells."""


def cells_of(
    scope: str, name: str, period: str, it: Totals, zone: ZoneInfo, *, is_provisional: bool
) -> Mapping[str, str]:
    """Return a row's cells, as text, by column."""
    found = {"scope": scope, "name": name, "period": period}
    found |= {f"{each}_kwh": kilowatt_hours(getattr(it, each)) for each in ENERGIES}
    return found | {
        "self_sufficiency_percent": _percent(it.self_sufficiency),
        "use_known_percent": _percent(it.use_known),
        "peak_kw": f"{it.peak * 4 / 1e6:.3f}",
        "peak_at": datetime.fromtimestamp(it.peak_at * QUARTER_S, zone).isoformat(timespec="minutes"),
        "complete_percent": _percent(it.complete),
        "estimated_percent": _percent(it.estimated / it.quarters if it.quarters else 0.0),
        "generation_known_percent": _percent(it.generation_known),
        "reduced_hours": f"{it.reduced_s / 3600:.1f}",
        "islanded_hours": f"{it.islanded_s / 3600:.1f}",
        "months": str(it.months),
        "provisional": "yes" if is_provisional else "no",
    }


def kilowatt_hours(energy: MilliwattHours | None) -> str:
    """Return an energy exactly; empty: not known."""
    if energy is None:
        return ""
    sign, rest = "-" if energy < 0 else "", abs(energy)
    return f"{sign}{rest // 1_000_000}.{rest % 1_000_000:06d}"


def _percent(part: float | None) -> str:
    return "" if part is None else f"{100 * part:.2f}"


def projected_words(low: int | None, middle: int, high: int | None, *, is_money: bool) -> str:
    """Return a projection of cents, or of milliwatt-hours, in words."""
    scale, unit = (100, "dollars") if is_money else (1_000_000, "kWh")
    if low is None or high is None:
        return f"{middle / scale:,.0f} {unit}; there is too little past for a band"
    return f"{middle / scale:,.0f} {unit}, in 8 of 10 months between {low / scale:,.0f} and {high / scale:,.0f}"


def tested_words(count: int, held: float) -> str:
    """Return in words how the band of 80 % has done on the service's own past."""
    if not count:
        return "The band could not be tested on this town's own past yet; docs/statistics.md has its test."
    part = f"{100 * held:.0f} %"
    return f"Of {count:,} months of this town's own past, each projected from earlier ones alone, the band held {part}."
