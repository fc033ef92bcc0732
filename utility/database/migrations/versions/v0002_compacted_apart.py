"""Compacted blocks in a separate table, partitioned by month on PostgreSQL; narrower rows."""

import sqlalchemy as sa
from alembic import op

from commonwatt.model.units import MAX_EPOCH, QUARTER_S
from utility.database.postgres.partitions import make_partitions, month_of

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BLOCK_VIEW = """
CREATE VIEW block AS
SELECT m.label AS meter, m.microgrid AS microgrid, c.record_type AS record_type,
       c.quarter * CAST(900 AS BIGINT) AS start,
       c.exact AS exact, c.averaged AS averaged, 60 - c.exact - c.averaged AS missing, c.conflicts AS conflicts,
       c.total AS total, c.first_reading AS first_reading, c.last_reading AS last_reading,
       c.min_reading AS min_reading, c.max_reading AS max_reading
FROM compacted AS c JOIN meter AS m ON m.no = c.meter_no
"""
"""For people with SQL: the blocks of finished quarters, each once. ``start`` is epoch seconds."""

# Of a block compacted twice, which no release makes, the second is a part like any other, and joined again. So is one
# whose quarter is damaged: it is of no month.
IS_FIRST = f"""p.compacted AND p.quarter BETWEEN 0 AND {MAX_EPOCH // QUARTER_S}
    AND NOT EXISTS (SELECT 1 FROM part AS q WHERE q.compacted AND q.id < p.id
    AND q.meter_no = p.meter_no AND q.record_type = p.record_type AND q.quarter = p.quarter)"""

# 0, where no controller of that name is registered.
NUMBERS = "coalesce(s.number, 0) AS sender_no, coalesce(o.number, 0) AS owner_no"
FROM = "part AS p LEFT JOIN controller AS s ON s.id = p.sender LEFT JOIN controller AS o ON o.id = p.owner"

SAME = "quarter, meter_no, record_type, payload"


def upgrade() -> None:
    """Move compacted blocks to their own table, and make `part` again with the other rows; its numbers continue."""
    connection = op.get_bind()
    is_postgres = connection.dialect.name == "postgresql"
    op.execute("DROP VIEW block")
    _make_compacted()
    quarters = connection.execute(sa.text(f"SELECT DISTINCT quarter FROM part AS p WHERE {IS_FIRST}")).scalars()
    make_partitions(connection, {month_of(quarter) for quarter in quarters})
    readings = "total, first_reading, last_reading, min_reading, max_reading, exact, averaged, conflicts"
    op.execute(
        f"INSERT INTO compacted ({readings}, {SAME}, sender_no, owner_no, received_minute)"
        f" SELECT {readings}, {SAME}, {NUMBERS}, received / 60 FROM {FROM} WHERE {IS_FIRST}"
    )
    op.execute(
        f"CREATE TABLE part_kept AS SELECT p.id AS id, {SAME}, {NUMBERS}, received / 60 AS received_minute"
        f" FROM {FROM} WHERE NOT ({IS_FIRST})"
    )
    last = connection.execute(sa.text("SELECT coalesce(max(id), 0) FROM part")).scalar_one()
    op.drop_table("part")
    _make_part()
    columns = f"id, {SAME}, sender_no, owner_no, received_minute"
    op.execute(f"INSERT INTO part ({columns}) SELECT {columns} FROM part_kept")
    op.drop_table("part_kept")
    op.add_column("gap", sa.Column("touched", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_gap_touched",
        "gap",
        ["touched"],
        sqlite_where=sa.text("touched > 0"),
        postgresql_where=sa.text("touched > 0"),
    )
    op.execute(BLOCK_VIEW)
    if is_postgres:
        op.execute(f"SELECT setval('part_id_seq', {last + 1}, false)")
        # Numbers are taken by the hundred. What is deleted makes room for what comes, and the file's end, which is soon
        # needed again, is not cut off: that would keep those waiting who append.
        op.execute("ALTER SEQUENCE part_id_seq CACHE 100")
        op.execute(
            "ALTER TABLE part SET (vacuum_truncate = false, autovacuum_vacuum_scale_factor = 0.05,"
            " autovacuum_vacuum_insert_scale_factor = 0.5)"
        )
    else:
        op.execute("DELETE FROM sqlite_sequence WHERE name = 'part'")
        op.execute(f"INSERT INTO sqlite_sequence (name, seq) VALUES ('part', {last})")


def _make_compacted() -> None:
    op.create_table(
        "compacted",
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("first_reading", sa.BigInteger(), nullable=True),
        sa.Column("last_reading", sa.BigInteger(), nullable=True),
        sa.Column("min_reading", sa.BigInteger(), nullable=True),
        sa.Column("max_reading", sa.BigInteger(), nullable=True),
        sa.Column("quarter", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("meter_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("received_minute", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("sender_no", sa.SmallInteger(), nullable=False),
        sa.Column("owner_no", sa.SmallInteger(), nullable=False),
        sa.Column("exact", sa.SmallInteger(), nullable=False),
        sa.Column("averaged", sa.SmallInteger(), nullable=False),
        sa.Column("conflicts", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("quarter", "meter_no", "record_type", name=op.f("pk_compacted")),
        postgresql_partition_by="RANGE (quarter)",
    )
    op.create_index(
        "ix_compacted_conflicts",
        "compacted",
        ["owner_no"],
        sqlite_where=sa.text("conflicts > 0"),
        postgresql_where=sa.text("conflicts > 0"),
    )


def _make_part() -> None:
    op.create_table(
        "part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("received_minute", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), nullable=False),
        sa.Column("sender_no", sa.SmallInteger(), nullable=False),
        sa.Column("owner_no", sa.SmallInteger(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_part")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_part_key", "part", ["quarter", "meter_no", "record_type"])
