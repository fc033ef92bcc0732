"""Tables of jobs: their periods, what people set, and what is due or done of microgrids' days.

Rooms below those of the jobs mark what is due (``utility.jobs.store``).
"""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, SmallInteger, String, Table, Text, text

from utility.database.base import SMALL, columns, metadata

# The periods of jobs, from `start` to before `until`, with the times when each is due and was done. `lease_until` is
# set while an attempt runs. For a job that does not catch up, only the present period is kept. `due` of a period that
# failed or waits is the time of its next attempt. `error`: why the last attempt failed; `waits_for`: what the period
# waits for; `took_ms`: the length of the attempt that finished it, real milliseconds.
period = Table(
    "period",
    metadata,
    Column("job", String(32), primary_key=True),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    *columns(BigInteger, "until", "due", nullable=False),
    Column("name", String(32), nullable=False),
    Column("attempts", Integer, nullable=False),
    *columns(BigInteger, "lease_until", "done", "took_ms", nullable=True),
    *columns(String(500), "error", "waits_for", nullable=True),
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
    *columns(BigInteger, "done", "took_ms", "failed", nullable=True),
    Column("error", String(500), nullable=True),
    info=SMALL,
)

# Days (of UTC, since 1970) whose readings of a microgrid were joined, corrected or moved since they were last settled.
# `marks` counts how often; `why` is the number of a reason.
settlement_due = Table(
    "settlement_due",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("marks", Integer, nullable=False),
    Column("why", SmallInteger, nullable=False),
)

# What is known of a microgrid's day: how it was settled, in how many quarters a meter lacks a reading, whether it is
# final, and the residual against the boundary (``utility.settlement.residual``).
settled_day = Table(
    "settled_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("convention", String(16), nullable=False),
    Column("computed", BigInteger, nullable=False),
    Column("missing", Integer, nullable=False),
    Column("final", Boolean, nullable=False),
    Column("residual", Text, nullable=False),
)

# Microgrids' quarters whose readings were joined since sharing was last computed for them; `marks` counts how often.
sharing_due = Table(
    "sharing_due",
    metadata,
    Column("quarter", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("marks", Integer, nullable=False),
)

# Microgrids' days (of UTC) that were settled, or whose accounts changed, since statistics last saw them.
usage_due = Table(
    "usage_due",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    Column("marks", Integer, nullable=False),
)

# Slots of a microgrid's day (of UTC, since 1970) by ``Completeness``. `marks` counts how often readings of the day were
# joined since they were counted; `computed` 0: not counted yet.
complete_day = Table(
    "complete_day",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("owner_no", SmallInteger, primary_key=True, autoincrement=False),
    *columns(
        BigInteger,
        "exact",
        "averaged",
        "quarantined",
        "refused",
        "off",
        "absent",
        "missing",
        "computed",
        nullable=False,
        server_default="0",
    ),
    Column("marks", Integer, nullable=False),
    Index("ix_complete_day_due", "day", sqlite_where=text("marks > 0"), postgresql_where=text("marks > 0")),
)
