"""Tables of collection: the order of brokers of each meter, dated and versioned (A1)."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from utility.database.base import SMALL, RowId, metadata

# Each order that a meter was given, only appended; the newest one of a meter holds, and its number is the version.
# `brokers` are names with commas between; empty: as installed.
broker_order = Table(
    "broker_order",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("meter_no", Integer, ForeignKey("meter.no"), nullable=False),
    Column("brokers", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("pinned", Boolean, nullable=False),
    Column("person", String(64), nullable=False),
    Column("why", Text, nullable=False),
    Index("ix_broker_order_meter_no_no", "meter_no", "no"),
    Index("ix_broker_order_since", "since"),
    info=SMALL,
)
