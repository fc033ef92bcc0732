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
    numbers = {"subject": sa.Integer(), "cents": sa.Integer(), "left_cents": sa.Integer()}
    numbers |= {"entered": sa.BigInteger(), "decided": sa.BigInteger()}
    columns = numbers | {name: sa.String(length) for name, length in texts.items()}
    op.create_table(
        "bill_entry",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        *(sa.Column(name, kind, nullable=name.startswith("decided")) for name, kind in columns.items()),
        sa.PrimaryKeyConstraint("no", name="pk_bill_entry"),
    )
