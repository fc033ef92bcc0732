"""Usage by month: the days that are due, the months' rows, the classes' days, the batteries' readings.

Days that were settled before are due.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_SUMS = ("imported", "shared_in", "exported", "shared_out")
_COUNTS = (
    "peak",
    "slots",
    "wanted",
    "quarters",
    "settled",
    "missing",
    "estimated",
    "reduced_s",
    "islanded_s",
    "computed",
)


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind(), autoincrement=False, nullable=False)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger(), nullable=nullable)


def upgrade() -> None:
    """Make the tables of statistics, and mark every settled day."""
    op.create_table(
        "usage_due",
        _key("day", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("marks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("day", "owner_no", name=op.f("pk_usage_due")),
    )
    op.create_table(
        "usage_month",
        *map(_number, _SUMS),
        _number("generated", nullable=True),
        _number("used", nullable=True),
        *map(_number, _COUNTS),
        sa.Column("peak_at", sa.Integer(), nullable=False),
        _key("month", sa.Integer),
        _key("scope", sa.SmallInteger),
        _key("subject", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("month", "scope", "subject", "owner_no", name=op.f("pk_usage_month")),
    )
    op.create_index("ix_usage_month_subject", "usage_month", ["scope", "subject", "month"])
    op.create_table(
        "usage_day",
        _key("day", sa.Integer),
        _key("class_no", sa.SmallInteger),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("day", "class_no", name=op.f("pk_usage_day")),
    )
    op.create_table(
        "usage_batteries",
        _key("month", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("month", "owner_no", name=op.f("pk_usage_batteries")),
    )
    op.execute("INSERT INTO usage_due (day, owner_no, marks) SELECT day, owner_no, 1 FROM settled_day")
