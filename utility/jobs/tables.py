"""Tables of jobs: their periods, and what people set."""

from sqlalchemy import BigInteger, Column, Index, Integer, SmallInteger, String, Table, text

from utility.database.base import SMALL, metadata

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
    info=SMALL,
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
    info=SMALL,
)
