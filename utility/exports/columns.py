"""The columns of every export: name, type, unit, meaning. Files, their metadata and docs/exports.md follow them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

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


class Column(NamedTuple):
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


_METER = Column("meter_id", Kind.ID, "The meter's id.")
_MICROGRID = Column("microgrid", Kind.TEXT, "The meter's microgrid.")
_TYPE = Column(
    "record_type",
    Kind.TEXT,
    "`generation`, `through` (energy in the interval), `stored`, `register` (levels at the end of a slot).",
)

SLOTS_TABLE = Table(
    name="readings-15s",
    about="A row for each 15-second slot with a reading; a slot without a row is missing.",
    columns=(
        _METER,
        _MICROGRID,
        _TYPE,
        Column("start_utc", Kind.TIME, "The slot's first second."),
        Column("energy_milliwatt_hours", Kind.INTEGER, "Energy in the slot; none for levels.", nullable=True),
        Column(
            "level_milliwatt_hours",
            Kind.INTEGER,
            "Level at the slot's end, of `stored` and `register`; never sum it.",
            nullable=True,
        ),
        Column(
            "quality",
            Kind.TEXT,
            "`exact`, or `averaged`: the mean of ten slots, which may be wrong by half a milliwatt-hour.",
        ),
        Column("conflict", Kind.BOOLEAN, "Controllers sent different values for the slot; the smallest is used."),
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
        Column("start_utc", Kind.TIME, "The interval's first second."),
        Column(
            "energy_milliwatt_hours",
            Kind.INTEGER,
            "Sum over the slots that have a reading; none for levels. See `missing_slots`.",
            nullable=True,
        ),
        Column(
            "last_level_milliwatt_hours",
            Kind.INTEGER,
            "Level at the end of the last slot that has a reading; none for energies.",
            nullable=True,
        ),
        Column("min_level_milliwatt_hours", Kind.INTEGER, "Lowest level; none for energies.", nullable=True),
        Column("max_level_milliwatt_hours", Kind.INTEGER, "Highest level; none for energies.", nullable=True),
        Column("exact_slots", Kind.COUNT, "Slots of 15 s whose reading is exact."),
        Column("averaged_slots", Kind.COUNT, "Slots whose reading is an average of ten slots."),
        Column(
            "missing_slots",
            Kind.COUNT,
            "Slots of the interval without a reading; a local day has 5,760 slots, 5,520 or 6,000 when the "
            "clock changes.",
        ),
        Column("conflict_slots", Kind.COUNT, "Slots for which controllers sent different values."),
    ),
    order=("meter_id", "record_type", "start_utc"),
)

EVENTS_TABLE = Table(
    name="events",
    about="A row for each change of a meter's state.",
    columns=(
        _METER,
        _MICROGRID,
        Column("time_utc", Kind.TIME, "When the state changed, by the meter's clock."),
        Column(
            "log_generation",
            Kind.INTEGER,
            "Generation of the meter's event log; a meter that loses its memory begins a new one.",
        ),
        Column("event_id", Kind.ID, "The event's id in that log."),
        Column("previous_state_bits", Kind.COUNT, "State before, as bits (see protocol.md)."),
        Column("new_state_bits", Kind.COUNT, "State after, as bits."),
        Column("new_state", Kind.TEXT, "State after: the names of the bits that are set, with spaces."),
        Column("sender", Kind.TEXT, "The controller that sent it to the utility."),
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
        Column("start_utc", Kind.TIME, "The interval's first second."),
        Column("imported_milliwatt_hours", Kind.INTEGER, f"Taken from the town; {_SETTLED_QUANTITY}."),
        Column("shared_in_milliwatt_hours", Kind.INTEGER, "Taken from other places of the microgrid."),
        Column("exported_milliwatt_hours", Kind.INTEGER, "Given to the town."),
        Column("shared_out_milliwatt_hours", Kind.INTEGER, "Given to other places of the microgrid."),
        Column(
            "quality",
            Kind.TEXT,
            "The worst of the interval's quarter-hours: `measured`, `averaged`, `edited`, `estimated`, `missing`.",
        ),
        Column("provisional", Kind.BOOLEAN, "A reading of the interval may still come."),
        Column("version", Kind.COUNT, "Version of the settled day; of several days the highest."),
        Column("settled_quarters", Kind.COUNT, "Settled quarter-hours that the interval's sums are of."),
    ),
    order=("meter_id", "start_utc"),
)

BILLS_TABLE = Table(
    name="bills",
    about="A row for each line of each bill of an issued run. The lines of a bill sum to its total.",
    columns=(
        Column("account", Kind.COUNT, "The account's number."),
        Column("month", Kind.TEXT, "The local month, such as 2026-11."),
        Column("start_utc", Kind.TIME, "First second billed: the month's, or the move-in's."),
        Column("end_utc", Kind.TIME, "The second after the last one billed."),
        Column("policy", Kind.TEXT, "The policy's name."),
        Column("tariff", Kind.TEXT, "Name and version of the tariff; of several, in order."),
        Column("line", Kind.COUNT, "The line's number on the bill, from 1."),
        Column("kind", Kind.TEXT, "`base`, `import`, `credit`, `lapsed`, `tax`, `correction`, `entry`, `information`."),
        Column("text", Kind.TEXT, "The line as printed."),
        Column("period", Kind.TEXT, "The tariff's period of time of use; empty: none."),
        Column(
            "energy_milliwatt_hours",
            Kind.INTEGER,
            "Energy of the line; none: the line is not for energy.",
            nullable=True,
        ),
        Column(
            "rate_dollars_per_kilowatt_hour",
            Kind.TEXT,
            "The rate as decimal text; empty: none, or it changes by the hour.",
        ),
        Column("amount_dollars", Kind.MONEY, "Amount of the line; a credit is negative."),
        Column("total_dollars", Kind.MONEY, "The bill's total, on each of its lines."),
        Column("reason", Kind.TEXT, "Why a correction or an entry is there, or what a tax is of."),
        Column("corrected_month", Kind.TEXT, "The month that a correction is of; empty: none."),
        Column("provisional_quarters", Kind.COUNT, "Quarter-hours that may still change."),
        Column("estimated_quarters", Kind.COUNT, "Quarter-hours with estimates."),
        Column("missing_quarters", Kind.COUNT, "Quarter-hours that lack readings."),
    ),
    order=("account", "month", "line"),
)

TABLES = (SLOTS_TABLE, SUMS_TABLE, SETTLED_TABLE, EVENTS_TABLE, BILLS_TABLE)
"""Every kind of rows, for the data dictionary."""
