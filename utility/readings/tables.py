"""Tables of the service itself: commands, heartbeats, counts, jobs, settings."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    false,
    text,
)

from utility.database.base import SMALL, RowId, columns, metadata, when_made

# What a controller relayed on a day (of UTC, since 1970), of batches with readings; `seconds`: for how long it was
# counted; `size`: bytes of the messages.
relayed_day = Table(
    "relayed_day",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    *columns(BigInteger, "seconds", "batches", "blocks", "slots", "size", nullable=False),
)


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


# What gateways sent and is not compacted yet, a row for each message. `received_minute` is epoch seconds // 60, which
# fits four bytes after 2038. The numbers refer to `meter` and `controller` without foreign keys, which would cost a
# lookup for every row; meters and controllers are never deleted.
batch = Table(
    "batch",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    *columns(Integer, "first_quarter", "last_quarter", "low_meter", "high_meter", nullable=False),
    Column("received_minute", Integer, nullable=False),
    *columns(SmallInteger, "blocks", "sender_no", "owner_no", nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_batch_key", "first_quarter", "low_meter", "high_meter", "last_quarter"),
    # A number is never used twice, so the compactor deletes exactly the batches that it has read.
    sqlite_autoincrement=True,
)

# Parts that are neither in a batch nor compacted: of released readings, and of batches with a damaged part.
part = Table(
    "part",
    metadata,
    Column("id", RowId, primary_key=True, autoincrement=True),
    *columns(Integer, "quarter", "meter_no", "received_minute", nullable=False),
    *columns(SmallInteger, "record_type", "sender_no", "owner_no", nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("ix_part_key", "quarter", "meter_no", "record_type"),
    # A number is never used twice, so the compactor deletes exactly the parts that it has read.
    sqlite_autoincrement=True,
)

# The blocks of finished quarters, one row each: the join of their parts, without those that are still in `batch` or
# `part`. `sender_no` is 0 for parts from several controllers. `exact`, `averaged` and `conflicts` count slots; readings
# are milliwatt-hours; only flows have a `total`. Wide columns come first, to waste no bytes on alignment; the key
# begins with the quarter, so that new blocks go to the end of the index.
compacted = Table(
    "compacted",
    metadata,
    *columns(BigInteger, "total", "first_reading", "last_reading", "min_reading", "max_reading", nullable=True),
    *columns(Integer, "quarter", "meter_no", primary_key=True, autoincrement=False),
    Column("received_minute", Integer, nullable=False),
    Column("record_type", SmallInteger, primary_key=True, autoincrement=False),
    *columns(SmallInteger, "sender_no", "owner_no", "exact", "averaged", "conflicts", nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index(
        "ix_compacted_conflicts",
        "owner_no",
        sqlite_where=text("conflicts > 0"),
        postgresql_where=text("conflicts > 0"),
    ),
    postgresql_partition_by="RANGE (quarter)",
)

for _dialect in ("sqlite", "postgresql"):
    # For people with SQL: the blocks of finished quarters, each once. `start` is epoch seconds.
    when_made(
        _dialect,
        """
        CREATE VIEW block AS
        SELECT m.label AS meter, m.microgrid AS microgrid, c.record_type AS record_type,
               c.quarter * CAST(900 AS BIGINT) AS start,
               c.exact AS exact, c.averaged AS averaged, 60 - c.exact - c.averaged AS missing, c.conflicts AS conflicts,
               c.total AS total, c.first_reading AS first_reading, c.last_reading AS last_reading,
               c.min_reading AS min_reading, c.max_reading AS max_reading
        FROM compacted AS c JOIN meter AS m ON m.no = c.meter_no
        """,
    )
# Numbers are taken by the hundred. What is deleted makes room for what comes, and the file's end, which is soon needed
# again, is not cut off: that would keep those waiting who append.
_REUSED = "vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05"
when_made(
    "postgresql",
    "ALTER SEQUENCE part_id_seq CACHE 100",
    f"ALTER TABLE part SET ({_REUSED}, autovacuum_vacuum_insert_scale_factor = 0.5)",
    f"ALTER TABLE batch SET ({_REUSED})",
)

# Which controller sent each value of a conflicting slot, for blocks with `sender_no` 0.
conflict_sender = Table(
    "conflict_sender",
    metadata,
    *columns(Integer, "quarter", "meter_no", primary_key=True, autoincrement=False),
    *columns(SmallInteger, "record_type", "slot", primary_key=True, autoincrement=False),
    Column("value", BigInteger, primary_key=True, autoincrement=False),
    Column("sender_no", SmallInteger, primary_key=True, autoincrement=False),
)

event = Table(
    "event",
    metadata,
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True),
    *columns(BigInteger, "generation", "record_id", primary_key=True),
    *columns(Integer, "previous_state", "new_state", nullable=False),
    Column("time", BigInteger, nullable=False),
    *columns(String(16), "sender", "owner", nullable=False),
    Column("crc", BigInteger, nullable=False),
    Index("ix_event_meter_no_time", "meter_no", "time"),
)

# `crc` is of the content: a dead letter sent again has the same key, another one with the same numbers does not.
# `state` is empty, or `quarantined` until a person decides, then `released` or `refused`; the next three columns are
# the time, the person and the reason.
dead_letter = Table(
    "letter",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("meter", BigInteger, nullable=False),
    Column("log", SmallInteger, nullable=False),
    *columns(BigInteger, "generation", "record_id", nullable=False),
    Column("reason", SmallInteger, nullable=False),
    *columns(BigInteger, "crc", "time", nullable=False),
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
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("quarter", Integer, primary_key=True),
    Column("letter_no", RowId, ForeignKey("letter.no"), primary_key=True),
    Column("mask", BigInteger, nullable=False),
    info=SMALL,
)

# The first quarter with data of a meter's record type, and the quarters (half-open) that the gap finder has searched.
series = Table(
    "series",
    metadata,
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("first_quarter", Integer, nullable=False),
    *columns(Integer, "scanned_from", "scanned_until", nullable=True),
    info=SMALL,
)

# Bit s of a mask is slot s. `is_open`: a slot is missing that the gateway may have. `touched`: how often the block was
# compacted again since the gap finder checked it.
gap = Table(
    "gap",
    metadata,
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("quarter", Integer, primary_key=True),
    *columns(BigInteger, "mask", "absent", nullable=False),
    Column("asked", Integer, nullable=False),
    Column("next_time", BigInteger, nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("touched", Integer, nullable=False, server_default="0"),
    Index("ix_gap_is_open_next_time", "is_open", "next_time"),
    Index("ix_gap_touched", "touched", sqlite_where=text("touched > 0"), postgresql_where=text("touched > 0")),
    info=SMALL,
)

# The slots of a gap that one controller's store does not have, where several may have them, and why that is known
# (``gaps.Why``); `absent` of the gap has those that none has.
absent_at = Table(
    "absent_at",
    metadata,
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True),
    Column("record_type", SmallInteger, primary_key=True),
    Column("quarter", Integer, primary_key=True),
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("mask", BigInteger, nullable=False),
    Column("why", String(16), nullable=False),
    info=SMALL,
)

gateway_seen = Table(
    "gateway_seen",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("time", BigInteger, nullable=False),
    Column("heartbeat", Text, nullable=False),
    Column("tuned", Boolean, nullable=False, server_default=false()),
)

# Running counts by controller, of received data (data sent again counts again), not of stored data.
tally = Table(
    "tally",
    metadata,
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    *columns(BigInteger, "batches", "blocks", "slots", "events", nullable=False),
    Column("letters", BigInteger, nullable=False, key="dead_letters"),
    Column("held", BigInteger, nullable=False, key="quarantined"),
    *columns(BigInteger, "event_conflicts", "last_batch", nullable=False),
    info=SMALL,
)
