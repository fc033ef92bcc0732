"""The plant's rows: its last report, its finished quarters, and the purchases with their commands."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds, MilliwattHours, Quarter
from commonwatt.protocol.plant_messages import PlantCommand, PlantQuarter
from utility.database.database import insert_or
from utility.outbox.tables import plant_quarter, purchase


@dataclass(frozen=True, kw_only=True)
class NewPurchase:
    """A purchase to store."""

    command: PlantCommand  # the command to the plant
    energy: MilliwattHours  # the energy, milliwatt-hours
    price: int  # the price in its quarter, thousandths of the price outside peak hours
    policy: str  # the name of the policy that planned it
    reason: str  # why, in words
    inputs: dict[str, object]  # the facts it was planned from, for people


def quarters_between(connection: Connection, first: Quarter, last: Quarter) -> list[PlantQuarter]:
    """Return what the plant measured in the finished quarters ``first`` to ``last``, oldest first."""
    c = plant_quarter.c
    rows = connection.execute(select(plant_quarter).where(c.quarter.between(first, last)).order_by(c.quarter))
    return [PlantQuarter(**row) for row in rows.mappings()]


def add_purchase(connection: Connection, new: NewPurchase, created: EpochSeconds) -> bool:
    """Add the purchase of a quarter; return ``False`` if the quarter has one already."""
    command = new.command
    row = {
        "quarter": command.quarter,
        "id": command.id,
        "energy": new.energy,
        "price": new.price,
        "policy": new.policy,
        "reason": new.reason,
        "inputs": json.dumps(new.inputs),
        "message": command.pack().decode(),
        "created": created,
        "until": command.until,
        "state": "open",
    }
    statement = insert_or(connection, purchase).values(row).on_conflict_do_nothing(index_elements=["quarter"])
    return connection.execute(statement.returning(purchase.c.quarter)).first() is not None


def has_purchase(connection: Connection, quarter: Quarter) -> bool:
    """Return whether a quarter has a purchase."""
    return connection.execute(select(purchase.c.id).where(purchase.c.quarter == quarter)).first() is not None


def asked_until(connection: Connection) -> Quarter | None:
    """Return the quarter up to which the plant was asked for its quarters; ``None``: it has not answered yet."""
    is_done = purchase.c.state == "done"
    newest = select(purchase.c.quarter, purchase.c.outcome).where(is_done).order_by(purchase.c.quarter.desc()).limit(1)
    row = connection.execute(newest).first()
    if row is None:
        return None
    # The core leaves the last row in an outcome that had as many as one can have: the plant may have more.
    left = json.loads(row.outcome or "{}").get("quarters") or [[row.quarter - 1]]
    return int(left[-1][0]) + 1


def purchases(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the newest purchases, newest first, with what the plant bought in their quarters."""
    c, measured = purchase.c, plant_quarter.c
    statement = (
        select(c.quarter, c.id, c.energy, c.price, c.policy, c.reason, c.inputs, c.state, c.outcome)
        .add_columns(measured.ordered, measured.needed)
        .join_from(purchase, plant_quarter, c.quarter == measured.quarter, isouter=True)
        .order_by(c.quarter.desc())
        .limit(limit)
    )
    return [_shown(dict(row)) for row in connection.execute(statement).mappings()]


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    for column in ("inputs", "outcome"):
        row[column] = None if row[column] is None else json.loads(str(row[column]))
    return row


def first_lacking(present: Sequence[PlantQuarter], first: Quarter, now: Quarter) -> Quarter | None:
    """Return the first quarter of ``first`` to before ``now`` that is not in ``present``; ``None``: none lacks."""
    known = {row.quarter for row in present}
    return next((quarter for quarter in range(first, now) if quarter not in known), None)
