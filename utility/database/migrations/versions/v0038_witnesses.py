"""The table of the signatures by which controllers witness bills."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "witness",
        sa.Column("run_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("command", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("signed", sa.String(192), nullable=True),
        sa.ForeignKeyConstraint(["run_no"], ["bill_run.no"], name="fk_witness_run_no_bill_run"),
        sa.PrimaryKeyConstraint("run_no", "controller", name="pk_witness"),
    )
