"""Statements of moves by the clerk's form: the accounts that have moved out."""

from collections.abc import Sequence

from sqlalchemy import Connection, exists, false, select, true, union

from commonwatt.model.units import AccountNumber, Quarter
from utility.database.database import insert_or
from utility.registry.tables import holding, installed, move


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
