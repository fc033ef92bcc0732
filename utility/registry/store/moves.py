"""Statements of moves by the clerk's form: which accounts have moved out, and who came after them."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, exists, or_, select

from commonwatt.model.units import AccountNumber, Quarter
from utility.registry.tables import holding, move


def add_move(connection: Connection, values: Mapping[str, Any]) -> None:
    """Store a move, in the transaction that changes the registry; ``values``: the columns of ``move`` by name."""
    connection.execute(move.insert().values(values))


def moves_of(connection: Connection, account: AccountNumber) -> list[Mapping[str, Any]]:
    """Return the moves out of and into an account's homes, the newest first."""
    its = or_(move.c.account == account, move.c.next == account)
    statement = select(move).where(its).order_by(move.c.quarter.desc(), move.c.no.desc())
    return [dict(row) for row in connection.execute(statement).mappings()]


def moved_out(connection: Connection, until_quarter: Quarter) -> tuple[AccountNumber, ...]:
    """Return the accounts whose last quarter is before one: they moved out by the form, and have no meter since."""
    c = move.c
    left = or_(c.next.is_(None), c.next != c.account) & (c.quarter <= until_quarter)
    since = holding.c.until.is_(None) | (holding.c.until > c.quarter)
    has_meter = exists().where(holding.c.account == c.account, since)
    statement = select(c.account).where(c.account.is_not(None), left, ~has_meter).distinct().order_by(c.account)
    return tuple(connection.execute(statement).scalars())
