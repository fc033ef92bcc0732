"""The tables of rollouts of releases."""

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"

_BIG = sa.BigInteger()
_NUMBER = _BIG.with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "rollout",
        sa.Column("no", _NUMBER, nullable=False),
        sa.Column("release", sa.String(24), nullable=False),
        sa.Column("sha256", sa.String(200), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("begun", _BIG, nullable=False),
        sa.Column("begun_by", sa.String(32), nullable=False),
        sa.Column("approved_by", sa.String(32), nullable=True),
        sa.Column("ended", _BIG, nullable=True),
        sa.Column("why", sa.String(256), nullable=False),
        sa.PrimaryKeyConstraint("no", name="pk_rollout"),
    )
    op.create_table(
        "rollout_member",
        sa.Column("rollout_no", _NUMBER, autoincrement=False, nullable=False),
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("step", sa.SmallInteger(), nullable=False),
        sa.Column("command", sa.String(64), nullable=True),
        sa.Column("sent", _BIG, nullable=True),
        sa.Column("ended", _BIG, nullable=True),
        sa.Column("verdict", sa.String(16), nullable=True),
        sa.Column("why", sa.String(256), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name="fk_rollout_member_controller_controller"),
        sa.ForeignKeyConstraint(["rollout_no"], ["rollout.no"], name="fk_rollout_member_rollout_no_rollout"),
        sa.PrimaryKeyConstraint("rollout_no", "controller", name="pk_rollout_member"),
    )
