"""Tables of the registry: controllers, meters, minima."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, String, Table

from utility.store.tables.base import metadata

controller = Table(
    "controller",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("address", String(45), nullable=False),
)

# `no` takes four bytes in every part, the id would take eight; `label` is the id in decimal, for people. `crc` covers
# all other columns except `no` (``checks.row_crc``), here and in `event`.
meter = Table(
    "meter",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=True),
    Column("id", BigInteger, nullable=False, unique=True),
    Column("label", String(20), nullable=False, unique=True),
    Column("microgrid", ForeignKey("controller.id"), nullable=False, index=True),
    Column("address", String(45), nullable=False),
    Column("location", String(200), nullable=False),
    Column("function", String(16), nullable=False),
    Column("direction", String(16), nullable=False),
    Column("account", Integer, nullable=False),
    Column("record_types", String(32), nullable=False),
    Column("service_amps", Integer, nullable=False),
    Column("battery_capacity", BigInteger, nullable=True),
    Column("minimum_percent", Integer, nullable=True),
    Column("push", Boolean, nullable=False),
    Column("crc", BigInteger, nullable=False),
)

# The sharing minimum that the meter itself reported, and when; it overrides the town file's initial value (T6).
declared_minimum = Table(
    "declared_minimum",
    metadata,
    Column("meter_no", ForeignKey("meter.no"), primary_key=True, autoincrement=False),
    Column("percent", Integer, nullable=False),
    Column("said", BigInteger, nullable=False),
)
