"""Tables of settled quarter-hours and of recorded sharing (C2, C4, U2)."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    UniqueConstraint,
)

from utility.database.base import RowId, columns, metadata

# A settled day of a meter, a row for each version; rows are never changed, and their numbers only grow, in the order of
# their commits. `payload` is the form of ``utility.settlement.packed``. Minutes fit four bytes after 2038.
settled = Table(
    "settled",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    *columns(Integer, "day", "meter_no", "computed_minute", nullable=False),
    *columns(SmallInteger, "version", "why", nullable=False),
    Column("payload", LargeBinary, nullable=False),
    UniqueConstraint("day", "meter_no", "version", name="uq_settled"),
    sqlite_autoincrement=True,
)

# Sharing of a microgrid in a quarter, and each computation that differs from the one before. Quarters without sharing
# have no row, unless an earlier version had some. `shared` is the sum of what was given, milliwatt-hours.
sharing_quarter = Table(
    "sharing_quarter",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    *columns(SmallInteger, "owner_no", "version", primary_key=True, autoincrement=False),
    Column("computed", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("shared", BigInteger, nullable=False),
)

# Energy given and received by each meter, milliwatt-hours, in a version of `sharing_quarter`.
sharing = Table(
    "sharing",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    *columns(SmallInteger, "owner_no", "version", primary_key=True, autoincrement=False),
    Column("meter_no", Integer, primary_key=True, autoincrement=False),
    *columns(BigInteger, "given", "received", nullable=False),
)
