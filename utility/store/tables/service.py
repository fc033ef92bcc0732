"""Tables of the service itself: commands, heartbeats, counts, jobs, settings."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, SmallInteger, String, Table, Text, text

from utility.store.tables.base import metadata

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
    Index("ix_command_controller_created", "controller", "created"),
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
# set while an attempt runs. For a job that does not catch up, only the present period is kept. `due` of a period that
# failed or waits is the time of its next attempt. `error`: why the last attempt failed; `waits_for`: what the period
# waits for; `took_ms`: the length of the attempt that finished it, real milliseconds.
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
    Column("took_ms", BigInteger, nullable=True),
    Column("error", String(500), nullable=True),
    Column("waits_for", String(500), nullable=True),
    Index("ix_period_open", "job", "start", sqlite_where=text("done IS NULL"), postgresql_where=text("done IS NULL")),
)

# What is known of a job beyond its periods: what a person set (empty: as planned; `minute` is of the local day;
# `paused`: since when), its last period that was done, when, and how long it took, and its last failure.
job = Table(
    "job",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("paused", BigInteger, nullable=True),
    Column("every_s", Integer, nullable=True),
    Column("minute", SmallInteger, nullable=True),
    Column("period", String(32), nullable=True),
    Column("done", BigInteger, nullable=True),
    Column("took_ms", BigInteger, nullable=True),
    Column("failed", BigInteger, nullable=True),
    Column("error", String(500), nullable=True),
)

setting = Table(
    "setting",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("value", Text, nullable=False),
)
