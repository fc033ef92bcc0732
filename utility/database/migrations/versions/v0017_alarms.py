"""Alarms of the utility itself, acknowledgements and silences."""

import sqlalchemy as sa
from alembic import op

from utility.database.base import RowId

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alarm",
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("since", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("stage", sa.String(8), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("labels", sa.Text(), nullable=False),
        sa.Column("summary", sa.String(400), nullable=False),
        sa.Column("description", sa.String(400), nullable=False),
        sa.PrimaryKeyConstraint("key", "since", name=op.f("pk_alarm")),
    )
    op.create_index(op.f("ix_alarm_ended"), "alarm", ["ended"])
    is_open = sa.text("ended IS NULL")
    op.create_index("ix_alarm_open", "alarm", ["key"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "alarm_acknowledgement",
        sa.Column("no", RowId, autoincrement=True, nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_alarm_acknowledgement")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_alarm_acknowledgement_until"), "alarm_acknowledgement", ["until"])
    op.create_table(
        "alarm_silence",
        sa.Column("no", RowId, autoincrement=True, nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("ways", sa.Text(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("foreign_ids", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_alarm_silence")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_alarm_silence_until"), "alarm_silence", ["until"])
