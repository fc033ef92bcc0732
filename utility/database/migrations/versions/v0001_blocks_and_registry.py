"""Blocks, events, dead letters, gaps, commands and the registry."""

from alembic import op

from utility.database.migrations.making import make_index, make_table

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BLOCK_VIEW = """
CREATE VIEW block AS
SELECT m.label AS meter, m.microgrid AS microgrid, p.record_type AS record_type, p.quarter * 900 AS start,
       p.exact AS exact, p.averaged AS averaged, 60 - p.exact - p.averaged AS missing, p.conflicts AS conflicts,
       p.total AS total, p.first_reading AS first_reading, p.last_reading AS last_reading,
       p.min_reading AS min_reading, p.max_reading AS max_reading
FROM part AS p JOIN meter AS m ON m.no = p.meter_no
WHERE p.compacted
"""
"""For people with SQL: the blocks of finished quarters, each once. ``start`` is epoch seconds."""


_CONTROLLER = {"controller": "controller.id"}
_METER = {"meter_no": "meter.no"}


def upgrade() -> None:
    """Make the first schema."""
    make_table(
        "controller",
        "id",
        "id s16, number int, kind s16, address s45",
        unique={"uq_controller_number": "number"},
    )
    make_table(
        "letter",
        "no",
        "no row, meter big, log small, generation big, record_id big, reason small, crc big, time big, sender s16, "
        "content bytes, state s8=, decided big?, decided_by s64?, why s200?",
        unique={"uq_letter": "meter log generation record_id reason crc"},
    )
    make_index("ix_letter_state", "letter", "state", only="state <> ''")
    make_table("period", "job", "job s32, last_done big")
    make_table("setting", "key", "key s32, value text")
    make_table(
        "command",
        "id",
        "id s64, controller s16, message text, created big, until big, state s16, outcome text?",
        refers=_CONTROLLER,
    )
    make_index("ix_command_state", "command", "state")
    make_table("gateway_seen", "controller", "controller s16, time big, heartbeat text", refers=_CONTROLLER)
    make_table(
        "meter",
        "no",
        "no number, id big, label s20, microgrid s16, address s45, location s200, function s16, direction s16, "
        "account int, record_types s32, service_amps int, battery_capacity big?, minimum_percent int?, push bool, "
        "crc big",
        refers={"microgrid": "controller.id"},
        unique={"uq_meter_id": "id", "uq_meter_label": "label"},
    )
    make_index("ix_meter_microgrid", "meter", "microgrid")
    make_table("declared_minimum", "meter_no", "meter_no int, percent int, said big", refers=_METER)
    make_table(
        "tally",
        "controller",
        "controller s16, batches big, blocks big, slots big, events big, letters big, held big, event_conflicts big, "
        "last_batch big",
        refers=_CONTROLLER,
    )
    make_table(
        "event",
        "meter_no generation record_id",
        "meter_no int, generation big, record_id big, previous_state int, new_state int, time big, sender s16, "
        "owner s16, crc big",
        refers=_METER,
    )
    make_index("ix_event_meter_no_time", "event", "meter_no time")
    make_table(
        "gap",
        "meter_no record_type quarter",
        "meter_no int, record_type small, quarter int, mask big, absent big, asked int, next_time big, is_open bool",
        refers=_METER,
    )
    make_index("ix_gap_is_open_next_time", "gap", "is_open next_time")
    make_table(
        "held",
        "meter_no record_type quarter letter_no",
        "meter_no int, record_type small, quarter int, letter_no row, mask big",
        refers={"letter_no": "letter.no", **_METER},
    )
    make_table(
        "part",
        "id",
        "id row, meter_no int, record_type small, quarter int, sender s16, owner s16, compacted bool, exact small, "
        "averaged small, conflicts small, total big?, first_reading big?, last_reading big?, min_reading big?, "
        "max_reading big?, payload bytes, received big",
        refers=_METER,
        never_again=True,
    )
    make_index("ix_part_conflicts", "part", "owner", only="conflicts > 0")
    make_index("ix_part_fresh", "part", "quarter meter_no record_type", only="NOT compacted")
    make_index("ix_part_key", "part", "meter_no record_type quarter")
    make_table(
        "series",
        "meter_no record_type",
        "meter_no int, record_type small, first_quarter int, scanned_from int?, scanned_until int?",
        refers=_METER,
    )
    op.execute(BLOCK_VIEW)
