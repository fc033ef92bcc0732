"""Statements of the ledger: entries, posted once and never changed; balances; files of orders for the bank."""

import hashlib
import json
import zlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field, replace

from sqlalchemy import ColumnElement, Connection, func, select

from commonwatt.care.code import decrypt, encrypt
from commonwatt.model.calendar import local_day, month_after, parse_month
from commonwatt.model.text import line_of
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds
from utility.access.people import DAY_S
from utility.access.store.audit_log import persons_of, standings
from utility.customers.people import Contact
from utility.customers.store import contacts_on, office_key
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.ledger.entry import WITHOUT_LINES, Entry, LedgerKind, open_items, reminders, reversal
from utility.ledger.tables import ledger_entry
from utility.readings.store.parts import chunks
from utility.registry.tables import account as accounts
from utility.registry.tables import account_term
from utility.settings import LedgerCodes, UtilitySettings
from utility.tariffs.store import bill_table, published
from utility.tariffs.tariff import in_force

NAMED = 64  # characters of a payment's ``of`` that name it by the bank's reference; as many more are its identity

C = ledger_entry.c
REVERSED = select(C.about).where(C.kind == "reversal")  # the numbers of entries that were taken back
STANDING = C.no.not_in(REVERSED), C.about.not_in(REVERSED)  # neither they nor what they are about was taken back


def post(connection: Connection, entries: Sequence[Entry], person: str, now: EpochSeconds) -> list[Entry]:
    """Append entries that are not there yet, and return them; those of a closed month's days go to the open month.

    Raises:
        ValueError: The lines of an entry don't sum to 0.
    """
    take(connection, Lock.LEDGER)
    closed = last_closed(connection)
    begin = f"{month_after(closed)}-01" if closed else ""
    no = newest(connection)
    there = set[tuple[str, str]]()
    for some in chunks([entry.of for entry in entries]):
        rows = connection.execute(select(C.kind, C.of).where(C.of.in_(some)))
        there.update((kind, of) for kind, of in rows)
    new = [entry for entry in entries if (entry.kind.value, entry.of) not in there]
    stored = [
        replace(entry, no=no + n, day=max(entry.day, begin), person=person, time=now) for n, entry in enumerate(new, 1)
    ]
    if unbalanced := [entry.of for entry in stored if sum(entry.lines.values())]:
        raise ValueError(f"{unbalanced[0]}: its lines don't sum to 0")
    if stored:
        values = [vars(entry) | {"kind": entry.kind.value, "lines": json.dumps(entry.lines)} for entry in stored]
        connection.execute(ledger_entry.insert(), values)
    return stored


def newest(connection: Connection) -> int:
    """Return the number of the newest entry; 0: there is none."""
    return int(connection.execute(select(func.coalesce(func.max(C.no), 0))).scalar_one())


def entries_where(connection: Connection, *which: ColumnElement[bool]) -> list[Entry]:
    """Return entries, in order."""
    rows = connection.execute(select(ledger_entry).where(*which).order_by(C.no)).mappings()
    return [Entry(**{**row, "kind": LedgerKind(row["kind"]), "lines": json.loads(row["lines"])}) for row in rows]


def balances(connection: Connection, *which: ColumnElement[bool]) -> dict[AccountNumber, int]:
    """Return what accounts owe, cents, those that owe or have something in favour."""
    total = func.sum(C.cents)
    statement = select(C.account, total).where(C.account > 0, C.kind.not_in(WITHOUT_LINES), *which)
    sums = connection.execute(statement.group_by(C.account).having(total != 0).order_by(C.account))
    return {account: int(cents) for account, cents in sums}


def balance(connection: Connection, account: AccountNumber, day: str = "9999") -> int:
    """Return what an account owes at the end of a day, cents; negative: in its favour."""
    return balances(connection, C.account == account, C.day <= day).get(account, 0)


def open_of(connection: Connection, account: AccountNumber) -> tuple[int, list[tuple[Entry, int]]] | None:
    """Return what an account owes, cents, and what is open; ``None``: no payments are booked, so it is not known."""
    if connection.execute(select(C.no).where(C.kind == LedgerKind.PAYMENT).limit(1)).first() is None:
        return None
    return balance(connection, account), open_items(entries_where(connection, C.account == account))


def is_paid(connection: Connection, account: AccountNumber, run: int) -> bool:
    """Return whether a run's bill is paid, as far as payments are booked."""
    owing = open_of(connection, account)
    return owing is not None and all(entry.of != f"run {run} account {account}" for entry, _ in owing[1])


def owed_before(connection: Connection, account: AccountNumber, run: int) -> int | None:
    """Return what an account owed before a run's bill, cents; ``None``: the ledger does not have this bill."""
    bill = select(C.no).where(C.kind == LedgerKind.BILL, C.of == f"run {run} account {account}")
    no = connection.execute(bill).scalar()
    return None if no is None else balances(connection, C.account == account, C.no < no).get(account, 0)


def waiting(connection: Connection) -> list[Entry]:
    """Return the payments that are of no account yet, with the cents that are left of them."""
    payment = ledger_entry.alias().c
    sums = select(C.about, func.sum(C.cents)).where(C.kind == LedgerKind.ASSIGNMENT, C.no.not_in(REVERSED))
    whole = sums.join(payment.no.table, payment.no == C.about).group_by(C.about, payment.cents)
    done = whole.having((func.min(C.account) == 0) | (func.sum(C.cents) == -payment.cents)).with_only_columns(C.about)
    payments = entries_where(connection, C.kind == LedgerKind.PAYMENT, C.no.not_in(done))
    parts = dict(connection.execute(sums.where(C.about.in_([entry.no for entry in payments])).group_by(C.about)).all())
    return [replace(entry, cents=entry.cents + int(parts.get(entry.no, 0))) for entry in payments]


def post_cancel(connection: Connection, run: int, day: str, person: str, now: EpochSeconds) -> None:
    """Take back a cancelled run's bills and their reminders' fees; what was paid stays with the accounts."""
    bills = entries_where(connection, C.kind == LedgerKind.BILL, C.of.startswith(f"run {run} "))
    numbers = {bill.no for bill in bills}
    fees = [
        fee for fee in entries_where(connection, C.kind == LedgerKind.REMINDER, C.cents != 0) if fee.about in numbers
    ]
    post(connection, [reversal(entry, day) for entry in (*bills, *fees)], person, now)


def closed_months(connection: Connection) -> list[str]:
    """Return the closed months, the newest first."""
    return list(connection.scalars(select(C.of).where(C.kind == LedgerKind.CLOSED).order_by(C.of.desc())))


def last_closed(connection: Connection) -> str:
    """Return the newest closed month; empty: no month is closed."""
    return next(iter(closed_months(connection)), "")


def first_open(connection: Connection) -> str:
    """Return the first month that has entries and is not closed; empty: there is none."""
    day = connection.scalar(select(func.min(C.day)).where(C.day > f"{last_closed(connection)}-99"))
    return (day or "")[:7]


def exported(connection: Connection, month: str, codes: LedgerCodes) -> bytes:
    """Return the lines of a month's entries as CSV, with the office's codes; of a closed month as it was closed."""
    parse_month(month)
    for closed in entries_where(connection, C.kind == LedgerKind.CLOSED, C.of == month):
        return zlib.decompress(closed.sealed or b"")
    rows: list[Sequence[object]] = [("entry", "day", "kind", "of", "account", "due", "about", "key", "code", "cents")]
    for entry in entries_where(connection, C.day.startswith(f"{month}-")):
        head = (entry.no, entry.day, entry.kind.value, entry.of, entry.account, entry.due, entry.about)
        rows += [(*head, key, getattr(codes, key), cents) for key, cents in entry.lines.items()]
    return "".join(line_of(row, "\n") for row in rows).encode()


def named_before(connection: Connection, names: Collection[str]) -> set[str]:
    """Return those of some names of payments that the ledger has."""
    rows = connection.execute(select(func.substr(C.of, 1, NAMED)).where(C.kind == LedgerKind.PAYMENT)).scalars()
    return set(names).intersection(rows)


def orders_of(connection: Connection, numbers: Collection[int]) -> list[Entry]:
    """Return the orders with some numbers."""
    is_one = C.kind == LedgerKind.ORDER
    return [order for some in chunks(sorted(numbers)) for order in entries_where(connection, is_one, C.no.in_(some))]


def registered(connection: Connection, numbers: Collection[AccountNumber]) -> set[AccountNumber]:
    """Return those of some numbers that are accounts."""
    return {
        number
        for some in chunks(sorted(numbers))
        for number in connection.execute(select(accounts.c.number).where(accounts.c.number.in_(some))).scalars()
    }


def currency_of(connection: Connection, default: str) -> str:
    """Return the town's currency: that of the newest version of the tariff of accounts without one."""
    table = bill_table(connection, default)
    return table.currency if table else "USD"


def remind(connection: Connection, default: str, now: EpochSeconds) -> list[tuple[AccountNumber, str]]:
    """Append the reminders that are due; return of which account and bill each is."""
    new = post(connection, due_reminders(connection, default, now), "service", now)
    bills = {entry.no: entry.of for entry in entries_where(connection, C.no.in_([entry.about for entry in new]))}
    return [(entry.account, bills[entry.about]) for entry in new]


def due_reminders(connection: Connection, default: str, now: EpochSeconds) -> list[Entry]:
    """Return the reminders that are due by the accounts' tariffs; ``default`` is that of accounts without one."""
    term, versions = account_term.c, published(connection)
    own = select(term.account, term.value).where(term.what == "tariff", term.since <= now // QUARTER_S)
    names = dict(connection.execute(own.order_by(term.since)).all())
    today, due = str(local_day(now, zone_of(connection))), list[Entry]()
    # Later bills, and bills that are paid, need no look: the oldest are paid first.
    for account, owed in balances(connection, (C.due < today) | (C.cents < 0)).items():
        ours = [version for version in versions if version.name == names.get(account, default)]
        if owed > 0 and (tariff := in_force(ours, now // QUARTER_S)) is not None:
            levels = [(level.days, int(level.fee * 100)) for level in tariff.file.reminder]
            due += reminders(entries_where(connection, C.account == account), today, levels)
    return due


_GIVEN, _PAID = C.kind.in_((LedgerKind.ASSIGNMENT, LedgerKind.REVERSAL)), C.kind == LedgerKind.PAYMENT
_RELEASED = C.kind == LedgerKind.RELEASE
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
        return sum(abs(order.cents) for order, _ in self.orders)

    def sealed(self, key: bytes) -> bytes:
        """Return whom each order is of, encrypted by the office's key: with it the file leaves as it was released."""
        return encrypt(key, json.dumps({order.account: asdict(to) for order, to in self.orders}).encode())


def order_file(connection: Connection, settings: UtilitySettings, file: str) -> OrderFile:
    """Return a file of orders as it is now; without orders, if there is no such file or all its bills are cancelled."""
    entries = entries_where(connection, C.kind == LedgerKind.ORDER, C.text == file, *STANDING)
    key, released = office_key(connection, settings.office), entries_where(connection, _RELEASED, C.text == file)
    if released:
        kept = json.loads(decrypt(key, released[0].sealed or b""))
        who = {int(account): Contact(**fields) for account, fields in kept.items()}
    else:
        who = contacts_on(connection, key, entries[0].due) if entries else {}
    orders = [(order, who[order.account]) for order in entries if order.account in who]
    rows = [[order.no, order.account, order.cents, order.due, to.name, to.iban, to.mandate] for order, to in orders]
    digest = hashlib.sha256(json.dumps([settings.office.iban, rows]).encode()).hexdigest()
    firsts, changed = _firsts(connection, [order for order, _ in orders])
    by = released[0].person if released else ""
    return OrderFile(file=file, orders=orders, digest=digest, firsts=firsts, changed=changed, released_by=by)


def _firsts(connection: Connection, orders: list[Entry]) -> tuple[dict[str, str], set[AccountNumber]]:
    refunded = {order.account for order in orders if order.cents < 0}
    assigned = [e for some in chunks(sorted(refunded)) for e in entries_where(connection, _GIVEN, C.account.in_(some))]
    paid = sorted(entry.about for entry in assigned)
    imported = [e for some in chunks(paid) for e in entries_where(connection, _PAID, C.no.in_(some))]
    did = {entry.person: f"gave or took back a payment of account {entry.account}" for entry in assigned}
    did |= {payment.person: "imported a payment of a refunded account" for payment in imported}
    subjects = {f"account {order.account}": order.account for order in orders}
    since = min((order.time for order in orders), default=0) - CHANGED_S
    changes = persons_of(connection, ("contact.set", "move.make", "move.back"), since)
    changed = {subjects[subject] for subject, _ in changes if subject in subjects}
    did |= {person: f"changed who {subject} is" for subject, person in changes if subject in subjects}
    # A program is no second one; of the others only who ordered has to be a person.
    people = standings(connection, did)
    return {n: what for n, what in did.items() if n in people} | {e.person: "ordered it" for e in orders}, changed
