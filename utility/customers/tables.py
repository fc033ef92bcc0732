"""Tables of the people of accounts."""

from sqlalchemy import Column, Integer, LargeBinary, String, Table

from utility.database.base import SMALL, columns, metadata

# Who an account is from a quarter on: `sealed` is encrypted by the office's key (``Contact``), `digest` is what the
# proofs of bills have of it. Deleted on request.
contact = Table(
    "contact",
    metadata,
    *columns(Integer, "account", "since", primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    info=SMALL,
)
