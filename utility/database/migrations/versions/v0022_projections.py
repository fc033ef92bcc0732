"""Projections of months, as they were made before the months began."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind(), autoincrement=False, nullable=False)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "usage_projection",
        sa.Column("low", sa.BigInteger(), nullable=True),
        sa.Column("middle", sa.BigInteger(), nullable=False),
        sa.Column("high", sa.BigInteger(), nullable=True),
        sa.Column("made", sa.BigInteger(), nullable=False),
        _key("month", sa.Integer),
        _key("scope", sa.SmallInteger),
        _key("subject", sa.Integer),
        _key("quantity", sa.SmallInteger),
        sa.PrimaryKeyConstraint("month", "scope", "subject", "quantity", name=op.f("pk_usage_projection")),
    )
