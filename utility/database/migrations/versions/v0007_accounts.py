"""The registry's dates: what each meter's column says holds since ever, until a person dates a change."""

import zlib

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of accounts, and fill them from the meters."""
    _make_registry()
    op.create_table(
        "registry_change",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("person", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=40), nullable=False),
        sa.Column("before", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_registry_change")),
    )
    op.create_index("ix_registry_change_subject", "registry_change", ["subject"])
    op.create_table(
        "account_difference",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("told", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("registered", sa.Integer(), nullable=False),
        sa.Column("first", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.Column("reports", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "told", name=op.f("pk_account_difference")),
    )
    _fill()


def _make_registry() -> None:
    op.create_table(
        "installed",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("place", sa.String(length=200), nullable=False),
        sa.Column("building", sa.String(length=200), nullable=True),
        sa.Column("since", sa.Integer(), nullable=True),
        sa.Column("until", sa.Integer(), nullable=True),
        sa.Column("first_register", sa.BigInteger(), nullable=True),
        sa.Column("last_register", sa.BigInteger(), nullable=True),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", name=op.f("pk_installed")),
    )
    op.create_table(
        "holding",
        sa.Column("meter", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("since", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("until", sa.Integer(), nullable=True),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("meter", "since", name=op.f("pk_holding")),
    )
    op.create_table(
        "account",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("made", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_account")),
    )
    op.create_table(
        "account_term",
        sa.Column("account", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("what", sa.String(length=8), nullable=False),
        sa.Column("since", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(length=64), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "what", "since", name=op.f("pk_account_term")),
    )


def _fill() -> None:
    """Each meter has been at its place since ever, and its account had it since ever."""
    connection = op.get_bind()
    found = connection.execute(sa.text("SELECT id, microgrid, location, function, account FROM meter")).all()
    buildings = {(row.microgrid, row.location) for row in found if row.function == "building"}
    places, holdings = [], []
    for row in found:
        whole = row.location.partition(" apartment ")[0]
        building = whole if row.function == "apartment" and (row.microgrid, whole) in buildings else None
        place = {"meter": row.id, "place": row.location, "building": building, "since": None, "until": None}
        places.append(_checked(place | {"first_register": None, "last_register": None}))
        if row.account:
            holdings.append(_checked({"meter": row.id, "since": 0, "until": None, "account": row.account}))
    numbers = sorted({row.account for row in found if row.account})
    for table, rows in (
        ("installed", places),
        ("holding", holdings),
        ("account", [{"number": number, "made": 0} for number in numbers]),
    ):
        if rows:
            names = list(rows[0])
            values = ", ".join(f":{name}" for name in names)
            connection.execute(sa.text(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})"), rows)


def _checked(row: dict[str, object]) -> dict[str, object]:
    """Return a row with its checksum: of its values, in the order of the table's columns."""
    return row | {"crc": zlib.crc32(repr(list(row.values())).encode(errors="surrogatepass"))}
