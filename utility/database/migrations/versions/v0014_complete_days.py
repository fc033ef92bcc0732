"""Counts of each microgrid's day, so that the completeness of a month is a short sum."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_COUNTS = ("exact", "averaged", "quarantined", "refused", "off", "absent", "missing", "computed")


def upgrade() -> None:
    """Add the table; the job counts the days that exist."""
    op.create_table(
        "complete_day",
        sa.Column("day", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("owner_no", sa.SmallInteger(), primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False, server_default="0") for name in _COUNTS),
        sa.Column("marks", sa.Integer(), nullable=False),
    )
    is_due = sa.text("marks > 0")
    op.create_index("ix_complete_day_due", "complete_day", ["day"], sqlite_where=is_due, postgresql_where=is_due)
