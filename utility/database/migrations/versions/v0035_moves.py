"""The tables of moves and of replaced contacts."""

import sqlalchemy as sa
from alembic import op

from utility.database.base import RowId

revision = "0035"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "former_contact",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("since", sa.Integer(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_former_contact"),
    )
    op.create_index("ix_former_contact_account", "former_contact", ["account"])
    op.create_table(
        "move",
        sa.Column("no", RowId, autoincrement=True, nullable=False),
        sa.Column("account", sa.Integer(), nullable=True),
        sa.Column("next", sa.Integer(), nullable=True),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_move"),
    )
    op.create_index("ix_move_account", "move", ["account"])
