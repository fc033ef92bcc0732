"""Tables of collection: the collectors of microgrids, and the order of brokers of each meter."""

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"

_BIG, _INT, _NAME = sa.BigInteger(), sa.Integer(), sa.String(16)
_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "collector",
        sa.Column("microgrid", _NAME, nullable=False),
        sa.Column("controller", _NAME, nullable=False),
        sa.Column("place", _INT, nullable=True),
        sa.ForeignKeyConstraint(["microgrid"], ["controller.id"], name=op.f("fk_collector_microgrid")),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_collector_controller")),
        sa.PrimaryKeyConstraint("microgrid", "controller", name=op.f("pk_collector")),
    )
    op.create_table(
        "broker_order",
        sa.Column("no", _ROW, autoincrement=True, nullable=False),
        sa.Column("meter_no", _INT, nullable=False),
        sa.Column("brokers", sa.Text(), nullable=False),
        sa.Column("since", _BIG, nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_broker_order_meter_no")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_broker_order")),
    )
    op.create_index("ix_broker_order_meter_no_no", "broker_order", ["meter_no", "no"])
    op.create_index("ix_broker_order_since", "broker_order", ["since"])
