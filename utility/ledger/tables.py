"""The table of the ledger: entries, which the database lets only grow."""

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, String, Table, UniqueConstraint

from utility.database.base import metadata

# Entries (``Entry``). `lines` is JSON.
ledger_entry = Table(
    "ledger_entry",
    metadata,
    Column("no", Integer, primary_key=True, autoincrement=False),
    *(Column(name, Integer, nullable=False, index=True) for name in ("account", "about")),
    *(Column(name, BigInteger, nullable=False) for name in ("cents", "time")),
    Column("day", String(10), nullable=False, index=True),
    *(Column(name, String(200), nullable=False) for name in ("kind", "of", "due", "text", "person")),
    Column("lines", String(400), nullable=False),
    Column("sealed", LargeBinary, nullable=True),
    UniqueConstraint("kind", "of", name="uq_ledger_entry_kind_of"),
)
