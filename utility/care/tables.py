"""The table of codes with which controllers have joined."""

from sqlalchemy import BigInteger, Column, String, Table

from utility.database.base import SMALL, metadata

used_code = Table(
    "used_code",
    metadata,
    Column("lookup", String(64), primary_key=True),  # under which the utility finds the code
    Column("place", String(16), nullable=False),
    Column("keys", String(64), nullable=False),  # digest of the two public keys that used it
    Column("address", String(45), nullable=False),  # where the request came from
    Column("used", BigInteger, nullable=False),  # when, machine's epoch seconds
    info=SMALL,
)
