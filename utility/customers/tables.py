"""Tables of the people of accounts."""

from sqlalchemy import Column, Integer, LargeBinary, String, Table

from utility.database.base import SMALL, metadata

# Who an account is from a quarter on: `sealed` is encrypted by the office's key (``Contact``), `digest` is what the
# proofs of bills have of it. Deleted on request.
contact = Table(
    "contact",
    metadata,
    Column("account", Integer, primary_key=True, autoincrement=False),
    Column("since", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    info=SMALL,
)

# Contacts that a correction of the same quarter replaced: a bill that was issued with one is printed with it.
former_contact = Table(
    "former_contact",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("account", Integer, nullable=False, index=True),
    Column("since", Integer, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    info=SMALL,
)
