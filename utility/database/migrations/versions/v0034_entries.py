"""The table of what people enter for bills."""

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    texts = {"kind": 16, "reason": 200, "state": 16, "entered_by": 32, "decided_by": 32}
    op.create_table(
        "bill_entry",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("subject", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in ("cents", "left_cents", "entered")),
        sa.Column("decided", sa.BigInteger(), nullable=True),
        *(sa.Column(name, sa.String(length), nullable=name == "decided_by") for name, length in texts.items()),
        sa.PrimaryKeyConstraint("no", name="pk_bill_entry"),
    )
