"""The senders of conflicting values, for conflicts between several controllers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; the senders of existing conflicts are unknown."""
    op.create_table(
        "conflict_sender",
        sa.Column("quarter", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("meter_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("record_type", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("sender_no", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint(
            "quarter", "meter_no", "record_type", "slot", "value", "sender_no", name=op.f("pk_conflict_sender")
        ),
    )
    op.execute("UPDATE compacted SET sender_no = 0 WHERE conflicts > 0")
