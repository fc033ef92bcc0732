"""Silences have columns in place of Alertmanager's matchers; those that stand end, as they can't be read any more."""

import sqlalchemy as sa
from alembic import op

revision = "0038"
down_revision = "0037"


def upgrade() -> None:
    """Make the table anew; who made which silence is in the audit log."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.drop_table("alarm_silence")
    op.create_table(
        "alarm_silence",
        sa.Column("no", number, autoincrement=True, nullable=False),
        sa.Column("subject", sa.String(400), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("places", sa.Text(), nullable=False),
        sa.Column("part", sa.String(16), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("note", sa.String(200), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_alarm_silence"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_alarm_silence_until", "alarm_silence", ["until"])
