"""The table of controllers' reports."""

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "controller_report",
        sa.Column("command", sa.String(64), nullable=False),
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name="fk_controller_report_controller_controller"),
        sa.PrimaryKeyConstraint("command", name="pk_controller_report"),
    )
    op.create_index("ix_controller_report_controller", "controller_report", ["controller", "time"])
