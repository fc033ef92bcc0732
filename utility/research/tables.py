"""Tables of what researchers got: agreements and releases (U7)."""

from sqlalchemy import BigInteger, Column, Integer, String, Table, Text

from utility.database.base import SMALL, columns, metadata

# Researchers who may get identifiable data, until when.
research_agreement = Table(
    "research_agreement",
    metadata,
    Column("name", String(64), primary_key=True),
    *columns(BigInteger, "until", "added", nullable=False),
    Column("added_by", String(32), nullable=False),
    info=SMALL,
)

# Releases, by their ids. `since` and `until` are quarters, half-open. `state` is `waiting` until a second person
# approves what is above the limit, then `approved`; `released` when its files were written. `options`, `attacks` and
# `groups` are JSON; `groups` has the digest of each group of the open tier.
research_release = Table(
    "research_release",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("tier", String(16), nullable=False),
    *columns(Integer, "since", "until", nullable=False),
    *columns(Text, "options", "attacks", "groups", nullable=False),
    Column("state", String(16), nullable=False),
    Column("asked", BigInteger, nullable=False),
    Column("asked_by", String(32), nullable=False),
    Column("decided", BigInteger, nullable=True),
    Column("decided_by", String(32), nullable=True),
    Column("why", String(200), nullable=True),
    info=SMALL,
)
