"""Tables of the rollouts of releases to controllers."""

from sqlalchemy import BigInteger, Column, ForeignKey, SmallInteger, String, Table

from utility.database.base import SMALL, RowId, columns, metadata

# A release for all controllers. `state`: running, stopped (by a person), failed or done. Without `approved_by`, only
# its first controller is upgraded. `why`: why it ended.
rollout = Table(
    "rollout",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("release", String(24), nullable=False),
    Column("sha256", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("begun", BigInteger, nullable=False),
    Column("begun_by", String(32), nullable=False),
    Column("approved_by", String(32), nullable=True),
    Column("ended", BigInteger, nullable=True),
    Column("why", String(256), nullable=False),
    info=SMALL,
)

# A controller of a rollout: its step from 1 on, the command that it was sent, and its verdict: done or failed.
rollout_member = Table(
    "rollout_member",
    metadata,
    Column(
        "rollout_no",
        ForeignKey("rollout.no", name="fk_rollout_member_rollout_no_rollout"),
        primary_key=True,
        autoincrement=False,
    ),
    Column(
        "controller",
        String(16),
        ForeignKey("controller.id", name="fk_rollout_member_controller_controller"),
        primary_key=True,
    ),
    Column("step", SmallInteger, nullable=False),
    Column("command", String(64), nullable=True),
    *columns(BigInteger, "sent", "ended", nullable=True),
    Column("verdict", String(16), nullable=True),
    Column("why", String(256), nullable=False),
    info=SMALL,
)
