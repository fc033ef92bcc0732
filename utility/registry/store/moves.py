"""Statements of moves by the clerk's form: the accounts that have moved out."""

from sqlalchemy import Connection, exists, select

from commonwatt.model.units import AccountNumber, Quarter
from utility.database.database import insert_or
from utility.registry.tables import holding, move


def add_move(connection: Connection, account: AccountNumber, quarter: Quarter) -> None:
    """Store that an account moves out, in the transaction that changes the registry."""
    connection.execute(insert_or(connection, move).values(account=account, quarter=quarter).on_conflict_do_nothing())


def moved_out(connection: Connection, until_quarter: Quarter) -> tuple[AccountNumber, ...]:
    """Return the accounts whose last quarter is before one: they moved out by the form, and have no meter since."""
    since = holding.c.until.is_(None) | (holding.c.until > move.c.quarter)
    has_meter = exists().where(holding.c.account == move.c.account, since)
    left = select(move.c.account).where(move.c.quarter <= until_quarter, ~has_meter).distinct()
    return tuple(connection.execute(left.order_by(move.c.account)).scalars())
