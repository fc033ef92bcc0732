"""Jobs: what a person sets, how long runs take, why they fail, and what a period waits for."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; periods of jobs whose cadence or name changed begin anew."""
    op.add_column("period", sa.Column("took_ms", sa.BigInteger(), nullable=True))
    op.add_column("period", sa.Column("error", sa.String(500), nullable=True))
    op.add_column("period", sa.Column("waits_for", sa.String(500), nullable=True))
    op.create_table(
        "job",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("paused", sa.BigInteger(), nullable=True),
        sa.Column("every_s", sa.Integer(), nullable=True),
        sa.Column("minute", sa.SmallInteger(), nullable=True),
        sa.Column("period", sa.String(32), nullable=True),
        sa.Column("done", sa.BigInteger(), nullable=True),
        sa.Column("took_ms", sa.BigInteger(), nullable=True),
        sa.Column("failed", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.String(500), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_job")),
    )
    op.execute("DELETE FROM period WHERE job IN ('bills', 'months')")
