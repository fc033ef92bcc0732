"""What controllers were told is in one table; it takes over what 0.3 told: rates, rations, weights."""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0040"
down_revision = "0039"


def upgrade() -> None:
    """Make the table in place of those of rates, rations and weights, and of the questions to witnesses."""
    told = op.create_table(
        "told",
        sa.Column("controller", sa.String(16), nullable=False),
        sa.Column("topic", sa.String(40), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("command", sa.String(64), nullable=False),
        sa.ForeignKeyConstraint(["controller"], ["controller.id"], name=op.f("fk_told_controller")),
        sa.PrimaryKeyConstraint("controller", "topic", name=op.f("pk_told")),
    )
    # Of weights the last row has all.
    found = {
        (row.controller, topic): {"content": json.dumps(content), "time": row.created or 0, "command": row.command}
        for row, topic, content in _found(op.get_bind())
    }
    op.bulk_insert(told, [{"controller": name, "topic": topic, **row} for (name, topic), row in found.items()])
    op.execute("DELETE FROM witness WHERE state = 'asked'")
    for name in ("rates_told", "ration", "weights_told"):
        op.drop_table(name)


def _found(connection: sa.Connection) -> Iterator[tuple[sa.Row[Any], str, Any]]:
    def rows(table: str, order: str = "o.controller") -> list[sa.Row[Any]]:
        joined = f"SELECT o.*, c.created FROM {table} o LEFT JOIN command c ON c.id = o.command ORDER BY {order}"
        return list(connection.execute(sa.text(joined)))

    for row in rows("rates_told"):
        yield row, f"rates {row.tariff}", {"tariff": row.tariff, "version": row.version, "month": row.month}
    for row in rows("ration"):
        yield row, "supply", {name: getattr(row, name) for name in ("quarter", "supply", "import_limit_w", "reason")}
    weights: dict[str, list[Any]] = {}
    for row in rows("weights_told", "o.since"):
        weights[row.controller] = [*weights.get(row.controller, ())[-1:], [row.since, json.loads(row.weights)]]
        yield row, "weights", weights[row.controller]
