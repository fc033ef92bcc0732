"""Recorded sharing: the quarters that are due, the versions of each, and who gave and received.

Quarters compacted before are not computed: only readings that are joined from now on mark a quarter.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def _key(name: str, kind: type[sa.types.TypeEngine[int]]) -> sa.Column[int]:
    return sa.Column(name, kind(), autoincrement=False, nullable=False)


def upgrade() -> None:
    """Make the tables of sharing."""
    op.create_table(
        "sharing_due",
        _key("quarter", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        sa.Column("marks", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("quarter", "owner_no", name=op.f("pk_sharing_due")),
    )
    op.create_table(
        "sharing_quarter",
        _key("quarter", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        _key("version", sa.SmallInteger),
        sa.Column("computed", sa.BigInteger(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("shared", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("quarter", "owner_no", "version", name=op.f("pk_sharing_quarter")),
    )
    op.create_table(
        "sharing",
        _key("quarter", sa.Integer),
        _key("owner_no", sa.SmallInteger),
        _key("version", sa.SmallInteger),
        _key("meter_no", sa.Integer),
        sa.Column("given", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("quarter", "owner_no", "version", "meter_no", name=op.f("pk_sharing")),
    )
