"""The table of tariffs."""

from sqlalchemy import BigInteger, Column, Integer, SmallInteger, String, Table, Text

from utility.database.base import SMALL, columns, metadata

# The versions of tariffs. `content` is canonical JSON, `source` the file as it was proposed; neither is ever changed.
# `state`: proposed, published, or replaced (by a later proposal of the same day). Times are epoch seconds; `effective`
# is a quarter.
rates_version = Table(
    "rates_version",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("version", SmallInteger, primary_key=True, autoincrement=False),
    Column("state", String(16), nullable=False),
    Column("effective", Integer, nullable=False),
    *columns(Text, "content", "source", nullable=False),
    Column("proposed_by", String(32), nullable=False),
    Column("proposed", BigInteger, nullable=False),
    Column("approved_by", String(32), nullable=True),
    Column("approved", BigInteger, nullable=True),
    info=SMALL,
)
