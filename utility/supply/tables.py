"""Tables of the town's supply: the plant, purchases, rations."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text

from utility.database.base import SMALL, metadata

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
