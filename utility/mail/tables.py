"""The table of mails."""

from sqlalchemy import BigInteger, Column, Integer, String, Table, UniqueConstraint

from utility.database.base import SMALL, RowId, columns, metadata

# Each mail once: a bill or a reminder (`subject` begins with the number of the run), or the question whether an address
# is right (`subject` is the address's digest, `base` what its link begins with). `answer` is the last code of the mail
# server, or why it came back (``message.reason_of``); 0: none. Addresses are not here.
mail = Table(
    "mail",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("account", Integer, nullable=False),
    Column("subject", String(64), nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("due", BigInteger, nullable=False),
    *columns(Integer, "tries", "answer", nullable=False, default=0),
    Column("base", String(200), nullable=False),
    UniqueConstraint("kind", "account", "subject", name="uq_mail_kind_account_subject"),
    info=SMALL,
)
