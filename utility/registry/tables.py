"""Tables of the registry: controllers, meters, accounts, and their dates (T8)."""

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, exists, select

from utility.database.base import CHECKED, SMALL, RowId, columns, metadata

# A meter at a place. `since` is empty: from the beginning. `until` is the quarter after the last, empty: it is still
# there. `first_register` and `last_register` are its registers at an exchange, milliwatt-hours.
installed = Table(
    "installed",
    metadata,
    Column("meter", BigInteger, primary_key=True, autoincrement=False),
    Column("place", String(200), nullable=False),
    Column("building", String(200), nullable=True),
    *columns(Integer, "since", "until", nullable=True),
    *columns(BigInteger, "first_register", "last_register", nullable=True),
    Column("crc", BigInteger, nullable=False),
    info=CHECKED,
)

# Which account had a meter from `since` to before `until`; empty: it goes on.
holding = Table(
    "holding",
    metadata,
    Column("meter", BigInteger, primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("until", Integer, nullable=True),
    Column("account", Integer, nullable=False),
    Column("crc", BigInteger, nullable=False),
    info=CHECKED,
)

account = Table(
    "account",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("made", BigInteger, nullable=False),
    info=SMALL,
)

# What holds for an account from a quarter on: `what` is tariff, minimum (percent) or weight (decimal).
account_term = Table(
    "account_term",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("what", String(8), primary_key=True),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("value", String(64), nullable=False),
    Column("crc", BigInteger, nullable=False),
    info=CHECKED,
)

# Accounts whose place must not be cut. `wanted` is what a person asked for, until another one decides; empty: nothing.
spared_place = Table(
    "spared_place",
    metadata,
    Column("account", Integer, primary_key=True),
    Column("is_spared", Boolean, nullable=False),
    Column("wanted", Boolean, nullable=True),
    Column("asked_by", String(32), nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("decided_by", String(32), nullable=True),
    Column("decided", BigInteger, nullable=True),
    info=SMALL,
)

# Each change that a person made, only appended: `subject` is a meter or an account, such as "meter 10001"; `before`
# and `after` are for people, a fact a line.
registry_change = Table(
    "registry_change",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("time", BigInteger, nullable=False),
    Column("person", String(64), nullable=False),
    Column("subject", String(40), nullable=False),
    *columns(Text, "before", "after", nullable=False),
    Index("ix_registry_change_subject", "subject"),
)

# The accounts that moved out by the clerk's form, each with the first quarter without its home; the audit log has more.
move = Table(
    "move",
    metadata,
    *columns(Integer, "account", "quarter", primary_key=True, autoincrement=False),
)

# Accounts that meters report and that are not theirs in the registry; `told` is -1 for all beyond a meter's limit.
account_difference = Table(
    "account_difference",
    metadata,
    Column("meter", BigInteger, primary_key=True, autoincrement=False),
    Column("told", Integer, primary_key=True, autoincrement=False),
    Column("registered", Integer, nullable=False),
    *columns(BigInteger, "first", "last", "reports", nullable=False),
)

controller = Table(
    "controller",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("number", Integer, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("address", String(45), nullable=False),
    info=SMALL,
)

# Which controllers may manage a microgrid, and so relay its meters' data: its own has place 0; in a clique its backups
# follow. Empty: it may no longer manage it, and may still relay what it has.
may_manage = Table(
    "may_manage",
    metadata,
    Column("microgrid", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("place", Integer, nullable=True),
    info=SMALL,
)

# The further controllers that take the records of a microgrid's meters, in their order; one without a place does no
# longer, and may still relay what it has.
collector = Table(
    "collector",
    metadata,
    Column("microgrid", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("controller", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("place", Integer, nullable=True),
    info=SMALL,
)

# `no` takes four bytes in every part, the id would take eight; `label` is the id in decimal, for people. `crc` covers
# all other columns except `no` (``checks.row_crc``), here and in `event`.
meter = Table(
    "meter",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=True),
    Column("id", BigInteger, nullable=False, unique=True),
    Column("label", String(20), nullable=False, unique=True),
    Column("microgrid", String(16), ForeignKey("controller.id"), nullable=False, index=True),
    Column("address", String(45), nullable=False),
    Column("location", String(200), nullable=False),
    *columns(String(16), "function", "direction", nullable=False),
    Column("account", Integer, nullable=False),
    Column("record_types", String(32), nullable=False),
    Column("service_amps", Integer, nullable=False),
    Column("battery_capacity", BigInteger, nullable=True),
    Column("minimum_percent", Integer, nullable=True),
    Column("push", Boolean, nullable=False),
    Column("crc", BigInteger, nullable=False),
    info=CHECKED,
)

# The sharing minima that a meter itself reported, each with its first report; they override the town file's (T6).
declared_minimum = Table(
    "declared_minimum",
    metadata,
    Column("meter_no", Integer, ForeignKey("meter.no"), primary_key=True, autoincrement=False),
    Column("percent", Integer, nullable=False),
    Column("said", BigInteger, primary_key=True, autoincrement=False),
)

_later = declared_minimum.alias("later")
present_minimum = (  # the last one of each meter
    select(declared_minimum)
    .where(~exists().where(_later.c.meter_no == declared_minimum.c.meter_no, _later.c.said > declared_minimum.c.said))
    .subquery("present_minimum")
)
