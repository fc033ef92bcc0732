"""The columns of an archive's file: those of ``compacted``, sorted so that a meter's day is in few row groups."""

from commonwatt.model.units import QUARTER_S, Quarter
from commonwatt.model.words import moment
from utility.exports.columns import Column, Kind, Table

WINDOW = 24  # quarters that are sorted together: of each, a row group has the blocks of many meters
ROW_GROUP = 1 << 14  # most rows of a row group

_READING = ", milliwatt-hours; none: there is no reading, or for `total` it is a level"

BLOCKS = Table(
    name="blocks",
    about="A row for each meter, record type and quarter-hour of a month; numbers are those of the database's tables.",
    columns=(
        Column("quarter", Kind.KEY, "The quarter-hour, epoch seconds // 900."),
        Column("meter_no", Kind.KEY, "The meter's number."),
        Column("record_type", Kind.COUNT, "The record type's number."),
        Column("received_minute", Kind.INTEGER, "When its last part came, epoch seconds // 60."),
        Column("sender_no", Kind.COUNT, "The number of the controller that sent it; 0: several."),
        Column("owner_no", Kind.COUNT, "The number of the microgrid's controller."),
        Column("exact", Kind.COUNT, "Slots with an exact reading."),
        Column("averaged", Kind.COUNT, "Slots with an averaged reading."),
        Column("conflicts", Kind.COUNT, "Slots with more than one reading."),
        *(
            Column(name, Kind.INTEGER, f"{words}{_READING}.", nullable=True)
            for name, words in (
                ("total", "Sum of the readings"),
                ("first_reading", "First reading"),
                ("last_reading", "Last reading"),
                ("min_reading", "Least reading"),
                ("max_reading", "Greatest reading"),
            )
        ),
        Column("payload", Kind.BYTES, "The readings, packed, with their checksum."),
    ),
    order=("meter_no", "record_type", "quarter"),
)


def month_text(first: Quarter) -> str:
    """Return a month's name, such as ``2026-11``, from its first quarter."""
    return moment(first * QUARTER_S)[:7]
