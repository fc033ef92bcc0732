"""Tables of usage by month (U6)."""

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, SmallInteger, Table

from utility.database.base import columns, metadata

# The usage of a subject in a local month (12 x year + month - 1). `scope`: 1 account, 2 microgrid, 3 class, 4 town. An
# account has a row for each microgrid that it had meters in; classes and the town have `owner_no` 0. Energies are
# milliwatt-hours; `generated` and `used` are empty where no meter tells, and of a class or the town those of the
# microgrids that have them. `slots` of `wanted` slots have a reading of generation. `payload` has the load shape
# (``utility.statistics.packed``).
usage_month = Table(
    "usage_month",
    metadata,
    *columns(BigInteger, "imported", "shared_in", "exported", "shared_out", nullable=False),
    *columns(BigInteger, "generated", "used", nullable=True),
    *columns(
        BigInteger,
        "peak",
        "slots",
        "wanted",
        "quarters",
        "settled",
        "missing",
        "estimated",
        "reduced_s",
        "islanded_s",
        "computed",
        nullable=False,
    ),
    Column("peak_at", Integer, nullable=False),
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("scope", SmallInteger, primary_key=True, autoincrement=False),
    Column("subject", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_usage_month_subject", "scope", "subject", "month"),
)

# The quarter-hours of a class of microgrids on a day of UTC, and the readings of a microgrid's batteries in a month
# (``utility.statistics.series``, ``utility.statistics.series``).
usage_day = Table(
    "usage_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("class_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
)

usage_batteries = Table(
    "usage_batteries",
    metadata,
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
)

# What was projected of a month before it began: `low` to `high` is the band of 80 %, empty if there was too little
# past. `quantity`: 1 imported, 2 exported, 3 used, milliwatt-hours; 4 revenue, 5 cost, cents. A month's rows stay as
# they were last made before it began.
usage_projection = Table(
    "usage_projection",
    metadata,
    Column("low", BigInteger, nullable=True),
    Column("middle", BigInteger, nullable=False),
    Column("high", BigInteger, nullable=True),
    Column("made", BigInteger, nullable=False),
    Column("month", Integer, primary_key=True, autoincrement=False),
    Column("scope", SmallInteger, primary_key=True, autoincrement=False),
    Column("subject", Integer, primary_key=True, autoincrement=False),
    Column("quantity", SmallInteger, primary_key=True, autoincrement=False),
)
