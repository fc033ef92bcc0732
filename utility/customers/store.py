"""Statements of contacts: who an account is from a quarter on, encrypted."""

from collections.abc import Collection, Mapping
from datetime import date, timedelta
from secrets import token_hex

from sqlalchemy import Connection, select, true

from commonwatt.model.calendar import midnight
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, Quarter
from commonwatt.runtime.files import write_private
from utility.customers.people import Contact, History, opened
from utility.customers.tables import contact
from utility.database.database import insert_or
from utility.database.town_zone import zone_of
from utility.energy.quarters import QUARTERS_A_DAY
from utility.settings import OfficeSettings

KEY_BYTES = 32


def office_key(connection: Connection, settings: OfficeSettings) -> bytes:
    """Return the office's key; it is made at the first use.

    Raises:
        ConfigError: Its file is not a key, or is missing although there are contacts, which another key can't open.
    """
    path = settings.key
    if not path.exists():
        if connection.execute(select(contact.c.account).limit(1)).first():
            raise ConfigError(f"{path}: the office's key is missing, and contacts need it; put the office's copy back")
        write_private(path, token_hex(KEY_BYTES))
    try:
        key = bytes.fromhex(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not the office's key ({error}); put the copy back") from error
    if len(key) != KEY_BYTES:
        raise ConfigError(f"{path}: not the office's key: it has {len(key)} bytes; put the copy back")
    return key


def set_contact(connection: Connection, account: AccountNumber, since: Quarter, who: Contact, key: bytes) -> None:
    """Store who an account is from a quarter on."""
    values = {"digest": who.digest(), "sealed": who.sealed(key)}
    statement = insert_or(connection, contact).values(account=account, since=since, **values)
    keys = [contact.c.account, contact.c.since]
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))


def histories(connection: Connection, key: bytes, account: AccountNumber | None = None) -> dict[AccountNumber, History]:
    """Return who accounts are from which quarter on, the oldest first, by account; ``None``: of all."""
    statement = select(contact).order_by(contact.c.account, contact.c.since)
    if account is not None:
        statement = statement.where(contact.c.account == account)
    found: dict[AccountNumber, History] = {}
    for row in connection.execute(statement):
        found.setdefault(row.account, []).append((row.since, opened(key, row.sealed)))
    return found


def delete_contacts(connection: Connection, account: AccountNumber, until: Quarter) -> int:
    """Delete the contacts of an account that begin up to a day, 0: all; return how many there were."""
    its = (contact.c.account == account) & (contact.c.since < until + QUARTERS_A_DAY if until else true())
    return connection.execute(contact.delete().where(its)).rowcount


def drop_contacts(connection: Connection, accounts: Collection[AccountNumber], since: Quarter) -> None:
    """Delete the contacts of accounts that begin in a quarter to come: no bill has them."""
    connection.execute(contact.delete().where(contact.c.account.in_(accounts), contact.c.since == since))


def newest_contacts(
    connection: Connection, key: bytes, account: AccountNumber | None = None, until: Quarter | None = None
) -> dict[AccountNumber, Contact]:
    """Return the newest contact of each account, or of one alone; ``until``: of those that have begun by then."""
    found = histories(connection, key, account)
    begun = {number: [who for since, who in of if until is None or since <= until] for number, of in found.items()}
    return {number: of[-1] for number, of in begun.items() if of}


def language_of(connection: Connection, settings: OfficeSettings, account: AccountNumber, until: Quarter) -> str:
    """Return the language that the people of an account chose; empty: they chose none, or it can't be read."""
    if connection.execute(select(contact.c.account).where(contact.c.account == account).limit(1)).first() is None:
        return ""
    try:
        who = newest_contacts(connection, office_key(connection, settings), account, until).get(account)
    except ConfigError:
        return ""
    return who.language if who else ""


def contacts_on(connection: Connection, key: bytes, day: str) -> dict[AccountNumber, Contact]:
    """Return who accounts are on a local day, at its end."""
    after = midnight(date.fromisoformat(day) + timedelta(1), zone_of(connection))
    return newest_contacts(connection, key, until=after - 1)


def contact_of(connection: Connection, key: bytes, digest: str) -> Contact | None:
    """Return whom a bill's digest means, as is known now; ``None``: it was deleted."""
    ours = select(contact.c.sealed).where(contact.c.digest == digest).order_by(contact.c.since.desc())
    sealed = connection.execute(ours.limit(1)).scalar()
    return None if sealed is None else opened(key, sealed)


def digests_at(connection: Connection, quarter: Quarter) -> Mapping[AccountNumber, str]:
    """Return the digests of who accounts are in a quarter, by account."""
    c = contact.c
    statement = select(c.account, c.digest).where(c.since <= quarter).order_by(c.account, c.since)
    return dict(connection.execute(statement).all())
