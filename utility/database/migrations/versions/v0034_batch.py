"""The table of batches."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def _tune() -> None:
    """Keep the end of the file, which is soon needed again: to cut it off would keep those waiting who append."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE batch SET (vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05)")


def upgrade() -> None:
    """Make the table."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    small = ("blocks", "sender_no", "owner_no")
    names = ("first_quarter", "last_quarter", "low_meter", "high_meter", "received_minute", *small)
    op.create_table(
        "batch",
        sa.Column("id", number, autoincrement=True, nullable=False),
        *(sa.Column(name, sa.SmallInteger() if name in small else sa.Integer(), nullable=False) for name in names),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_batch"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_batch_key", "batch", ["first_quarter", "low_meter", "high_meter", "last_quarter"])
    _tune()
