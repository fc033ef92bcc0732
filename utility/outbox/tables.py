"""The table of commands to gateways."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String, Table, Text

from utility.database.base import metadata

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
    Index("ix_command_controller_created", "controller", "created"),
)
