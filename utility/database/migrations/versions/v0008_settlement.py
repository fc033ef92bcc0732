"""Settled quarter-hours: the days that are due, the versions of each meter's day, and each microgrid's day.

Days compacted before are not settled by themselves: ``commonwatt settlement run --from DATE`` settles them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind(), autoincrement=False, nullable=False)


def upgrade() -> None:
    """Make the tables of settlement."""
    op.create_table(
        "settlement_due",
        _key("day", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("marks", sa.Integer(), nullable=False),
        sa.Column("why", sa.SmallInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "owner_no", name=op.f("pk_settlement_due")),
    )
    op.create_table(
        "settled",
        sa.Column(
            "no",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            primary_key=True,
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("day", sa.Integer(), nullable=False),
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("computed_minute", sa.Integer(), nullable=False),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("why", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_settled")),
        sa.UniqueConstraint("day", "meter_no", "version", name="uq_settled"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "settled_day",
        _key("day", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("convention", sa.String(16), nullable=False),
        sa.Column("computed", sa.BigInteger(), nullable=False),
        sa.Column("missing", sa.Integer(), nullable=False),
        sa.Column("final", sa.Boolean(), nullable=False),
        sa.Column("residual", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("day", "owner_no", name=op.f("pk_settled_day")),
    )
