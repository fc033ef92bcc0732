"""Statements of clerks: accounts that moved out, places that must not be cut, and what gateways are told of them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, exists, false, select, true, union

from commonwatt.model.units import AccountNumber, EpochSeconds, MeterId, MicrogridId, Quarter, quarter_of, unsigned64
from commonwatt.protocol.controller_commands import Action
from utility.database.database import insert_or, upsert
from utility.outbox.store import SENT_S, Wanted
from utility.registry.store.registry import controllers
from utility.registry.tables import holding, installed, meter, move, spared_place


def add_move(connection: Connection, account: AccountNumber, quarter: Quarter) -> None:
    """Store that an account moves out, in the transaction that changes the registry."""
    connection.execute(insert_or(connection, move).values(account=account, quarter=quarter).on_conflict_do_nothing())


def delete_moves(connection: Connection, accounts: Sequence[AccountNumber], quarter: Quarter) -> None:
    """Delete that accounts move out in a quarter, in the transaction that changes the registry."""
    connection.execute(move.delete().where(move.c.account.in_(accounts), move.c.quarter == quarter))


def moves_to_come(connection: Connection, quarter: Quarter) -> list[tuple[AccountNumber, Quarter, bool]]:
    """Return which accounts move after a quarter, when, and whether they move out."""
    h, m = holding.c, installed.c
    both = holding.join(installed, h.meter == m.meter)
    out = select(h.account, h.until.label("at"), true()).where(h.until > quarter, h.until.is_distinct_from(m.until))
    comes = select(h.account, h.since.label("at"), false()).where(h.since > quarter, h.since.is_distinct_from(m.since))
    found = connection.execute(union(*(each.select_from(both) for each in (out, comes))))
    return [(row[0], row[1], bool(row[2])) for row in found]


def moved_out(connection: Connection, until_quarter: Quarter) -> tuple[AccountNumber, ...]:
    """Return the accounts whose last quarter is before one: they moved out by the form, and have no meter since."""
    since = holding.c.until.is_(None) | (holding.c.until > move.c.quarter)
    has_meter = exists().where(holding.c.account == move.c.account, since)
    left = select(move.c.account).where(move.c.quarter <= until_quarter, ~has_meter).distinct()
    return tuple(connection.execute(left.order_by(move.c.account)).scalars())


# Seconds after which a gateway is told again: it may have been replaced or restored, or have refused or not known it.
AGAIN_S = 6 * 3600


def spared_places(connection: Connection) -> dict[AccountNumber, Row[Any]]:
    """Return the accounts of which anything was ever asked, by number, with what is decided and asked."""
    return {row.account: row for row in connection.execute(select(spared_place).order_by(spared_place.c.account))}


def ask(connection: Connection, account: AccountNumber, person: str, now: EpochSeconds, *, wanted: bool) -> None:
    """Store what a person asks for, in place of what was asked before."""
    row = {"account": account, "is_spared": False, "wanted": wanted, "asked_by": person, "asked": now}
    connection.execute(upsert(connection, spared_place, "wanted", "asked_by", "asked"), [row])


def decide(connection: Connection, found: Row[Any], person: str, now: EpochSeconds, *, agrees: bool) -> None:
    """Store what the second person decided."""
    values = {"is_spared": found.wanted if agrees else found.is_spared, "wanted": None}
    ours = spared_place.c.account == found.account
    connection.execute(spared_place.update().where(ours).values(values | {"decided_by": person, "decided": now}))


def meters_of(connection: Connection, quarter: Quarter) -> dict[MicrogridId, dict[MeterId, AccountNumber]]:
    """Return the meters of the places that must not be cut, with their accounts, by microgrid."""
    c, i = holding.c, installed.c
    statement = (
        select(meter.c.microgrid, meter.c.id, c.account)
        .join(holding, c.meter == meter.c.id)
        .join(spared_place, spared_place.c.account == c.account)
        .outerjoin(installed, i.meter == meter.c.id)
        .where(spared_place.c.is_spared, c.since <= quarter, c.until.is_(None) | (c.until > quarter))
        .where(i.until.is_(None) | (i.until > quarter))
        .order_by(meter.c.microgrid, meter.c.id)
    )
    found: dict[MicrogridId, dict[MeterId, AccountNumber]] = {}
    for row in connection.execute(statement):
        found.setdefault(row.microgrid, {})[row.id] = row.account
    return found


def wanted_spared(connection: Connection, now: EpochSeconds) -> list[Wanted]:
    """Return which meters each gateway is to be told not to cut."""
    spared = meters_of(connection, quarter_of(now))
    return [
        Wanted(
            controller=name,
            topic="spare",
            fields={"cmd": Action.SPARE, "spared": meters},
            content=meters,
            until=now + SENT_S,
            again_s=AGAIN_S if meters else None,
        )
        for name in controllers(connection)
        for meters in [[str(unsigned64(each)) for each in spared.get(name, ())]]
    ]
