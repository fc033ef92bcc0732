"""Tables of takeover: who may manage each microgrid, who does since when, and which stores lack a slot."""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

_BIG, _INT, _NAME, _KIND = sa.BigInteger(), sa.Integer(), sa.String(16), sa.SmallInteger()
_ROW = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    _make(
        "may_manage", ("microgrid", "controller"), {"microgrid": _NAME, "controller": _NAME, "place": _INT}, ("place",)
    )
    kept: dict[str, Any] = {"microgrid": _NAME}
    kept |= {"adopted_counter": _BIG, "adopted_rank": _INT, "seen_counter": _BIG, "seen_rank": _INT}
    kept |= {"top": _BIG, "pending_counter": _BIG, "pending_rank": _INT}
    _make("granted", ("microgrid",), kept, ("pending_counter", "pending_rank"))
    history: dict[str, Any] = {"no": _ROW, "microgrid": _NAME, "counter": _BIG, "rank": _INT, "controller": _NAME}
    _make("handover", ("no",), history | {"before": _NAME, "since": _BIG, "how": _NAME, "why": sa.Text()})
    op.create_index("ix_handover_microgrid_no", "handover", ["microgrid", "no"])
    op.create_index("ix_handover_since", "handover", ["since"])
    place: dict[str, Any] = {"meter_no": _INT, "record_type": _KIND, "quarter": _INT, "controller": _NAME}
    _make("absent_at", tuple(place), place | {"mask": _BIG, "why": _NAME})


def _make(name: str, keys: tuple[str, ...], columns: dict[str, Any], empty: tuple[str, ...] = ()) -> None:
    refers = {"microgrid": "controller.id", "controller": "controller.id", "meter_no": "meter.no"}
    op.create_table(
        name,
        *(sa.Column(column, kind, nullable=column in empty) for column, kind in columns.items()),
        *(
            sa.ForeignKeyConstraint([column], [refers[column]], name=op.f(f"fk_{name}_{column}"))
            for column in columns
            if column in refers
        ),
        sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{name}")),
    )
