"""Accounts found by number, by the place of their meters, or by the name of a person."""

from dataclasses import dataclass

from sqlalchemy import Connection, func, or_, select

from commonwatt.model.units import AccountNumber, Quarter
from utility.access.tables import person
from utility.registry.tables import holding, meter

MOST = 50  # most accounts that are found


@dataclass(frozen=True, kw_only=True)
class FoundAccount:
    """An account with bills."""

    account: AccountNumber  # its number
    place: str  # where its meters are
    people: str  # who may see its bills


def find_accounts(connection: Connection, text: str, quarter: Quarter) -> list[FoundAccount]:
    """Return the accounts that a text may mean, by number: at most ``MOST``."""
    wanted = text.strip().lower()
    if not wanted:
        return []
    there = func.lower(meter.c.microgrid + " " + meter.c.location)
    who = func.lower(person.c.name + " " + person.c.display)
    held = holding.c.until.is_(None) | (holding.c.until > quarter)
    words = wanted.split()
    at_places = [there.contains(word, autoescape=True) for word in words]
    places = select(holding.c.account).join(meter, meter.c.id == holding.c.meter).where(held, *at_places)
    people = select(person.c.account).where(
        person.c.account.is_not(None), *(who.contains(word, autoescape=True) for word in words)
    )
    accounts = or_(holding.c.account.in_(places), holding.c.account.in_(people))
    if wanted.isdecimal():
        accounts = holding.c.account == int(wanted[:9])
    statement = select(holding.c.account, meter.c.microgrid, meter.c.location).distinct()
    statement = statement.join(meter, meter.c.id == holding.c.meter).where(accounts, held).order_by(holding.c.account)
    found: dict[AccountNumber, list[str]] = {}
    for row in connection.execute(statement):
        if row.account in found or len(found) < MOST:
            found.setdefault(row.account, []).append(f"{row.location} in {row.microgrid}")
    names: dict[AccountNumber, list[str]] = {}
    for each in connection.execute(select(person.c.account, person.c.display).where(person.c.account.in_(found))):
        names.setdefault(each.account, []).append(each.display)
    return [
        FoundAccount(account=account, place=", ".join(where), people=", ".join(names.get(account, ())))
        for account, where in found.items()
    ]
