"""Tariffs, runs of bills, bills, and the rates that controllers were told."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of billing."""
    op.create_table(
        "rates_version",
        sa.Column("name", sa.String(32), nullable=False),
        sa.Column("version", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("effective", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("proposed_by", sa.String(32), nullable=False),
        sa.Column("proposed", sa.BigInteger(), nullable=False),
        sa.Column("approved_by", sa.String(32), nullable=True),
        sa.Column("approved", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name", "version", name=op.f("pk_rates_version")),
    )
    _make_runs()
    op.create_table(
        "bill",
        sa.Column("run_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("account", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("cents", sa.BigInteger(), nullable=False),
        sa.Column("base", sa.String(16), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run_no"], ["bill_run.no"], name=op.f("fk_bill_run_no")),
        sa.PrimaryKeyConstraint("run_no", "account", name=op.f("pk_bill")),
    )
    op.create_table(
        "rates_told",
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("tariff", sa.String(32), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("command", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_rates_told_controller")),
        sa.PrimaryKeyConstraint("controller", "tariff", name=op.f("pk_rates_told")),
    )


def _make_runs() -> None:
    op.create_table(
        "bill_run",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("by_job", sa.String(7), nullable=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("policy", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("settled_no", sa.BigInteger(), nullable=False),
        sa.Column("previous_no", sa.BigInteger(), nullable=False),
        sa.Column("inputs_digest", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("root", sa.String(64), nullable=True),
        sa.Column("figures", sa.Text(), nullable=False),
        sa.Column("inputs", sa.LargeBinary(), nullable=False),
        sa.Column("made_by", sa.String(32), nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("checked_by", sa.String(32), nullable=True),
        sa.Column("checked", sa.BigInteger(), nullable=True),
        sa.Column("issued_by", sa.String(32), nullable=True),
        sa.Column("issued", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_bill_run")),
        sa.UniqueConstraint("by_job", name=op.f("uq_bill_run_by_job")),
        sa.UniqueConstraint("month", "inputs_digest", name="uq_bill_run_month_inputs"),
    )
    op.create_index(
        "ix_bill_run_issued",
        "bill_run",
        ["month"],
        unique=True,
        sqlite_where=sa.text("state = 'issued'"),
        postgresql_where=sa.text("state = 'issued'"),
    )
