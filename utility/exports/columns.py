"""The columns of every export: name, type, unit, meaning. Files, their metadata and docs/exports.md follow them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from utility.database.numbers import Column as Nullable


class ColumnKind(StrEnum):
    """The type of a column's values."""

    ID = "unsigned 64-bit integer"  # in JSON decimal text
    INTEGER = "64-bit integer"
    COUNT = "32-bit integer"
    TEXT = "text"
    TIME = "timestamp, UTC"
    DAY = "date"
    BOOLEAN = "boolean"
    MONEY = "decimal, 2 places"
    KEY = "64-bit integer, with its bounds in each row group"
    BYTES = "bytes"  # stored as they are: a flipped bit damages one value


class ExportColumn(NamedTuple):
    """A column of an export."""

    name: str  # its name, with the unit
    kind: ColumnKind  # the type of its values
    meaning: str  # for docs and for the metadata of a Parquet file
    nullable: bool = False  # whether a row may have no value


@dataclass(frozen=True, kw_only=True)
class ExportTable:
    """A kind of rows."""

    name: str  # its name, such as ``readings``; files and metadata begin with it
    about: str  # what a row is, in a sentence or two
    columns: tuple[ExportColumn, ...]  # its columns, in order
    order: tuple[str, ...]  # the names of the columns that the rows are sorted by within a row group


@dataclass(frozen=True, eq=False)
class Coded:
    """Text values, as numbers of labels."""

    codes: npt.NDArray[np.int32]  # int32 (n,): the label's index of each row
    labels: Sequence[str]  # the labels


# Values of a column: an array, an array with gaps, coded text, or plain values. Times are epoch seconds.
Values: TypeAlias = npt.NDArray[np.generic] | Nullable | Coded | Sequence[object]
Rows: TypeAlias = Mapping[str, Values]  # rows of a table, by column


def count_of(rows: Rows) -> int:
    """Return how many rows there are."""
    first = next(iter(rows.values()))
    if isinstance(first, Nullable):
        return len(first.values)
    return len(first.codes if isinstance(first, Coded) else first)


_METER = ExportColumn("meter_id", ColumnKind.ID, "The meter's id.")
_MICROGRID = ExportColumn("microgrid", ColumnKind.TEXT, "The meter's microgrid.")
_TYPE = ExportColumn(
    "record_type",
    ColumnKind.TEXT,
    "`generation`, `through` (energy in the interval), `stored`, `register` (levels at the end of a slot).",
)

SLOTS_TABLE = ExportTable(
    name="readings-15s",
    about="A row for each 15-second slot with a reading; a slot without a row is missing.",
    columns=(
        _METER,
        _MICROGRID,
        _TYPE,
        ExportColumn("start_utc", ColumnKind.TIME, "The slot's first second."),
        ExportColumn(
            "energy_milliwatt_hours", ColumnKind.INTEGER, "Energy in the slot; none for levels.", nullable=True
        ),
        ExportColumn(
            "level_milliwatt_hours",
            ColumnKind.INTEGER,
            "Level at the slot's end, of `stored` and `register`; never sum it.",
            nullable=True,
        ),
        ExportColumn(
            "quality",
            ColumnKind.TEXT,
            "`exact`, or `averaged`: the mean of ten slots, which may be wrong by half a milliwatt-hour.",
        ),
        ExportColumn(
            "conflict", ColumnKind.BOOLEAN, "Controllers sent different values for the slot; the smallest is used."
        ),
    ),
    order=("meter_id", "record_type", "start_utc"),
)

SUMS_TABLE = ExportTable(
    name="readings",
    about="A row for each interval of 15 min, 1 h or a local day with at least one reading; an interval without a row "
    "has none.",
    columns=(
        _METER,
        _MICROGRID,
        _TYPE,
        ExportColumn("start_utc", ColumnKind.TIME, "The interval's first second."),
        ExportColumn(
            "energy_milliwatt_hours",
            ColumnKind.INTEGER,
            "Sum over the slots that have a reading; none for levels. See `missing_slots`.",
            nullable=True,
        ),
        ExportColumn(
            "last_level_milliwatt_hours",
            ColumnKind.INTEGER,
            "Level at the end of the last slot that has a reading; none for energies.",
            nullable=True,
        ),
        ExportColumn(
            "min_level_milliwatt_hours", ColumnKind.INTEGER, "Lowest level; none for energies.", nullable=True
        ),
        ExportColumn(
            "max_level_milliwatt_hours", ColumnKind.INTEGER, "Highest level; none for energies.", nullable=True
        ),
        ExportColumn("exact_slots", ColumnKind.COUNT, "Slots of 15 s whose reading is exact."),
        ExportColumn("averaged_slots", ColumnKind.COUNT, "Slots whose reading is an average of ten slots."),
        ExportColumn(
            "missing_slots",
            ColumnKind.COUNT,
            "Slots of the interval without a reading; a local day has 5,760 slots, 5,520 or 6,000 when the "
            "clock changes.",
        ),
        ExportColumn("conflict_slots", ColumnKind.COUNT, "Slots for which controllers sent different values."),
    ),
    order=("meter_id", "record_type", "start_utc"),
)

EVENTS_TABLE = ExportTable(
    name="events",
    about="A row for each change of a meter's state.",
    columns=(
        _METER,
        _MICROGRID,
        ExportColumn("time_utc", ColumnKind.TIME, "When the state changed, by the meter's clock."),
        ExportColumn(
            "log_generation",
            ColumnKind.INTEGER,
            "Generation of the meter's event log; a meter that loses its memory begins a new one.",
        ),
        ExportColumn("event_id", ColumnKind.ID, "The event's id in that log."),
        ExportColumn("previous_state_bits", ColumnKind.COUNT, "State before, as bits (see protocol.md)."),
        ExportColumn("new_state_bits", ColumnKind.COUNT, "State after, as bits."),
        ExportColumn("new_state", ColumnKind.TEXT, "State after: the names of the bits that are set, with spaces."),
        ExportColumn("sender", ColumnKind.TEXT, "The controller that sent it to the utility."),
    ),
    order=("meter_id", "time_utc", "log_generation", "event_id"),
)

_SETTLED_QUANTITY = "milliwatt-hours, never negative"

SETTLED_TABLE = ExportTable(
    name="settled",
    about="A row for each meter and settled interval: 15 min, 1 h or a local day. An interval that is not settled yet "
    "has no row.",
    columns=(
        _METER,
        _MICROGRID,
        ExportColumn("start_utc", ColumnKind.TIME, "The interval's first second."),
        ExportColumn("imported_milliwatt_hours", ColumnKind.INTEGER, f"Taken from the town; {_SETTLED_QUANTITY}."),
        ExportColumn("shared_in_milliwatt_hours", ColumnKind.INTEGER, "Taken from other places of the microgrid."),
        ExportColumn("exported_milliwatt_hours", ColumnKind.INTEGER, "Given to the town."),
        ExportColumn("shared_out_milliwatt_hours", ColumnKind.INTEGER, "Given to other places of the microgrid."),
        ExportColumn(
            "quality",
            ColumnKind.TEXT,
            "The worst of the interval's quarter-hours: `measured`, `averaged`, `edited`, `estimated`, `missing`.",
        ),
        ExportColumn("provisional", ColumnKind.BOOLEAN, "A reading of the interval may still come."),
        ExportColumn("version", ColumnKind.COUNT, "Version of the settled day; of several days the highest."),
        ExportColumn("settled_quarters", ColumnKind.COUNT, "Settled quarter-hours that the interval's sums are of."),
    ),
    order=("meter_id", "start_utc"),
)

BILLS_TABLE = ExportTable(
    name="bills",
    about="A row for each line of each bill of an issued run. The lines of a bill sum to its total.",
    columns=(
        ExportColumn("account", ColumnKind.COUNT, "The account's number."),
        ExportColumn("month", ColumnKind.TEXT, "The local month, such as 2026-11."),
        ExportColumn("start_utc", ColumnKind.TIME, "First second billed: the month's, or the move-in's."),
        ExportColumn("end_utc", ColumnKind.TIME, "The second after the last one billed."),
        ExportColumn("policy", ColumnKind.TEXT, "The policy's name."),
        ExportColumn("tariff", ColumnKind.TEXT, "Name and version of the tariff; of several, in order."),
        ExportColumn("line", ColumnKind.COUNT, "The line's number on the bill, from 1."),
        ExportColumn(
            "kind",
            ColumnKind.TEXT,
            "`base`, `import`, `credit`, `lapsed`, `tax`, `correction`, `entry`, `information`.",
        ),
        ExportColumn("text", ColumnKind.TEXT, "The line as printed."),
        ExportColumn("period", ColumnKind.TEXT, "The tariff's period of time of use; empty: none."),
        ExportColumn(
            "energy_milliwatt_hours",
            ColumnKind.INTEGER,
            "Energy of the line; none: the line is not for energy.",
            nullable=True,
        ),
        ExportColumn(
            "rate_dollars_per_kilowatt_hour",
            ColumnKind.TEXT,
            "The rate as decimal text; empty: none, or it changes by the hour.",
        ),
        ExportColumn("amount_dollars", ColumnKind.MONEY, "Amount of the line; a credit is negative."),
        ExportColumn("total_dollars", ColumnKind.MONEY, "The bill's total, on each of its lines."),
        ExportColumn("reason", ColumnKind.TEXT, "Why a correction or an entry is there, or what a tax is of."),
        ExportColumn("corrected_month", ColumnKind.TEXT, "The month that a correction is of; empty: none."),
        ExportColumn("provisional_quarters", ColumnKind.COUNT, "Quarter-hours that may still change."),
        ExportColumn("estimated_quarters", ColumnKind.COUNT, "Quarter-hours with estimates."),
        ExportColumn("missing_quarters", ColumnKind.COUNT, "Quarter-hours that lack readings."),
    ),
    order=("account", "month", "line"),
)

TABLES = (SLOTS_TABLE, SUMS_TABLE, SETTLED_TABLE, EVENTS_TABLE, BILLS_TABLE)
"""Every kind of rows, for the data dictionary."""
