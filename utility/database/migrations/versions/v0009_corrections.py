"""Corrections of readings with every step of theirs, findings of the daily checks, and the days checked."""

import sqlalchemy as sa
from alembic import op

from utility.database.base import RowId

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def _number(
    name: str, kind: type[sa.types.TypeEngine[int]] = sa.BigInteger, *, nullable: bool = False
) -> sa.Column[int]:
    return sa.Column(name, kind(), autoincrement=False, nullable=nullable)


def _text(name: str, length: int, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(length), nullable=nullable)


def _row_number() -> sa.Column[int]:
    return sa.Column("no", RowId, autoincrement=True, nullable=False)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "correction",
        _row_number(),
        _number("quarter", sa.Integer),
        _number("meter_no", sa.Integer),
        _number("record_type", sa.SmallInteger),
        _number("version", sa.SmallInteger),
        _number("owner_no", sa.SmallInteger),
        _number("method", sa.SmallInteger),
        _number("mask"),
        _number("energy"),
        _text("state", 8),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_correction")),
        sa.UniqueConstraint("quarter", "meter_no", "record_type", "version", name="uq_correction"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_correction_state_quarter", "correction", ["state", "quarter"])
    op.create_table(
        "correction_step",
        _row_number(),
        sa.Column("correction_no", RowId, autoincrement=False, nullable=False),
        _number("time"),
        _text("person", 64),
        _text("state_before", 8),
        _text("state_after", 8),
        _text("why", 200),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_correction_step")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_correction_step_correction_no", "correction_step", ["correction_no"])
    op.create_table(
        "finding",
        _row_number(),
        _number("meter_no", sa.Integer),
        _number("record_type", sa.SmallInteger),
        _text("check_name", 16),
        _number("first_quarter", sa.Integer),
        _number("until_quarter", sa.Integer),
        _number("figure"),
        _number("threshold"),
        _number("found"),
        _number("closed", nullable=True),
        _text("closed_by", 64, nullable=True),
        _text("why", 200, nullable=True),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_finding")),
        sa.UniqueConstraint("meter_no", "record_type", "check_name", "first_quarter", name="uq_finding"),
    )
    is_open = sa.text("closed IS NULL")
    op.create_index("ix_finding_open", "finding", ["check_name"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_table(
        "checked_day",
        _number("day", sa.Integer),
        _number("meter_no", sa.Integer),
        _number("record_type", sa.SmallInteger),
        _number("energy"),
        sa.PrimaryKeyConstraint("day", "meter_no", "record_type", name=op.f("pk_checked_day")),
    )
