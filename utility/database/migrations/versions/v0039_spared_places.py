"""The table of places that must not be cut."""

import sqlalchemy as sa
from alembic import op

revision = "0039"
down_revision = "0038"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "spared_place",
        sa.Column("account", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("is_spared", sa.Boolean(), nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=True),
        sa.Column("asked_by", sa.String(32), nullable=False),
        sa.Column("asked", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", sa.String(32), nullable=True),
        sa.Column("decided", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("account", name="pk_spared_place"),
    )
