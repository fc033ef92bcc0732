"""SQL of takeover: what the utility granted, the history of managers, and which controllers may manage what."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from commonwatt.model.units import ControllerId, EpochSeconds, MicrogridId
from utility.cliques.grants import MOVES, Assignment, Explained, Handover, Held, KeptGrant
from utility.cliques.tables import granted, handover
from utility.database.database import upsert
from utility.outbox.store import repeat_commands
from utility.registry.store.registry import controllers, keep_places, registry_changed
from utility.registry.tables import controller, may_manage

KEEP_S = 366 * 86_400  # seconds for which the history is kept; the newest line of each microgrid always
SHOWN = 100  # newest lines of a history that are shown
NO_CLIQUE = "it is in no clique"
NOT_YET = "no controller has confirmed that it manages it"


def load_granted(connection: Connection) -> dict[MicrogridId, KeptGrant]:
    """Return what the utility keeps of each microgrid."""
    return {
        row.microgrid: KeptGrant(
            adopted=(row.adopted_counter, row.adopted_rank),
            seen=(row.seen_counter, row.seen_rank),
            top=row.top,
            pending=None if row.pending_counter is None else (row.pending_counter, row.pending_rank),
        )
        for row in connection.execute(select(granted))
    }


def save(
    connection: Connection, kept: Mapping[MicrogridId, KeptGrant], handovers: Sequence[Handover], now: EpochSeconds
) -> None:
    """Store what is granted and adopted, and the handovers with their time; give new managers what is in force."""
    if kept:
        names = [column.name for column in granted.c if not column.primary_key]
        connection.execute(upsert(connection, granted, *names), [_row(name, one) for name, one in kept.items()])
    if handovers:
        connection.execute(handover.insert(), [_handover_row(one, now) for one in handovers])
        for one in handovers:
            if one.how in MOVES:
                repeat_commands(connection, one.microgrid, f"-e{one.epoch[0]}-{one.epoch[1]}", now)
        old = (handover.c.since < now - KEEP_S) & handover.c.no.not_in(_LAST)
        connection.execute(handover.delete().where(old))


def registered(connection: Connection) -> set[ControllerId]:
    """Return the registered controllers."""
    return set(connection.execute(select(controller.c.id)).scalars())


def keep_orders(connection: Connection, orders: Mapping[MicrogridId, Sequence[ControllerId]]) -> None:
    """Store which controllers may manage each microgrid; one that may no longer may still relay what it has."""
    if keep_places(connection, may_manage, orders):
        registry_changed(connection)


def load_orders(connection: Connection) -> dict[MicrogridId, tuple[ControllerId, ...]]:
    """Return who may manage each microgrid, the first one first; without a microgrid that only its own may manage."""
    found: dict[MicrogridId, tuple[ControllerId, ...]] = {}
    for row in connection.execute(
        select(may_manage).where(may_manage.c.place.is_not(None)).order_by(may_manage.c.place)
    ):
        found[row.microgrid] = (*found.get(row.microgrid, ()), row.controller)
    return found


def history(connection: Connection, microgrid: MicrogridId, limit: int) -> list[Handover]:
    """Return the last handovers of a microgrid, the newest first."""
    c = handover.c
    statement = select(handover).where(c.microgrid == microgrid).order_by(c.no.desc()).limit(limit)
    return [_handover(row) for row in connection.execute(statement)]


def newest(connection: Connection, only: Sequence[MicrogridId] | None = None) -> dict[MicrogridId, Handover]:
    """Return the last handover of each microgrid, or of those wanted; without those that have none."""
    rows = connection.execute(_NEWEST if only is None else _NEWEST_OF, {} if only is None else {"only": only})
    return {row.microgrid: _handover(row) for row in rows}


def assignments(
    connection: Connection, unmanaged: Mapping[MicrogridId, float], only: MicrogridId | None = None
) -> list[Assignment]:
    """Return who manages each microgrid, in the order of the controllers' numbers.

    Args:
        unmanaged: For how many seconds no controller that can command a microgrid was heard.
        only: The only one wanted; ``None``: all.
    """
    last = newest(connection, None if only is None else [only])
    orders, kept = load_orders(connection), load_granted(connection)
    return [
        _assignment(name, orders.get(name, (name,)), last.get(name), kept.get(name), int(unmanaged.get(name, 0)))
        for name in controllers(connection)
        if only in (None, name)
    ]


def explained(connection: Connection, unmanaged: Mapping[MicrogridId, float], microgrid: MicrogridId) -> Explained:
    """Return who manages a microgrid, with the history.

    Raises:
        LookupError: It is not registered.
    """
    found = assignments(connection, unmanaged, microgrid)
    if not found:
        raise LookupError(f"microgrid {microgrid} is not registered")
    lines = history(connection, microgrid, SHOWN)
    return Explained(assignment=found[0], history=[Held.model_validate(vars(one)) for one in lines])


def _assignment(
    name: MicrogridId,
    order: Sequence[ControllerId],
    last: Handover | None,
    kept: KeptGrant | None,
    unmanaged_s: int,
) -> Assignment:
    alone = len(order) == 1
    return Assignment(
        microgrid=name,
        order=list(order),
        manager=last.controller if last is not None else name if alone else "",
        since=None if last is None else last.since,
        why=last.why if last is not None else NO_CLIQUE if alone else NOT_YET,
        epoch=(0, 0) if kept is None else kept.adopted,
        unmanaged_s=unmanaged_s,
    )


_LAST = select(func.max(handover.c.no)).group_by(handover.c.microgrid)
_NEWEST = select(handover).where(handover.c.no.in_(_LAST))
_WANTED: Any = bindparam("only", expanding=True)
_NEWEST_OF = select(handover).where(handover.c.no.in_(_LAST.where(handover.c.microgrid.in_(_WANTED))))


def _row(microgrid: MicrogridId, kept: KeptGrant) -> dict[str, object]:
    pending = kept.pending or (None, None)
    return {
        "microgrid": microgrid,
        "adopted_counter": kept.adopted[0],
        "adopted_rank": kept.adopted[1],
        "seen_counter": kept.seen[0],
        "seen_rank": kept.seen[1],
        "top": kept.top,
        "pending_counter": pending[0],
        "pending_rank": pending[1],
    }


def _handover_row(made: Handover, now: EpochSeconds) -> dict[str, object]:
    counter, rank = made.epoch
    same = {name: getattr(made, name) for name in ("microgrid", "controller", "before", "how", "why")}
    return same | {"counter": counter, "rank": rank, "since": now}


def _handover(row: Row[Any]) -> Handover:
    same = {name: getattr(row, name) for name in ("microgrid", "controller", "before", "how", "why", "since")}
    return Handover(epoch=(row.counter, row.rank), **same)
