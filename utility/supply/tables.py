"""Tables of the town's supply: the plant, purchases, rations."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, SmallInteger, String, Table, Text, text

from utility.database.base import SMALL, metadata

# The last report of the town's plant, as received; one row.
plant_seen = Table(
    "plant_seen",
    metadata,
    Column("one", SmallInteger, primary_key=True, autoincrement=False),
    Column("time", BigInteger, nullable=False),
    Column("report", Text, nullable=False),
)

# What the plant measured in each finished quarter, milliwatt-hours (``PlantQuarter``).
plant_quarter = Table(
    "plant_quarter",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("slots", SmallInteger, nullable=False),
    Column("ordered", BigInteger, nullable=False),
    Column("needed", BigInteger, nullable=False),
    Column("sold", BigInteger, nullable=False),
    Column("net", BigInteger, nullable=False),
    Column("level", BigInteger, nullable=False),
    info=SMALL,
)

# The purchases, one a quarter: what was ordered, why, and the command that is sent to the plant until it answers.
# `price` is in thousandths of the price outside peak hours; `inputs` is JSON for people.
purchase = Table(
    "purchase",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("id", String(64), nullable=False, unique=True),
    Column("energy", BigInteger, nullable=False),
    Column("price", Integer, nullable=False),
    Column("policy", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", Text, nullable=True),
    Index("ix_purchase_open", "quarter", sqlite_where=text("state = 'open'"), postgresql_where=text("state = 'open'")),
    info=SMALL,
)

# What each controller last received of the supply: the state, and its import limit in watts (empty: none).
ration = Table(
    "ration",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("quarter", Integer, nullable=False),
    Column("supply", String(16), nullable=False),
    Column("import_limit_w", BigInteger, nullable=True),
    Column("reason", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("command", String(64), nullable=False),
    info=SMALL,
)
