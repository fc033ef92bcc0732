"""The table of commands to gateways."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, String, Table, Text, false

from utility.database.base import SMALL, metadata

# `message` and `outcome` are JSON. `result` is what the gateway answered, as in `outcome`; empty: there is no answer.
# `limits_import`: whether the message has an import limit.
command = Table(
    "command",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("controller", String(16), ForeignKey("controller.id"), nullable=False),
    Column("message", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("outcome", Text, nullable=True),
    Column("result", String(16), nullable=True),
    Column("limits_import", Boolean, nullable=False, server_default=false()),
    Index("ix_command_controller_created", "controller", "created"),
    info=SMALL,
)
