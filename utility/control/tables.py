"""Tables of the changes that people make at gateways: what was asked of which, and what was in force before (K5)."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from utility.database.base import SMALL, RowId, columns, metadata

# A change, for one or many microgrids. `state`: planned, sent, cancelled, or missed (the service did not run between
# `due` and `valid_s` after it). `fields` is JSON, the keys of the command with `cmd`; empty for a change that puts back
# `undoes`, whose targets differ. `ended` and `ended_by`: when it was sent, cancelled or missed, and who cancelled it.
control_change = Table(
    "control_change",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("made", BigInteger, nullable=False),
    Column("person", String(64), nullable=False),
    Column("action", String(16), nullable=False),
    Column("fields", Text, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("valid_s", Integer, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    *columns(BigInteger, "undoes", "ended", nullable=True),
    Column("ended_by", String(64), nullable=True),
    info=SMALL,
)

# A change at one microgrid: the command's fields with `cmd`; what was in force when it was sent, JSON; the command.
control_target = Table(
    "control_target",
    metadata,
    Column("change_no", ForeignKey("control_change.no"), primary_key=True, autoincrement=False),
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("fields", Text, nullable=False),
    Column("before", Text, nullable=True),
    Column("command", String(64), nullable=True),
    Index("ix_control_target_controller", "controller", "change_no"),
    info=SMALL,
)

# The newest change of each setting of a microgrid: of two people who change it at once, the second one sees it.
control_version = Table(
    "control_version",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("setting", String(32), primary_key=True),
    Column("change_no", ForeignKey("control_change.no"), nullable=False),
    info=SMALL,
)
