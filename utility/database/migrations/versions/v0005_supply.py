"""The town's supply: the plant's reports and quarters, purchases, and what controllers were told."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of supply."""
    op.create_table(
        "plant_seen",
        sa.Column("one", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("one", name=op.f("pk_plant_seen")),
    )
    energies = ("ordered", "needed", "sold", "net", "level")
    op.create_table(
        "plant_quarter",
        sa.Column("quarter", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("slots", sa.SmallInteger(), nullable=False),
        *(sa.Column(name, sa.BigInteger(), nullable=False) for name in energies),
        sa.PrimaryKeyConstraint("quarter", name=op.f("pk_plant_quarter")),
    )
    _make_purchases()
    op.create_table(
        "ration",
        sa.Column("controller", sa.String(length=16), nullable=False),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("supply", sa.String(length=16), nullable=False),
        sa.Column("import_limit_w", sa.BigInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("command", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_ration_controller")),
        sa.PrimaryKeyConstraint("controller", name=op.f("pk_ration")),
    )


def _make_purchases() -> None:
    op.create_table(
        "purchase",
        sa.Column("quarter", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("energy", sa.BigInteger(), nullable=False),
        sa.Column("price", sa.Integer(), nullable=False),
        sa.Column("policy", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("inputs", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("quarter", name=op.f("pk_purchase")),
        sa.UniqueConstraint("id", name=op.f("uq_purchase_id")),
    )
    is_open = sa.text("state = 'open'")
    op.create_index("ix_purchase_open", "purchase", ["quarter"], sqlite_where=is_open, postgresql_where=is_open)
