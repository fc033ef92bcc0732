"""The table of the ledger: entries, which the database lets only grow."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, UniqueConstraint

from utility.database.base import columns, let_only_grow, metadata

# Entries (``Entry``). `lines` is JSON.
ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("no", Integer, primary_key=True),
    *columns(Integer, "account", "about", nullable=False, index=True),
    *columns(BigInteger, "cents", "time", nullable=False),
    Column("day", String(10), nullable=False, index=True),
    *columns(String(200), "kind", "of", "due", "text", "person", nullable=False),
    Column("lines", String(400), nullable=False),
    Column("sealed", LargeBinary, nullable=True),
    UniqueConstraint("kind", "of", name="uq_ledger_entry_kind_of"),
)
let_only_grow(
    "ledger_entry", "the ledger", "ledger", "ledger_no_update BEFORE UPDATE", "ledger_no_delete BEFORE DELETE"
)
