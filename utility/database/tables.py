"""The table of the service's settings."""

from sqlalchemy import Column, String, Table, Text

from utility.database.base import SMALL, metadata

setting = Table(
    "setting",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    info=SMALL,
)
