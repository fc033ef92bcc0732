"""Tables of validation and corrections (B4). Readings are never changed: what counts instead stands here."""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)

from utility.database.base import RowId, columns, metadata

# Estimates and edits of slots of a block, by one method. Its values never change, its `state` does; bit s of `mask` is
# slot s. `version` counts the corrections of a block from 1; `energy` is the sum of a flow's values.
correction = Table(
    "correction",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    *columns(Integer, "quarter", "meter_no", nullable=False),
    *columns(SmallInteger, "record_type", "version", "owner_no", "method", nullable=False),
    *columns(BigInteger, "mask", "energy", nullable=False),
    Column("state", String(8), nullable=False),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("quarter", "meter_no", "record_type", "version", name="uq_correction"),
    Index("ix_correction_state_quarter", "state", "quarter"),
    Index("ix_correction_state_meter", "state", "meter_no", "record_type", "quarter"),
    sqlite_autoincrement=True,
)

# Every step of a correction, appended: the states before (empty: it was made) and after, the person (empty: the
# utility's job), and why.
correction_step = Table(
    "correction_step",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("correction_no", RowId, nullable=False, index=True),
    Column("time", BigInteger, nullable=False),
    Column("person", String(64), nullable=False),
    *columns(String(8), "state_before", "state_after", nullable=False),
    Column("why", String(200), nullable=False),
    sqlite_autoincrement=True,
)

# What the daily checks found; open until `closed`.
finding = Table(
    "finding",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("meter_no", Integer, nullable=False),
    Column("record_type", SmallInteger, nullable=False),
    Column("check_name", String(16), nullable=False),
    *columns(Integer, "first_quarter", "until_quarter", nullable=False),
    *columns(BigInteger, "figure", "threshold", "found", nullable=False),
    Column("closed", BigInteger, nullable=True),
    Column("closed_by", String(64), nullable=True),
    Column("why", String(200), nullable=True),
    UniqueConstraint("meter_no", "record_type", "check_name", "first_quarter", name="uq_finding"),
    Index(
        "ix_finding_open", "check_name", sqlite_where=text("closed IS NULL"), postgresql_where=text("closed IS NULL")
    ),
)

# Energy of each checked UTC day (epoch seconds // 86400) of a place's use or generation, under its meter: the past that
# later days are compared with. Days with a gap or an outage have no row.
checked_day = Table(
    "checked_day",
    metadata,
    *columns(Integer, "day", "meter_no", primary_key=True, autoincrement=False),
    Column("record_type", SmallInteger, primary_key=True, autoincrement=False),
    Column("energy", BigInteger, nullable=False),
)
