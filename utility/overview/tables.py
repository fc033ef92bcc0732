"""Figures of finished days for people's pages."""

from sqlalchemy import BigInteger, Column, Index, Integer, SmallInteger, Table, text

from utility.database.base import metadata

# Slots of a microgrid's day (of UTC, since 1970) by ``Completeness``. `marks` counts how often readings of the day were
# joined since they were counted; `computed` 0: not counted yet.
complete_day = Table(
    "complete_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("exact", BigInteger, nullable=False, server_default="0"),
    Column("averaged", BigInteger, nullable=False, server_default="0"),
    Column("quarantined", BigInteger, nullable=False, server_default="0"),
    Column("refused", BigInteger, nullable=False, server_default="0"),
    Column("off", BigInteger, nullable=False, server_default="0"),
    Column("absent", BigInteger, nullable=False, server_default="0"),
    Column("missing", BigInteger, nullable=False, server_default="0"),
    Column("computed", BigInteger, nullable=False, server_default="0"),
    Column("marks", Integer, nullable=False),
    Index("ix_complete_day_due", "day", sqlite_where=text("marks > 0"), postgresql_where=text("marks > 0")),
)
