"""Tables of tariffs, runs of bills and bills (U2, U3)."""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from utility.database.base import SMALL, RowId, columns, metadata

# Runs of bills, a row each. `inputs` is everything that the bills were computed from, but for settled data, of which
# the rows up to `settled_no` count; `digest` is over all bills. `by_job` is the month of a run that the service made.
# `root` is of the tree over all bills, salted by `secret`; `leaves` are the hashes of its leaves, by account;
# `head` has the root and what stands beside it, as JSON. `state`: draft, checked, issued, or cancelled (after issued).
bill_run = Table(
    "bill_run",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("month", String(7), nullable=False),
    Column("by_job", String(7), nullable=True, unique=True),
    *columns(String(16), "state", "policy", nullable=False),
    Column("code", String(32), nullable=False),
    *columns(BigInteger, "settled_no", "previous_no", nullable=False),
    *columns(String(64), "inputs_digest", "digest", nullable=False),
    Column("root", String(64), nullable=True),
    Column("figures", Text, nullable=False),
    Column("inputs", LargeBinary, nullable=False),
    Column("made_by", String(32), nullable=False),
    Column("made", BigInteger, nullable=False),
    Column("checked_by", String(32), nullable=True),
    Column("checked", BigInteger, nullable=True),
    Column("issued_by", String(32), nullable=True),
    Column("issued", BigInteger, nullable=True),
    *columns(LargeBinary, "secret", "leaves", nullable=True),
    Column("head", Text, nullable=True),
    UniqueConstraint("month", "inputs_digest", name="uq_bill_run_month_inputs"),
    Index(
        "ix_bill_run_issued",
        "month",
        unique=True,
        sqlite_where=text("state = 'issued'"),
        postgresql_where=text("state = 'issued'"),
    ),
    info=SMALL,
)

# What controllers answered that were asked to sign the check code of an issued run. `command` asked for it; `state`:
# signed or refused. `signed` is as in the outcome.
witness = Table(
    "witness",
    metadata,
    Column("run_no", ForeignKey("bill_run.no", name="fk_witness_run_no_bill_run"), primary_key=True),
    Column("controller", String(16), primary_key=True),
    Column("command", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("signed", String(192), nullable=True),
    info=SMALL,
)

# The keys by which controllers sign, in hexadecimal: `bound` and `certificate` are as in the outcome that brought them.
witness_key = Table(
    "witness_key",
    metadata,
    Column("controller", String(16), primary_key=True),
    Column("key", String(64), primary_key=True),
    Column("bound", String(144), nullable=False),
    Column("certificate", Text, nullable=False),
    info=SMALL,
)

# What two people enter for bills. `subject` is the account, of a run that is cancelled the run. `state`: entered,
# approved, or withdrawn. `left_cents` is what no issued bill has of it; it and `cents` are negative in favour of the
# account.
bill_entry = Table(
    "bill_entry",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("subject", Integer, nullable=False),
    *columns(BigInteger, "cents", "left_cents", "entered", nullable=False),
    Column("decided", BigInteger, nullable=True),
    Column("kind", String(16), nullable=False),
    Column("reason", String(200), nullable=False),
    Column("state", String(16), nullable=False),
    Column("entered_by", String(32), nullable=False),
    Column("decided_by", String(32), nullable=True),
    info=SMALL,
)

# The bills of runs: the total in cents, the account's own base from the next month on (empty: none), canonical JSON.
bill = Table(
    "bill",
    metadata,
    Column("run_no", ForeignKey("bill_run.no"), primary_key=True),
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("cents", BigInteger, nullable=False),
    Column("base", String(16), nullable=True),
    Column("content", Text, nullable=False),
)
