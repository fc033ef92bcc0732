"""The table of months of readings in files."""

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"

_BIG, _INT, _TEXT = sa.BigInteger(), sa.Integer(), sa.Text()


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "archived_month",
        sa.Column("first_quarter", _INT, autoincrement=False, nullable=False),
        sa.Column("until_quarter", _INT, nullable=False),
        sa.Column("path", _TEXT, nullable=False),
        sa.Column("rows", _BIG, nullable=False),
        sa.Column("total", _BIG, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", _BIG, nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("changes", _INT, nullable=False),
        sa.Column("made", _BIG, nullable=False),
        sa.Column("trouble", _TEXT, server_default="", nullable=False),
        sa.PrimaryKeyConstraint("first_quarter", name=op.f("pk_archived_month")),
    )
