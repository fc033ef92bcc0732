"""Tables of takeover: who may manage each microgrid, who does since when, and which stores lack a slot."""

from utility.database.migrations.making import make_index, make_table

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_CONTROLLERS = {"microgrid": "controller.id", "controller": "controller.id"}


def upgrade() -> None:
    """Make the tables."""
    make_table("may_manage", "microgrid controller", "microgrid s16, controller s16, place int?", refers=_CONTROLLERS)
    make_table(
        "granted",
        "microgrid",
        "microgrid s16, adopted_counter big, adopted_rank int, seen_counter big, seen_rank int, top big, "
        "pending_counter big?, pending_rank int?",
        refers={"microgrid": "controller.id"},
    )
    make_table(
        "handover",
        "no",
        "no row, microgrid s16, counter big, rank int, controller s16, before s16, since big, how s16, why text",
        refers=_CONTROLLERS,
    )
    make_index("ix_handover_microgrid_no", "handover", "microgrid no")
    make_index("ix_handover_since", "handover", "since")
    make_table(
        "absent_at",
        "meter_no record_type quarter controller",
        "meter_no int, record_type small, quarter int, controller s16, mask big, why s16",
        refers={"meter_no": "meter.no", "controller": "controller.id"},
    )
