"""Tables of the registry's dates: where each meter was, which account had it when, and the terms of accounts (T8).

Meters stand with their ids (``signed64``), not their numbers: their history outlives a damaged row of ``meter``. Dates
are quarters. `crc` covers a row's other columns (``checks.row_crc``).
"""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, Text

from utility.store.tables.base import RowId, metadata

# A meter at a place. `since` is empty: since ever; `until` is the quarter after the last, empty: it is still there.
# `first_register` and `last_register` are its registers at an exchange, milliwatt-hours.
installed = Table(
    "installed",
    metadata,
    Column("meter", BigInteger, primary_key=True, autoincrement=False),
    Column("place", String(200), nullable=False),
    Column("building", String(200), nullable=True),
    Column("since", Integer, nullable=True),
    Column("until", Integer, nullable=True),
    Column("first_register", BigInteger, nullable=True),
    Column("last_register", BigInteger, nullable=True),
    Column("crc", BigInteger, nullable=False),
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
)

account = Table(
    "account",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("made", BigInteger, nullable=False),
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
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Index("ix_registry_change_subject", "subject"),
)

# Accounts that meters report and that are not theirs in the registry; `told` is -1 for all beyond a meter's limit.
account_difference = Table(
    "account_difference",
    metadata,
    Column("meter", BigInteger, primary_key=True, autoincrement=False),
    Column("told", Integer, primary_key=True, autoincrement=False),
    Column("registered", Integer, nullable=False),
    Column("first", BigInteger, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("reports", BigInteger, nullable=False),
)
