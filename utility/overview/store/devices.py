"""Devices as the registry and their heartbeats have them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.protocol.device_states import ForeignDevice
from utility.readings.store.heartbeats import last_heartbeats
from utility.readings.tables import gateway_seen
from utility.registry.tables import controller, meter

_FEW = 500  # ids in one statement


@dataclass(frozen=True, kw_only=True)
class Connected:
    """What connects to the head-end: a controller's gateway, the plant or the utility."""

    id: str  # its identity
    kind: str  # the kind of a gateway's microgrid, else ``utility`` or ``plant``
    address: str = ""  # the controller's address
    seen: EpochSeconds | None = None  # when a gateway was heard last; ``None``: never
    meters: int | None = None  # how many meters a gateway's microgrid has; ``None``: it is no gateway


@dataclass(frozen=True, kw_only=True)
class DeviceOfOthers:
    """A device of another maker, which an adapter reads and may command."""

    meter: str  # our id of its meter
    microgrid: str  # its microgrid
    place: str  # where it is
    measures: tuple[str, ...]  # what its meter records
    device: ForeignDevice  # what its adapter says of it


def devices_of_others(connection: Connection, of: MicrogridId | None = None) -> list[DeviceOfOthers]:
    """Return what gateways said last of foreign devices, of one microgrid or all; those that disobey first."""
    heard = last_heartbeats(connection, None if of is None else [of])
    told = {str(no): one for _, said in heard.values() if said for no, one in (said.devices or {}).items()}
    its = meter.c.label.in_(told) if len(told) < _FEW else meter.c.label.is_not(None)
    rows = [row for row in connection.execute(select(meter).where(its).order_by(meter.c.no)) if row.label in told]
    known = {int(kind): kind.name.lower() for kind in RecordType}
    found = [
        DeviceOfOthers(
            meter=row.label,
            microgrid=row.microgrid,
            place=row.location,
            measures=tuple(known[int(kind)] for kind in row.record_types.split(",") if int(kind) in known),
            device=told[row.label],
        )
        for row in rows
    ]
    return sorted(found, key=lambda one: not any(state.finding for state in one.device.states.values()))


def gateways(connection: Connection, search: str, after: str, limit: int) -> list[Connected]:
    """Return gateways whose name begins with ``search``, after a name, by name."""
    counts = select(meter.c.microgrid, func.count().label("meters")).group_by(meter.c.microgrid).subquery()
    several = func.coalesce(counts.c.meters, 0).label("meters")
    columns = (controller.c.id, controller.c.kind, controller.c.address, gateway_seen.c.time.label("seen"), several)
    statement = select(*columns).outerjoin(gateway_seen, gateway_seen.c.controller == controller.c.id)
    statement = statement.outerjoin(counts, counts.c.microgrid == controller.c.id)
    its = (controller.c.id > after) & controller.c.id.startswith(search, autoescape=True)
    rows = connection.execute(statement.where(its).order_by(controller.c.id).limit(limit))
    return [Connected(**row) for row in rows.mappings()]


def meters_of(connection: Connection, microgrid: MicrogridId) -> Sequence[Any]:
    """Return ``id`` as text, ``location`` and ``address`` of a microgrid's meters, in the order of their numbers."""
    columns = (meter.c.label.label("id"), meter.c.location, meter.c.address)
    statement = select(*columns).where(meter.c.microgrid == microgrid).order_by(meter.c.no)
    return connection.execute(statement).all()


def microgrid_of(connection: Connection, identity: str) -> MicrogridId | None:
    """Return the microgrid of a gateway or a meter; ``None``: neither is registered."""
    own = connection.execute(select(controller.c.id).where(controller.c.id == identity)).scalar()
    if own is not None:
        return str(own)
    found = connection.execute(select(meter.c.microgrid).where(meter.c.label == identity)).scalar()
    return None if found is None else str(found)
