"""Devices as the registry and their heartbeats have them; and the search for them, for accounts and places."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, case, func, or_, select

from commonwatt.model.records import RecordType
from commonwatt.model.units import EpochSeconds, MicrogridId, quarter_of
from commonwatt.protocol.commands import ForeignDevice
from utility.readings.store.gateways import last_heartbeats
from utility.readings.tables import gateway_seen
from utility.registry.tables import controller, holding, meter

_FEW = 500  # ids in one statement


@dataclass(frozen=True, kw_only=True)
class ConnectedDevice:
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


def gateways(connection: Connection, search: str, after: str, limit: int) -> list[ConnectedDevice]:
    """Return gateways whose name begins with ``search``, after a name, by name."""
    counts = select(meter.c.microgrid, func.count().label("meters")).group_by(meter.c.microgrid).subquery()
    several = func.coalesce(counts.c.meters, 0).label("meters")
    columns = (controller.c.id, controller.c.kind, controller.c.address, gateway_seen.c.time.label("seen"), several)
    statement = select(*columns).outerjoin(gateway_seen, gateway_seen.c.controller == controller.c.id)
    statement = statement.outerjoin(counts, counts.c.microgrid == controller.c.id)
    its = (controller.c.id > after) & controller.c.id.startswith(search, autoescape=True)
    rows = connection.execute(statement.where(its).order_by(controller.c.id).limit(limit))
    return [ConnectedDevice(**row) for row in rows.mappings()]


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


MOST_FOUND = 60  # results at most, of each kind together
_MOST_OTHERS = 8  # microgrids, and accounts, at most


@dataclass(frozen=True, kw_only=True)
class Found:
    """A result of the search."""

    kind: Literal["microgrid", "account", "meter"]  # what was found
    name: str  # the microgrid's name, or the meter's id; of an account, the id of a meter that it has
    text: str  # the result, for people


def find(connection: Connection, text: str, now: EpochSeconds) -> list[Found]:
    """Return what a text may mean, the likeliest first: a name, a number, the beginning of one, or part of a place.

    The number of a controller finds its microgrid and all its meters, whose ids begin with it in a counted town.
    """
    wanted = text.strip().lower()[:40]
    if not wanted:
        return []
    found = [*_microgrids(connection, wanted), *_accounts(connection, wanted, now)]
    return [*found, *_meters(connection, wanted, MOST_FOUND - len(found))]


def _microgrids(connection: Connection, wanted: str) -> list[Found]:
    name, number = func.lower(controller.c.id), int(wanted) if wanted.isdecimal() and len(wanted) < 6 else -1
    begins, has = name.startswith(wanted, autoescape=True), name.contains(wanted, autoescape=True)
    rank = case((name == wanted, 0), (controller.c.number == number, 1), (begins, 2), else_=3)
    statement = select(controller.c.id, controller.c.kind).where(has | (controller.c.number == number))
    rows = connection.execute(statement.order_by(rank, controller.c.number).limit(_MOST_OTHERS))
    return [Found(kind="microgrid", name=row.id, text=f"{row.id}, {row.kind}") for row in rows]


def _accounts(connection: Connection, wanted: str, now: EpochSeconds) -> list[Found]:
    number = wanted.removeprefix("account").strip()
    if not number.isdecimal() or len(number) > 5:
        return []
    quarter, c = quarter_of(now), holding.c
    holds = (c.account == int(number)) & (c.since <= quarter) & (c.until.is_(None) | (c.until > quarter))
    statement = select(meter.c.label, meter.c.microgrid, meter.c.location).join(holding, c.meter == meter.c.id)
    rows = connection.execute(statement.where(holds).order_by(meter.c.no).limit(_MOST_OTHERS))
    return [
        Found(kind="account", name=row.label, text=f"account {number}: {row.location} in {row.microgrid}, {row.label}")
        for row in rows
    ]


def _meters(connection: Connection, wanted: str, limit: int) -> list[Found]:
    c = meter.c
    match: Any = c.label == wanted
    rank = [(c.label == wanted, 0)]
    if wanted.isdecimal():
        begins, ends = c.label.startswith(wanted), c.label.endswith(wanted)
        match = match | begins | ends
        # Ids of a counted town: the controller's number, and four digits.
        rank += [(c.label.like(f"{wanted}____"), 1), (begins, 2), (ends, 3)]
    else:
        place, here = func.lower(c.location), func.lower(c.microgrid + " " + c.location)
        begins = or_(*(text.startswith(wanted, autoescape=True) for text in (place, here)))
        rank += [((place == wanted) | (here == wanted), 1), (begins, 2)]
        where = func.lower(c.microgrid + " " + c.location + " " + c.label)
        match = and_(*(where.contains(word, autoescape=True) for word in wanted.split()))
    statement = select(c.label, c.microgrid, c.location, c.direction, c.function).where(match)
    rows = connection.execute(statement.order_by(case(*rank, else_=9), c.no).limit(limit))
    return [
        Found(kind="meter", name=row.label, text=f"{row.label}: {row.location} in {row.microgrid}, {row.direction}")
        for row in rows
    ]
