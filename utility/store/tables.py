"""The database's tables (U1). Parts are appended, never updated; a block joins its parts (docs/architecture.md).

Ids of meters and records are unsigned 64-bit numbers. SQL has signed ones only, so they are stored as ``signed64``
converts them. The tables are the same on every database, except for the partial indexes, which SQLite and PostgreSQL
support, and the partitions of `compacted`, which only PostgreSQL has.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite generates row numbers only in a column of type INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")


class _DeadLetterState(TypeDecorator[str]):
    """The state of a dead letter; the database stores `quarantined` as `held`, as version 0.1 did."""

    impl = String(8)
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the stored form."""
        del dialect
        return "held" if value == "quarantined" else value

    def process_result_value(self, value: str | None, dialect: Dialect) -> str | None:
        """Return the form used in the program."""
        del dialect
        return "quarantined" if value == "held" else value


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

# Received parts that are not compacted yet. `received_minute` is epoch seconds // 60, which fits four bytes after 2038.
# The numbers refer to `meter` and `controller` without foreign keys, which would cost a lookup for every row; meters
# and controllers are never deleted.
part = Table(
    "part",
    metadata,
    Column("id", _RowId, primary_key=True, autoincrement=True),
    Column("quarter", Integer, nullable=False),
    Column("meter_no", Integer, nullable=False),
    Column("received_minute", Integer, nullable=False),
    Column("record_type", SmallInteger, nullable=False),
    Column("sender_no", SmallInteger, nullable=False),
    Column("owner_no", SmallInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_part_key", "quarter", "meter_no", "record_type"),
    # A number is never used twice, so the compactor deletes exactly the parts that it has read.
    sqlite_autoincrement=True,
)

# The blocks of finished quarters, one row each: the join of their parts, without parts that are still in `part`.
# `sender_no` is 0 for parts from several controllers. `exact`, `averaged` and `conflicts` count slots; readings are
# milliwatt-hours; only flows have a `total`. Wide columns come first, to waste no bytes on alignment; the key begins
# with the quarter, so that new blocks go to the end of the index.
compacted = Table(
    "compacted",
    metadata,
    Column("total", BigInteger, nullable=True),
    Column("first_reading", BigInteger, nullable=True),
    Column("last_reading", BigInteger, nullable=True),
    Column("min_reading", BigInteger, nullable=True),
    Column("max_reading", BigInteger, nullable=True),
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("meter_no", Integer, primary_key=True, autoincrement=False),
    Column("received_minute", Integer, nullable=False),
    Column("record_type", SmallInteger, primary_key=True, autoincrement=False),
    Column("sender_no", SmallInteger, nullable=False),
    Column("owner_no", SmallInteger, nullable=False),
    Column("exact", SmallInteger, nullable=False),
    Column("averaged", SmallInteger, nullable=False),
    Column("conflicts", SmallInteger, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index(
        "ix_compacted_conflicts",
        "owner_no",
        sqlite_where=text("conflicts > 0"),
        postgresql_where=text("conflicts > 0"),
    ),
    postgresql_partition_by="RANGE (quarter)",
)

# Which controller sent each value of a conflicting slot, for blocks with `sender_no` 0.
conflict_sender = Table(
    "conflict_sender",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("meter_no", Integer, primary_key=True, autoincrement=False),
    Column("record_type", SmallInteger, primary_key=True, autoincrement=False),
    Column("slot", SmallInteger, primary_key=True, autoincrement=False),
    Column("value", BigInteger, primary_key=True, autoincrement=False),
    Column("sender_no", SmallInteger, primary_key=True, autoincrement=False),
)

event = Table(
    "event",
    metadata,
    Column("meter_no", ForeignKey("meter.no"), primary_key=True),
    Column("generation", BigInteger, primary_key=True),
    Column("record_id", BigInteger, primary_key=True),
    Column("previous_state", Integer, nullable=False),
    Column("new_state", Integer, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("sender", String(16), nullable=False),
    Column("owner", String(16), nullable=False),
    Column("crc", BigInteger, nullable=False),
    Index("ix_event_meter_no_time", "meter_no", "time"),
)

# `crc` is of the content: a dead letter sent again has the same key, another one with the same numbers does not.
# `state` is empty, or `quarantined` until a person decides, then `released` or `refused`; the next three columns are
# the time, the person and the reason.
dead_letter = Table(
    "letter",
    metadata,
    Column("no", _RowId, primary_key=True, autoincrement=True),
    Column("meter", BigInteger, nullable=False),
    Column("log", SmallInteger, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("record_id", BigInteger, nullable=False),
    Column("reason", SmallInteger, nullable=False),
    Column("crc", BigInteger, nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("sender", String(16), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("state", _DeadLetterState, nullable=False, server_default=""),
    Column("decided", BigInteger, nullable=True),
    Column("decided_by", String(64), nullable=True),
    Column("why", String(200), nullable=True),
    UniqueConstraint("meter", "log", "generation", "record_id", "reason", "crc", name="uq_letter"),
    Index("ix_letter_state", "state", sqlite_where=text("state <> ''"), postgresql_where=text("state <> ''")),
)

# The slots of quarantined and refused readings: bit s of `mask` is slot s. Released readings are in `part` instead.
quarantined = Table(
    "held",
    metadata,
    Column("meter_no", ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("quarter", Integer, primary_key=True),
    Column("letter_no", _RowId, ForeignKey("letter.no"), primary_key=True),
    Column("mask", BigInteger, nullable=False),
)

# The first quarter with data of a meter's record type, and the quarters (half-open) that the gap finder has searched.
series = Table(
    "series",
    metadata,
    Column("meter_no", ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("first_quarter", Integer, nullable=False),
    Column("scanned_from", Integer, nullable=True),
    Column("scanned_until", Integer, nullable=True),
)

# Bit s of a mask is slot s. `is_open`: a slot is missing that the gateway may have. `touched`: how often the block was
# compacted again since the gap finder checked it.
gap = Table(
    "gap",
    metadata,
    Column("meter_no", ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("quarter", Integer, primary_key=True),
    Column("mask", BigInteger, nullable=False),
    Column("absent", BigInteger, nullable=False),
    Column("asked", Integer, nullable=False),
    Column("next_time", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("touched", Integer, nullable=False, server_default="0"),
    Index("ix_gap_is_open_next_time", "is_open", "next_time"),
    Index("ix_gap_touched", "touched", sqlite_where=text("touched > 0"), postgresql_where=text("touched > 0")),
)

command = Table(
    "command",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("controller", ForeignKey("controller.id"), nullable=False),
    Column("message", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("outcome", Text, nullable=True),
)

gateway_seen = Table(
    "gateway_seen",
    metadata,
    Column("controller", ForeignKey("controller.id"), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("heartbeat", Text, nullable=False),
)

# Running counts by controller, of received data (data sent again counts again), not of stored data.
tally = Table(
    "tally",
    metadata,
    Column("controller", ForeignKey("controller.id"), primary_key=True),
    Column("batches", BigInteger, nullable=False),
    Column("blocks", BigInteger, nullable=False),
    Column("slots", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("letters", BigInteger, nullable=False, key="dead_letters"),
    Column("held", BigInteger, nullable=False, key="quarantined"),
    Column("event_conflicts", BigInteger, nullable=False),
    Column("last_batch", BigInteger, nullable=False),
)

# The periods of jobs, from `start` to before `until`, with the times when each is due and was done. `lease_until` is
# set while an attempt runs. For a job that does not catch up, only the present period is kept.
period = Table(
    "period",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("until", BigInteger, nullable=False),
    Column("due", BigInteger, nullable=False),
    Column("name", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", BigInteger, nullable=True),
    Column("done", BigInteger, nullable=True),
    Index("ix_period_open", "job", "start", sqlite_where=text("done IS NULL"), postgresql_where=text("done IS NULL")),
)

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
)

# What each controller was last told of the supply: the state, and its import limit in watts (empty: none).
ration = Table(
    "ration",
    metadata,
    Column("controller", ForeignKey("controller.id"), primary_key=True),
    Column("quarter", Integer, nullable=False),
    Column("supply", String(16), nullable=False),
    Column("import_limit_w", BigInteger, nullable=True),
    Column("reason", Text, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("command", String(64), nullable=False),
)

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

setting = Table(
    "setting",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
