"""The changes that people make at gateways, with what was before."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "control_change",
        sa.Column("no", _ROW, nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.String(64), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("valid_s", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("undoes", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("ended_by", sa.String(64), nullable=True),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_control_change")),
    )
    op.create_index(op.f("ix_control_change_state"), "control_change", ["state"])
    op.create_table(
        "control_target",
        sa.Column("change_no", _ROW, autoincrement=False, nullable=False),
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("command", sa.String(64), nullable=True),
        sa.ForeignKeyConstraint(["change_no"], ["control_change.no"], name=op.f("fk_control_target_change_no")),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_control_target_controller")),
        sa.PrimaryKeyConstraint("change_no", "controller", name=op.f("pk_control_target")),
    )
    op.create_index("ix_control_target_controller", "control_target", ["controller", "change_no"])
    op.create_table(
        "control_version",
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("setting", sa.String(32), nullable=False),
        sa.Column("change_no", _ROW, nullable=False),
        sa.ForeignKeyConstraint(["change_no"], ["control_change.no"], name=op.f("fk_control_version_change_no")),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_control_version_controller")),
        sa.PrimaryKeyConstraint("controller", "setting", name=op.f("pk_control_version")),
    )
