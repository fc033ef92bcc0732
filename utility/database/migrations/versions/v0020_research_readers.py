"""The people who may download the releases of an agreement."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "research_reader",
        sa.Column("agreement", sa.String(64), nullable=False),
        sa.Column("person", sa.String(32), nullable=False),
        sa.Column("added", sa.BigInteger(), nullable=False),
        sa.Column("added_by", sa.String(32), nullable=False),
        sa.PrimaryKeyConstraint("agreement", "person", name=op.f("pk_research_reader")),
    )
