"""Tables of people, sessions, tokens, and of the audit log."""

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, String, Table, Text

from utility.database.base import RowId, columns, let_only_grow, metadata

# Times of these tables are the machine's epoch seconds, also in a demonstration with a clock of its own, except for
# `audit.time` and the times of changes by others. `password`: a hash; null: the person has not accepted an invitation
# yet. `link_by`, `roles_by`, `factor_by`: the other person who last made the link of the present password, gave the
# roles, or removed the second factor, and when by the service's clock; null: nobody did. Own changes are not there.
person = Table(
    "person",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("display", String(64), nullable=False),
    Column("password", String(160), nullable=True),
    Column("state", String(8), nullable=False),
    Column("account", Integer, nullable=True),
    Column("created", BigInteger, nullable=False),
    Column("created_by", String(32), nullable=False),
    Column("link_by", String(32), nullable=True),
    Column("link_at", BigInteger, nullable=True),
    Column("roles_by", String(32), nullable=True),
    Column("roles_at", BigInteger, nullable=True),
    Column("factor_by", String(32), nullable=True),
    Column("factor_at", BigInteger, nullable=True),
)

person_role = Table(
    "person_role",
    metadata,
    Column("person", ForeignKey("person.name"), primary_key=True),
    Column("role", String(16), primary_key=True),
)

session = Table(
    "session",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.name"), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    *columns(BigInteger, "opened", "used", "until", nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(128), nullable=False),
)

invitation = Table(
    "invitation",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.name"), nullable=False, index=True),
    Column("made", BigInteger, nullable=False),
    Column("made_by", String(32), nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("used", BigInteger, nullable=True),
)

# `secret`: in force since `since`; null: none is. `offered`: the digest of a secret that is to be confirmed by a code.
# `last_step`: the newest step of 30 s of which a code was used. `guesses_until`: when its wrong codes are forgotten.
second_factor = Table(
    "second_factor",
    metadata,
    Column("person", ForeignKey("person.name"), primary_key=True),
    Column("secret", String(32), nullable=True),
    Column("since", BigInteger, nullable=True),
    *columns(BigInteger, "last_step", "guesses_until", nullable=False),
    Column("offered", String(64), nullable=True),
    Column("offered_until", BigInteger, nullable=True),
)

# Codes that were not used yet.
recovery_code = Table(
    "recovery_code",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.name"), nullable=False, index=True),
)

# Logins with the right password that wait for the second factor; no session yet.
started_login = Table(
    "started_login",
    metadata,
    Column("digest", String(64), primary_key=True),
    Column("person", ForeignKey("person.name"), nullable=False, index=True),
    Column("until", BigInteger, nullable=False),
    Column("wrong", Integer, nullable=False),
)

# `roles`: the token's scope, separated by commas; a role that its person has lost does not count.
api_token = Table(
    "api_token",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("digest", String(64), nullable=False, unique=True),
    Column("person", ForeignKey("person.name"), nullable=False, index=True),
    Column("label", String(64), nullable=False),
    Column("roles", String(128), nullable=False),
    *columns(BigInteger, "made", "until", nullable=False),
    *columns(BigInteger, "used", "revoked", nullable=True),
)

# Triggers refuse every update and deletion of a row. `before` and `after` are JSON. `token`: the number
# of the API token with which it was done; null: by none, or before there was this column.
audit = Table(
    "audit",
    metadata,
    Column("no", RowId, primary_key=True),
    Column("time", BigInteger, nullable=False, index=True),
    Column("person", String(32), nullable=False),
    Column("via", String(8), nullable=False),
    Column("address", String(64), nullable=False),
    Column("action", String(48), nullable=False),
    Column("subject", String(128), nullable=False),
    *columns(Text, "before", "after", nullable=True),
    Column("token", BigInteger, nullable=True, index=True),
)
let_only_grow("audit", "the audit log", "audit", "audit_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE")
