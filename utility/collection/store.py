"""SQL of collection: the brokers of each meter, their present order, and what managers are told of it (A1)."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from commonwatt.clique.cliques import installed, warm_meters
from commonwatt.model.units import ControllerId, EpochSeconds, MeterId, MicrogridId, unsigned64
from commonwatt.protocol.controller_commands import Action
from commonwatt.town.town import Function
from utility.cliques.store import load_orders
from utility.collection.balance import IN_USE, Collected, CollectedMeter, Given, Order, line_of, loads
from utility.collection.tables import broker_order
from utility.outbox.store import SENT_S, Wanted
from utility.registry.store.registry import removed_meters
from utility.registry.tables import collector, meter

_INSTALLED = "as installed"
SERVICE = ""  # the person of an order that no person gave
SHOWN = 100  # newest orders of a meter that are shown
MOST_TOLD = 600  # most meters of a microgrid with another order than the installed one: what a command holds
KEEP_S = 366 * 86_400  # seconds for which orders are kept; the newest one of each meter always


@dataclass(frozen=True, kw_only=True)
class KnownMeter:
    """A meter with its brokers."""

    no: int  # its number in the database
    microgrid: MicrogridId  # its microgrid
    collected: Collected  # its brokers and their order


def load_meters(connection: Connection, only: MeterId | None = None) -> list[KnownMeter]:
    """Return all meters that have more than one broker, by id; or the ``only`` one wanted, also if it has one."""
    orders, collectors = load_orders(connection), load_collectors(connection)
    last = {row.meter_no: _given(row) for row in connection.execute(_NEWEST)}
    inside: dict[MicrogridId, list[Any]] = {}
    gone = removed_meters(connection)
    for row in connection.execute(_METERS):
        if row.no not in gone:
            inside.setdefault(row.microgrid, []).append(row)
    found = []
    for name, rows in inside.items():
        order, further = orders.get(name, (name,)), collectors.get(name, ())
        warm = set(warm_meters({unsigned64(row.id): row.battery_capacity is not None for row in rows}))
        for row in rows if len(order) + len(further) > 1 or only is not None else ():
            meter_id = unsigned64(row.id)
            if only in (None, meter_id):
                brokers = installed(order, further, meter_id)
                # Commands reach a meter without a silent session at those that may manage only where its data goes.
                choices = brokers if meter_id in warm else (name, *(b for b in brokers if b not in order))
                found.append(
                    KnownMeter(
                        no=row.no, microgrid=name, collected=_collected(meter_id, brokers, choices, last.get(row.no))
                    )
                )
    return sorted(found, key=lambda one: one.collected.meter)


def one_meter(connection: Connection, meter_id: MeterId) -> KnownMeter:
    """Return a meter with its brokers."""
    found = load_meters(connection, meter_id)
    if not found:
        raise LookupError(f"meter {meter_id} is not registered, or is one of a boundary")
    return found[0]


def _collected(meter_id: MeterId, brokers: Order, choices: Order, last: Given | None) -> Collected:
    order = tuple(name for name in last.brokers if name in brokers) if last is not None else ()
    return Collected(
        meter=meter_id,
        installed=brokers,
        choices=choices,
        order=order or brokers,
        pinned=bool(order) and last is not None and last.pinned,
    )


def load_collectors(connection: Connection) -> dict[MicrogridId, Order]:
    """Return the collectors of each microgrid that has some."""
    found: dict[MicrogridId, Order] = {}
    for row in connection.execute(_COLLECTORS):
        found[row.microgrid] = (*found.get(row.microgrid, ()), row.controller)
    return found


def history(connection: Connection, meter_no: int) -> list[Given]:
    """Return the orders of a meter, the newest first."""
    statement = select(broker_order).where(broker_order.c.meter_no == meter_no).order_by(broker_order.c.no.desc())
    return [_given(row) for row in connection.execute(statement.limit(SHOWN))]


def moved_since(connection: Connection, time: EpochSeconds) -> int:
    """Return how many orders the service gave since a time."""
    ours = (broker_order.c.since > time) & (broker_order.c.person == SERVICE)
    return int(connection.execute(select(func.count()).where(ours)).scalar_one())


def give(
    connection: Connection,
    orders: Mapping[int, tuple[Order, str]],
    now: EpochSeconds,
    *,
    person: str = SERVICE,
    pinned: bool = False,
) -> None:
    """Store orders with their reasons, by the meters' numbers.

    Args:
        pinned: Whether they stay until a person changes them.
    """
    rows = [
        {"meter_no": no, "brokers": ",".join(order), "since": now, "pinned": pinned, "person": person, "why": why}
        for no, (order, why) in orders.items()
    ]
    connection.execute(broker_order.insert(), rows)
    old = (broker_order.c.since < now - KEEP_S) & broker_order.c.no.not_in(_LAST)
    connection.execute(broker_order.delete().where(old))


def wanted_orders(connection: Connection, now: EpochSeconds) -> list[Wanted]:
    """Return the orders that differ from the installed ones, for the manager of each microgrid that has a choice."""
    differing: dict[MicrogridId, list[Collected]] = {}
    for one in load_meters(connection):
        mine = differing.setdefault(one.microgrid, [])
        if one.collected.order != one.collected.installed and len(mine) < MOST_TOLD:
            mine.append(one.collected)
    return [
        Wanted(
            controller=microgrid,
            topic="assign",
            fields={"cmd": Action.ASSIGN, "orders": orders},
            content=orders,
            until=now + SENT_S,
        )
        for microgrid, some in differing.items()
        for orders in [_grouped(some)]
    ]


def _grouped(meters: Collection[Collected]) -> list[list[list[str]]]:
    """Return orders with their meters, as the command has them."""
    found: dict[Order, list[str]] = {}
    for one in meters:
        found.setdefault(one.order[:IN_USE], []).append(str(one.meter))
    return [[list(order), some] for order, some in found.items()]


def collected(connection: Connection, meter_id: MeterId, alive: Collection[ControllerId]) -> CollectedMeter:
    """Return which controller collects the data of a meter, and why.

    Args:
        alive: The controllers that are heard.

    Raises:
        LookupError: The meter is not registered, or is one of a boundary.
    """
    known = one_meter(connection, meter_id)
    mine, given = known.collected, history(connection, known.no)
    line, last = line_of(mine.order, alive), given[0] if given else None
    load = loads([each.collected for each in load_meters(connection)], alive).get(line, 0)
    return CollectedMeter(
        meter=str(meter_id),
        microgrid=known.microgrid,
        installed=list(mine.installed),
        order=list(mine.order),
        pinned=mine.pinned,
        collector=line,
        load=load,
        why=_INSTALLED if last is None else f"pinned by {last.person}: {last.why}" if last.pinned else last.why,
        history=given,
    )


def _given(row: Row[Any]) -> Given:
    same = {name: getattr(row, name) for name in ("since", "person", "pinned", "why")}
    return Given(version=row.no, brokers=row.brokers.split(",") if row.brokers else [], **same)


# The boundary's meters are a part of the controller's place, and have its broker alone.
_METERS = select(meter.c.no, meter.c.id, meter.c.microgrid, meter.c.battery_capacity).where(
    meter.c.function != Function.BOUNDARY.value
)
_COLLECTORS = select(collector).where(collector.c.place.is_not(None)).order_by(collector.c.place)
_LAST = select(func.max(broker_order.c.no)).group_by(broker_order.c.meter_no)
_NEWEST = select(broker_order).where(broker_order.c.no.in_(_LAST))
