"""The schedules in force, a page of microgrids at a time, from their gateways' last heartbeats."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.heartbeats import Heartbeat
from utility.readings.store.heartbeats import last_heartbeats
from utility.readings.tables import gateway_seen
from utility.registry.tables import controller


@dataclass(frozen=True, kw_only=True)
class InForce:
    """What is in force at one gateway."""

    microgrid: MicrogridId  # the microgrid
    kind: str  # its kind
    time: EpochSeconds | None  # when its gateway said it; ``None``: never
    heartbeat: Heartbeat | None  # what it said


def schedules_page(
    connection: Connection, limit: int, skip: int, *, name: str, kind: str, tuned: bool
) -> Sequence[InForce]:
    """Return the microgrids of a page, in the order of their numbers.

    Args:
        name: The start of their names; empty: any.
        kind: Their kind; empty: any.
        tuned: Only those with a setting that the utility has set.
    """
    c = controller.c
    statement = select(c.id, c.kind).order_by(c.number).limit(limit).offset(skip)
    if name:
        statement = statement.where(c.id.startswith(name, autoescape=True))
    if kind:
        statement = statement.where(c.kind == kind)
    if tuned:
        statement = statement.join(gateway_seen, gateway_seen.c.controller == c.id)
        statement = statement.where(gateway_seen.c.tuned)
    rows = connection.execute(statement).all()
    said = last_heartbeats(connection, [row.id for row in rows])
    found = ((row, *said.get(row.id, (None, None))) for row in rows)
    return [InForce(microgrid=row.id, kind=row.kind, time=time, heartbeat=beat) for row, time, beat in found]
