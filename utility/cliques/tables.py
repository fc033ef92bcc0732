"""Tables of takeover: what the utility granted, and who managed each microgrid when."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text

from utility.database.base import SMALL, RowId, metadata

# What the utility keeps of a microgrid (``Granted``); each epoch is a counter and a rank. Without `pending_counter`
# nothing waits for an answer.
granted = Table(
    "granted",
    metadata,
    Column("microgrid", String(16), ForeignKey("controller.id"), primary_key=True),
    Column("adopted_counter", BigInteger, nullable=False),
    Column("adopted_rank", Integer, nullable=False),
    Column("seen_counter", BigInteger, nullable=False),
    Column("seen_rank", Integer, nullable=False),
    Column("top", BigInteger, nullable=False),
    Column("pending_counter", BigInteger, nullable=True),
    Column("pending_rank", Integer, nullable=True),
    info=SMALL,
)

# Each epoch that the utility adopted, only appended: the controller that manages under it, since when, and why.
handover = Table(
    "handover",
    metadata,
    Column("no", RowId, primary_key=True, autoincrement=True),
    Column("microgrid", String(16), ForeignKey("controller.id"), nullable=False),
    Column("counter", BigInteger, nullable=False),
    Column("rank", Integer, nullable=False),
    Column("controller", String(16), ForeignKey("controller.id"), nullable=False),
    Column("before", String(16), nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("how", String(16), nullable=False),
    Column("why", Text, nullable=False),
    Index("ix_handover_microgrid_no", "microgrid", "no"),
    Index("ix_handover_since", "since"),
    info=SMALL,
)
