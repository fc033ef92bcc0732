"""What controllers relayed by day, and the weights that they were told."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "relayed_day",
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("day", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_relayed_day_controller")),
        sa.PrimaryKeyConstraint("controller", "day", name=op.f("pk_relayed_day")),
    )
    op.create_table(
        "weights_told",
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("since", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("weights", sa.Text(), nullable=False),
        sa.Column("command", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_weights_told_controller")),
        sa.PrimaryKeyConstraint("controller", "since", name=op.f("pk_weights_told")),
    )
