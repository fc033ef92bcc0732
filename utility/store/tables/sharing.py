"""Tables of recorded sharing (C2)."""

from sqlalchemy import BigInteger, Boolean, Column, Integer, SmallInteger, Table

from utility.store.tables.base import metadata

# Microgrids' quarters whose readings were joined since sharing was last computed for them; `marks` counts how often.
sharing_due = Table(
    "sharing_due",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("marks", Integer, nullable=False),
)

# Sharing of a microgrid in a quarter, and each computation that differs from the one before. Quarters without sharing
# have no row, unless an earlier version had some. `shared` is the sum of what was given, milliwatt-hours.
sharing_quarter = Table(
    "sharing_quarter",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", SmallInteger, primary_key=True, autoincrement=False),
    Column("computed", BigInteger, nullable=False),
    Column("complete", Boolean, nullable=False),
    Column("shared", BigInteger, nullable=False),
)

# Who gave and received how much, milliwatt-hours, in a version of `sharing_quarter`.
sharing = Table(
    "sharing",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("version", SmallInteger, primary_key=True, autoincrement=False),
    Column("meter_no", Integer, primary_key=True, autoincrement=False),
    Column("given", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
)
