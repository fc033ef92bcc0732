"""The columns of every export: name, type, unit, meaning. Files, their metadata and docs/exports.md follow them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from utility.database.numbers import Column as Nullable


class Kind(StrEnum):
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


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of an export."""

    name: str  # its name, with the unit
    kind: Kind  # the type of its values
    meaning: str  # for docs and for the metadata of a Parquet file
    nullable: bool = False  # whether a row may have no value


@dataclass(frozen=True, kw_only=True)
class Table:
    """A kind of rows."""

    name: str  # its name, such as ``readings``; files and metadata begin with it
    about: str  # what a row is, in a sentence or two
    columns: tuple[Column, ...]  # its columns, in order
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


_METER = Column(name="meter_id", kind=Kind.ID, meaning="The meter's id.")
_MICROGRID = Column(name="microgrid", kind=Kind.TEXT, meaning="The meter's microgrid.")
_TYPE = Column(
    name="record_type",
    kind=Kind.TEXT,
    meaning="`generation`, `through` (energy in the interval), `stored`, `register` (levels at the end of a slot).",
)

SLOTS_TABLE = Table(
    name="readings-15s",
    about="A row for each 15-second slot with a reading; a slot without a row is missing.",
    columns=(
        _METER,
        _MICROGRID,
        _TYPE,
        Column(name="start_utc", kind=Kind.TIME, meaning="The slot's first second."),
        Column(
            name="energy_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Energy in the slot; none for levels.",
            nullable=True,
        ),
        Column(
            name="level_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Level at the slot's end, of `stored` and `register`; never sum it.",
            nullable=True,
        ),
        Column(
            name="quality",
            kind=Kind.TEXT,
            meaning="`exact`, or `averaged`: the mean of ten slots, which may be wrong by half a milliwatt-hour.",
        ),
        Column(
            name="conflict",
            kind=Kind.BOOLEAN,
            meaning="Controllers sent different values for the slot; the smallest is used.",
        ),
    ),
    order=("meter_id", "record_type", "start_utc"),
)

SUMS_TABLE = Table(
    name="readings",
    about="A row for each interval of 15 min, 1 h or a local day with at least one reading; an interval without a row "
    "has none.",
    columns=(
        _METER,
        _MICROGRID,
        _TYPE,
        Column(name="start_utc", kind=Kind.TIME, meaning="The interval's first second."),
        Column(
            name="energy_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Sum over the slots that have a reading; none for levels. See `missing_slots`.",
            nullable=True,
        ),
        Column(
            name="last_level_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Level at the end of the last slot that has a reading; none for energies.",
            nullable=True,
        ),
        Column(
            name="min_level_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Lowest level; none for energies.",
            nullable=True,
        ),
        Column(
            name="max_level_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Highest level; none for energies.",
            nullable=True,
        ),
        Column(name="exact_slots", kind=Kind.COUNT, meaning="Slots of 15 s whose reading is exact."),
        Column(name="averaged_slots", kind=Kind.COUNT, meaning="Slots whose reading is an average of ten slots."),
        Column(
            name="missing_slots",
            kind=Kind.COUNT,
            meaning="Slots of the interval without a reading; a local day has 5,760 slots, 5,520 or 6,000 when the "
            "clock changes.",
        ),
        Column(name="conflict_slots", kind=Kind.COUNT, meaning="Slots for which controllers sent different values."),
    ),
    order=("meter_id", "record_type", "start_utc"),
)

EVENTS_TABLE = Table(
    name="events",
    about="A row for each change of a meter's state.",
    columns=(
        _METER,
        _MICROGRID,
        Column(name="time_utc", kind=Kind.TIME, meaning="When the state changed, by the meter's clock."),
        Column(
            name="log_generation",
            kind=Kind.INTEGER,
            meaning="Generation of the meter's event log; a meter that loses its memory begins a new one.",
        ),
        Column(name="event_id", kind=Kind.ID, meaning="The event's id in that log."),
        Column(name="previous_state_bits", kind=Kind.COUNT, meaning="State before, as bits (see protocol.md)."),
        Column(name="new_state_bits", kind=Kind.COUNT, meaning="State after, as bits."),
        Column(
            name="new_state", kind=Kind.TEXT, meaning="State after: the names of the bits that are set, with spaces."
        ),
        Column(name="sender", kind=Kind.TEXT, meaning="The controller that sent it to the utility."),
    ),
    order=("meter_id", "time_utc", "log_generation", "event_id"),
)

_SETTLED_QUANTITY = "milliwatt-hours, never negative"

SETTLED_TABLE = Table(
    name="settled",
    about="A row for each meter and settled interval: 15 min, 1 h or a local day. An interval that is not settled yet "
    "has no row.",
    columns=(
        _METER,
        _MICROGRID,
        Column(name="start_utc", kind=Kind.TIME, meaning="The interval's first second."),
        Column(
            name="imported_milliwatt_hours", kind=Kind.INTEGER, meaning=f"Taken from the town; {_SETTLED_QUANTITY}."
        ),
        Column(
            name="shared_in_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Taken from other places of the microgrid.",
        ),
        Column(name="exported_milliwatt_hours", kind=Kind.INTEGER, meaning="Given to the town."),
        Column(name="shared_out_milliwatt_hours", kind=Kind.INTEGER, meaning="Given to other places of the microgrid."),
        Column(
            name="quality",
            kind=Kind.TEXT,
            meaning="The worst of the interval's quarter-hours: `measured`, `averaged`, `edited`, `estimated`, "
            "`missing`.",
        ),
        Column(name="provisional", kind=Kind.BOOLEAN, meaning="A reading of the interval may still come."),
        Column(name="version", kind=Kind.COUNT, meaning="Version of the settled day; of several days the highest."),
        Column(
            name="settled_quarters", kind=Kind.COUNT, meaning="Settled quarter-hours that the interval's sums are of."
        ),
    ),
    order=("meter_id", "start_utc"),
)

BILLS_TABLE = Table(
    name="bills",
    about="A row for each line of each bill of an issued run. The lines of a bill sum to its total.",
    columns=(
        Column(name="account", kind=Kind.COUNT, meaning="The account's number."),
        Column(name="month", kind=Kind.TEXT, meaning="The local month, such as 2026-11."),
        Column(name="start_utc", kind=Kind.TIME, meaning="First second billed: the month's, or the move-in's."),
        Column(name="end_utc", kind=Kind.TIME, meaning="The second after the last one billed."),
        Column(name="policy", kind=Kind.TEXT, meaning="The policy's name."),
        Column(name="tariff", kind=Kind.TEXT, meaning="Name and version of the tariff; of several, in order."),
        Column(name="line", kind=Kind.COUNT, meaning="The line's number on the bill, from 1."),
        Column(
            name="kind",
            kind=Kind.TEXT,
            meaning="`base`, `import`, `credit`, `lapsed`, `correction`, `information`.",
        ),
        Column(name="text", kind=Kind.TEXT, meaning="The line as printed."),
        Column(name="period", kind=Kind.TEXT, meaning="The tariff's period of time of use; empty: none."),
        Column(
            name="energy_milliwatt_hours",
            kind=Kind.INTEGER,
            meaning="Energy of the line; none: the line is not for energy.",
            nullable=True,
        ),
        Column(
            name="rate_dollars_per_kilowatt_hour",
            kind=Kind.TEXT,
            meaning="The rate as decimal text; empty: none, or it changes by the hour.",
        ),
        Column(name="amount_dollars", kind=Kind.MONEY, meaning="Amount of the line; a credit is negative."),
        Column(name="total_dollars", kind=Kind.MONEY, meaning="The bill's total, on each of its lines."),
        Column(name="reason", kind=Kind.TEXT, meaning="Why a correction is there; empty: the line is none."),
        Column(name="corrected_month", kind=Kind.TEXT, meaning="The month that a correction is of; empty: none."),
        Column(name="provisional_quarters", kind=Kind.COUNT, meaning="Quarter-hours that may still change."),
        Column(name="estimated_quarters", kind=Kind.COUNT, meaning="Quarter-hours with estimates."),
        Column(
            name="missing_quarters",
            kind=Kind.COUNT,
            meaning="Quarter-hours that lack readings.",
        ),
    ),
    order=("account", "month", "line"),
)

TABLES = (SLOTS_TABLE, SUMS_TABLE, SETTLED_TABLE, EVENTS_TABLE, BILLS_TABLE)
"""Every kind of rows, for the data dictionary."""
