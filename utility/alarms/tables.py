"""Tables of alarms: the utility's own, and what people did about any."""

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, text

from utility.database.base import RowId, columns, metadata

# The utility's own alarms, by key and beginning; open until `ended`. Labels are JSON.
alarm = Table(
    "alarm",
    metadata,
    Column("key", String(255), primary_key=True),
    Column("since", BigInteger, primary_key=True, autoincrement=False),
    Column("stage", String(8), nullable=False),
    Column("ended", BigInteger, nullable=True, index=True),
    Column("labels", Text, nullable=False),
    *columns(String(400), "summary", "description", nullable=False),
    Index("ix_alarm_open", "key", sqlite_where=text("ended IS NULL"), postgresql_where=text("ended IS NULL")),
)

# A person's word that they see to an alarm, until a time.
alarm_acknowledgement = Table(
    "alarm_acknowledgement",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("key", Text, nullable=False),
    Column("person", String(64), nullable=False),
    Column("note", String(200), nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)

# Silences: of the alarm with a `key`, of all alarms of a `name`, or of `places` (empty: all) and a `part` (empty: all).
alarm_silence = Table(
    "alarm_silence",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("subject", String(400), nullable=False),
    Column("key", Text, nullable=False),
    Column("name", String(64), nullable=False),
    Column("places", Text, nullable=False),
    Column("part", String(16), nullable=False),
    Column("person", String(64), nullable=False),
    Column("note", String(200), nullable=False),
    *columns(BigInteger, "made", "start", nullable=False),
    Column("until", BigInteger, nullable=False, index=True),
    sqlite_autoincrement=True,
)
