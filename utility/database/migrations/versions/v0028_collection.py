"""Tables of collection: the collectors of microgrids, and the order of brokers of each meter."""

from utility.database.migrations.making import make_index, make_table

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    make_table(
        "collector",
        "microgrid controller",
        "microgrid s16, controller s16, place int?",
        refers={"microgrid": "controller.id", "controller": "controller.id"},
    )
    make_table(
        "broker_order",
        "no",
        "no row, meter_no int, brokers text, since big, pinned bool, person s64, why text",
        refers={"meter_no": "meter.no"},
    )
    make_index("ix_broker_order_meter_no_no", "broker_order", "meter_no no")
    make_index("ix_broker_order_since", "broker_order", "since")
