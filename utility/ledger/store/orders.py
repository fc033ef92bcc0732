"""Files of orders for the bank, as they are now, and who has to stay out of their release."""

import hashlib
import json
from dataclasses import asdict, dataclass, field

from sqlalchemy import Connection

from commonwatt.care.sealing import decrypt, encrypt
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import AccountNumber
from utility.access.rules import DAY_S
from utility.access.store.audit_log import persons_of
from utility.access.store.second_people import standings
from utility.customers.contact import Contact
from utility.customers.store.contacts import contacts_on, office_key
from utility.ledger.entry import Entry, Kind
from utility.ledger.store import entries as store
from utility.ledger.store.entries import C, entries_where
from utility.readings.store.parts import chunks

_GIVEN, _PAID = C.kind.in_((Kind.ASSIGNMENT, Kind.REVERSAL)), C.kind == Kind.PAYMENT
_RELEASED = C.kind == Kind.RELEASE
CHANGED_S = 30 * DAY_S  # within which who changed where an account's money goes can't release an order of it


@dataclass(frozen=True, kw_only=True)
class OrderFile:
    """The orders of a file, but of cancelled bills, and who has to stay out of its release."""

    file: str  # its name
    orders: list[tuple[Entry, Contact]] = field(repr=False)  # each order, and whom it is of
    digest: str  # of what the bank is told
    firsts: dict[str, str]  # what people did who can't release it, by name
    changed: set[AccountNumber]  # the accounts of which name, address or bank were changed in the last 30 days
    released_by: str  # the second person; empty: none has released it

    @property
    def cents(self) -> int:
        """The sum of what moves, cents."""
        return sum(abs(each.cents) for each, _ in self.orders)

    def sealed(self, key: bytes) -> bytes:
        """Return whom each order is of, encrypted by the office's key: with it the file leaves as it was released."""
        return encrypt(key, json.dumps({each.account: asdict(to) for each, to in self.orders}).encode())


def order_file(connection: Connection, settings: UtilitySettings, file: str) -> OrderFile:
    """Return a file of orders as it is now; without orders, if there is no such file or all its bills are cancelled."""
    found = entries_where(connection, C.kind == Kind.ORDER, C.text == file, *store.STANDING)
    key, released = office_key(connection, settings.office), entries_where(connection, _RELEASED, C.text == file)
    if released:
        kept = json.loads(decrypt(key, released[0].sealed or b""))
        who = {int(account): Contact(**fields) for account, fields in kept.items()}
    else:
        who = contacts_on(connection, key, found[0].due) if found else {}
    orders = [(each, who[each.account]) for each in found if each.account in who]
    told = [[each.no, each.account, each.cents, each.due, to.name, to.iban, to.mandate] for each, to in orders]
    digest = hashlib.sha256(json.dumps([settings.office.iban, told]).encode()).hexdigest()
    firsts, changed = _firsts(connection, [each for each, _ in orders])
    by = released[0].person if released else ""
    return OrderFile(file=file, orders=orders, digest=digest, firsts=firsts, changed=changed, released_by=by)


def _firsts(connection: Connection, orders: list[Entry]) -> tuple[dict[str, str], set[AccountNumber]]:
    refunded = {each.account for each in orders if each.cents < 0}
    given = [e for some in chunks(sorted(refunded)) for e in entries_where(connection, _GIVEN, C.account.in_(some))]
    paid = sorted(each.about for each in given)
    imported = [e for some in chunks(paid) for e in entries_where(connection, _PAID, C.no.in_(some))]
    did = {each.person: f"gave or took back a payment of account {each.account}" for each in given}
    did |= {each.person: "imported a payment of a refunded account" for each in imported}
    subjects = {f"account {each.account}": each.account for each in orders}
    since = min((each.time for each in orders), default=0) - CHANGED_S
    changes = persons_of(connection, ("contact.set", "move.make", "move.back"), since)
    changed = {subjects[subject] for subject, _ in changes if subject in subjects}
    did |= {person: f"changed who {subject} is" for subject, person in changes if subject in subjects}
    # A program is no second one; of the others only who ordered has to be a person.
    people = standings(connection, did)
    return {n: what for n, what in did.items() if n in people} | {e.person: "ordered it" for e in orders}, changed
