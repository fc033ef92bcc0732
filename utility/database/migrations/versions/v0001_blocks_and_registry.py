"""Blocks, events, dead letters, gaps, commands and the registry."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BLOCK_VIEW = """
CREATE VIEW block AS
SELECT m.label AS meter, m.microgrid AS microgrid, p.record_type AS record_type, p.quarter * 900 AS start,
       p.exact AS exact, p.averaged AS averaged, 60 - p.exact - p.averaged AS missing, p.conflicts AS conflicts,
       p.total AS total, p.first_reading AS first_reading, p.last_reading AS last_reading,
       p.min_reading AS min_reading, p.max_reading AS max_reading
FROM part AS p JOIN meter AS m ON m.no = p.meter_no
WHERE p.compacted
"""
"""For people with SQL: the blocks of finished quarters, each once. ``start`` is epoch seconds."""


def upgrade() -> None:
    """Make the first schema."""
    op.create_table(
        "controller",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_controller")),
        sa.UniqueConstraint("number", name=op.f("uq_controller_number")),
    )
    op.create_table(
        "letter",
        sa.Column("no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("meter", sa.BigInteger(), nullable=False),
        sa.Column("log", sa.SmallInteger(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.SmallInteger(), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(length=8), server_default="", nullable=False),
        sa.Column("decided", sa.BigInteger(), nullable=True),
        sa.Column("decided_by", sa.String(length=64), nullable=True),
        sa.Column("why", sa.String(length=200), nullable=True),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_letter")),
        sa.UniqueConstraint("meter", "log", "generation", "record_id", "reason", "crc", name="uq_letter"),
    )
    op.create_index(
        "ix_letter_state",
        "letter",
        ["state"],
        sqlite_where=sa.text("state <> ''"),
        postgresql_where=sa.text("state <> ''"),
    )
    op.create_table(
        "period",
        sa.Column("job", sa.String(length=32), nullable=False),
        sa.Column("last_done", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("job", name=op.f("pk_period")),
    )
    op.create_table(
        "setting",
        sa.Column("key", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_setting")),
    )
    op.create_table(
        "command",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("controller", sa.String(length=16), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_command_controller")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_command")),
    )
    op.create_index(op.f("ix_command_state"), "command", ["state"], unique=False)
    op.create_table(
        "gateway_seen",
        sa.Column("controller", sa.String(length=16), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("heartbeat", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_gateway_seen_controller")),
        sa.PrimaryKeyConstraint("controller", name=op.f("pk_gateway_seen")),
    )
    op.create_table(
        "meter",
        sa.Column("no", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("id", sa.BigInteger(), nullable=False),
        sa.Column("label", sa.String(length=20), nullable=False),
        sa.Column("microgrid", sa.String(length=16), nullable=False),
        sa.Column("address", sa.String(length=45), nullable=False),
        sa.Column("location", sa.String(length=200), nullable=False),
        sa.Column("function", sa.String(length=16), nullable=False),
        sa.Column("direction", sa.String(length=16), nullable=False),
        sa.Column("account", sa.Integer(), nullable=False),
        sa.Column("record_types", sa.String(length=32), nullable=False),
        sa.Column("service_amps", sa.Integer(), nullable=False),
        sa.Column("battery_capacity", sa.BigInteger(), nullable=True),
        sa.Column("minimum_percent", sa.Integer(), nullable=True),
        sa.Column("push", sa.Boolean(), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["microgrid"], ["controller.id"], name=op.f("fk_meter_microgrid")),
        sa.PrimaryKeyConstraint("no", name=op.f("pk_meter")),
        sa.UniqueConstraint("id", name=op.f("uq_meter_id")),
        sa.UniqueConstraint("label", name=op.f("uq_meter_label")),
    )
    op.create_index(op.f("ix_meter_microgrid"), "meter", ["microgrid"], unique=False)
    op.create_table(
        "declared_minimum",
        sa.Column("meter_no", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("percent", sa.Integer(), nullable=False),
        sa.Column("said", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_declared_minimum_meter_no")),
        sa.PrimaryKeyConstraint("meter_no", name=op.f("pk_declared_minimum")),
    )
    op.create_table(
        "tally",
        sa.Column("controller", sa.String(length=16), nullable=False),
        sa.Column("batches", sa.BigInteger(), nullable=False),
        sa.Column("blocks", sa.BigInteger(), nullable=False),
        sa.Column("slots", sa.BigInteger(), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("letters", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
        sa.Column("event_conflicts", sa.BigInteger(), nullable=False),
        sa.Column("last_batch", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_tally_controller")),
        sa.PrimaryKeyConstraint("controller", name=op.f("pk_tally")),
    )
    op.create_table(
        "event",
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.BigInteger(), nullable=False),
        sa.Column("previous_state", sa.Integer(), nullable=False),
        sa.Column("new_state", sa.Integer(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=16), nullable=False),
        sa.Column("crc", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_event_meter_no")),
        sa.PrimaryKeyConstraint("meter_no", "generation", "record_id", name=op.f("pk_event")),
    )
    op.create_index("ix_event_meter_no_time", "event", ["meter_no", "time"], unique=False)
    op.create_table(
        "gap",
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), nullable=False),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("mask", sa.BigInteger(), nullable=False),
        sa.Column("absent", sa.BigInteger(), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("next_time", sa.BigInteger(), nullable=False),
        sa.Column("is_open", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_gap_meter_no")),
        sa.PrimaryKeyConstraint("meter_no", "record_type", "quarter", name=op.f("pk_gap")),
    )
    op.create_index("ix_gap_is_open_next_time", "gap", ["is_open", "next_time"], unique=False)
    op.create_table(
        "held",
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), nullable=False),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("letter_no", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mask", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["letter_no"], ["letter.no"], name=op.f("fk_held_letter_no")),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_held_meter_no")),
        sa.PrimaryKeyConstraint("meter_no", "record_type", "quarter", "letter_no", name=op.f("pk_held")),
    )
    op.create_table(
        "part",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), nullable=False),
        sa.Column("quarter", sa.Integer(), nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=16), nullable=False),
        sa.Column("compacted", sa.Boolean(), nullable=False),
        sa.Column("exact", sa.SmallInteger(), nullable=False),
        sa.Column("averaged", sa.SmallInteger(), nullable=False),
        sa.Column("conflicts", sa.SmallInteger(), nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("first_reading", sa.BigInteger(), nullable=True),
        sa.Column("last_reading", sa.BigInteger(), nullable=True),
        sa.Column("min_reading", sa.BigInteger(), nullable=True),
        sa.Column("max_reading", sa.BigInteger(), nullable=True),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_part_meter_no")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_part")),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_part_conflicts",
        "part",
        ["owner"],
        unique=False,
        sqlite_where=sa.text("conflicts > 0"),
        postgresql_where=sa.text("conflicts > 0"),
    )
    op.create_index(
        "ix_part_fresh",
        "part",
        ["quarter", "meter_no", "record_type"],
        unique=False,
        sqlite_where=sa.text("NOT compacted"),
        postgresql_where=sa.text("NOT compacted"),
    )
    op.create_index("ix_part_key", "part", ["meter_no", "record_type", "quarter"], unique=False)
    op.create_table(
        "series",
        sa.Column("meter_no", sa.Integer(), nullable=False),
        sa.Column("record_type", sa.SmallInteger(), nullable=False),
        sa.Column("first_quarter", sa.Integer(), nullable=False),
        sa.Column("scanned_from", sa.Integer(), nullable=True),
        sa.Column("scanned_until", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["meter_no"], ["meter.no"], name=op.f("fk_series_meter_no")),
        sa.PrimaryKeyConstraint("meter_no", "record_type", name=op.f("pk_series")),
    )
    op.execute(BLOCK_VIEW)
