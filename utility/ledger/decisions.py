"""What clerks decide about the ledger: payments, reversals, orders for the bank, months."""

import hashlib
import hmac
import json
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from pydantic import BaseModel, Field

from commonwatt.care.code import decrypt, encrypt
from commonwatt.model.calendar import local_day, require_near
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record
from utility.customers.store import contacts_on, office_key
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.engines import Lock, take
from utility.database.town_zone import zone_of
from utility.ledger import store
from utility.ledger.bank import Booking, accounts_in, bookings
from utility.ledger.entry import Entry, LedgerKind, live, open_items, reversal
from utility.ledger.store import NAMED, C, entries_where, order_file, post
from utility.readings.store.parts import chunks
from utility.settings import UtilitySettings

ORDER = "CW"  # what the end-to-end reference of an order begins with; its number follows
SAME_MONEY_DAYS = 3  # days within which as many cents of an account, in another file, may be the same payment
MUCH, LEAST_CENTS = 20, 10_00  # a payment of more than so many times what is owed, but not of less, is asked about
WAIT_DAYS = 10  # days after an order's day within which its money may still move
REVERSIBLE = (LedgerKind.ASSIGNMENT, LedgerKind.REMINDER, LedgerKind.ORDER)


class Asked(BaseModel):
    """What a decision needs; each uses some."""

    no: int = Field(0, ge=0, lt=2**31)  # an entry
    account: int = Field(0, ge=0, lt=2**31)  # an account
    part: Decimal = Field(Decimal(0), max_digits=12, decimal_places=2)  # of a payment; 0: all that is left of it
    day: str = Field("", max_length=10)  # a local day to come; to propose a month, the month
    sure: bool = False  # much more than is owed is meant


class Case(NamedTuple):
    """What a decision is taken on."""

    connection: Connection  # the transaction, which alone changes the ledger
    settings: UtilitySettings  # the utility's settings
    asked: Asked  # what the clerk wants
    today: str  # the local day


def take_in(
    database: Database, settings: UtilitySettings, content: bytes, actor: Actor, now: EpochSeconds
) -> dict[str, list[str]]:
    """Import a bank's file; return its bookings by what became of them. What the ledger has already changes nothing.

    Raises:
        ConfigError: The file can't be read; nothing was changed.
    """
    done: dict[str, list[str]] = {"assigned": [], "waiting": [], "there already": [], "left out": []}
    booked = bookings(content, settings.office.iban)
    with database.reads.begin() as connection:
        key = office_key(connection, settings.office)
        currency = store.currency_of(connection, settings.billing.tariff)
        today, owed = str(local_day(now, zone_of(connection))), store.balances(connection)
    payments = dict[str, tuple[Entry, Booking]]()
    for booking in booked:
        if fault := _fault(booking, currency, today):
            done["left out"].append(f"{booking.day} {booking.amount}: {fault}")
            continue
        named, whole = (hmac.digest(key, json.dumps(x).encode(), "sha256").hex() for x in _identities(booking))
        cents, words = int(booking.amount * 100), json.dumps([booking.payer, booking.text]).encode()
        payment = Entry(
            day=booking.day, kind=LedgerKind.PAYMENT, of=named + whole, cents=cents, sealed=encrypt(key, words)
        )
        payments[payment.of] = replace(payment, text=booking.day, lines={"bank": cents, "suspense": -cents}), booking
    # Only what depends on what is stored holds the lock of all that write.
    with database.writes.begin() as connection:
        take(connection, Lock.LEDGER)
        if office_key(connection, settings.office) != key:
            raise ConfigError("the office's key was changed meanwhile; import the file again")
        _refuse_other_key(connection, key, [payment for payment, _ in payments.values()])
        known = store.named_before(connection, {ref[:NAMED] for ref in payments})
        accounts = _accounts(connection, [booking for _, booking in payments.values()])
        days = _given(connection, set().union(*(accounts(booking) for _, booking in payments.values())))
        posted, sure = post(connection, [payment for payment, _ in payments.values()], actor.name, now), []
        for entry in posted:
            booking, fitting = payments[entry.of][1], accounts(payments[entry.of][1])
            # The same reference of the bank on another day, or twice in a file, may be the same money: a person looks.
            # So may as many cents of an account within days, which another format names in other words.
            again = booking.repeats or (booking.bank_reference and entry.of[:NAMED] in known)
            again = again or any(_is_near(entry.day, day) for account in fitting for day in days[account, entry.cents])
            is_much = any(_is_much(entry.cents, owed.get(account, 0)) for account in fitting)
            much = ", much more than is owed" if is_much else ""
            named_accounts = [] if again or is_much else fitting
            sure += [_assignment(entry, account, entry.day) for account in named_accounts if len(named_accounts) == 1]
            state = "assigned" if len(named_accounts) == 1 else "waiting"
            done[state].append(f"{entry.day} {entry.cents / 100:.2f}{' again' if again else ''}{much}")
        post(connection, sure, actor.name, now)
        new = {entry.of for entry in posted}
        done["there already"] = [f"{each.day} {each.amount}" for ref, (_, each) in payments.items() if ref not in new]
        record(connection, actor, now, "ledger.import", "a bank's file", None, {k: len(v) for k, v in done.items()})
    return done


def _is_much(cents: int, owed: int) -> bool:
    return cents > MUCH * max(owed, LEAST_CENTS)


def _identities(booking: Booking) -> tuple[tuple[object, ...], tuple[object, ...]]:
    return booking.named(), booking.identity()


def _refuse_other_key(connection: Connection, key: bytes, payments: Sequence[Entry]) -> None:
    """Refuse payments that may be there already, known by another key of the office: they would count twice."""
    same = {(payment.text, payment.cents) for payment in payments}
    of_days = C.text.in_({day for day, _ in same})
    for payment in entries_where(connection, C.kind == LedgerKind.PAYMENT, of_days) if same else ():
        if (payment.text, payment.cents) in same:
            try:
                decrypt(key, payment.sealed or b"")
            except ConfigError as error:
                raise ConfigError("the office's key is not that of earlier imports; put the copy back") from error


def _fault(booking: Booking, currency: str, today: str) -> str:
    if booking.day > today:
        return "its day is to come"
    if not booking.is_booked or booking.currency != currency:
        return f"its currency is not {currency}" if booking.is_booked else "the bank may still change it"
    return "" if booking.amount and not booking.amount * 100 % 1 else "its amount is zero, or not in cents"


def _accounts(connection: Connection, booked: Sequence[Booking]) -> Callable[[Booking], set[AccountNumber]]:
    """Return a function: the accounts that a booking names by the number of its order, else by its words."""
    numbers = {each.reference: number for each in booked if (number := _order_number(each.reference)) is not None}
    orders = {order.no: order.account for order in store.orders_of(connection, numbers.values())}
    words = {booking.text: accounts_in(booking.text) for booking in booked}
    there = store.registered(connection, set().union(*words.values()))

    def accounts(booking: Booking) -> set[AccountNumber]:
        number = numbers.get(booking.reference)
        if number is not None:
            return {orders[number]} if number in orders else set()
        return words[booking.text] & there

    return accounts


def _given(connection: Connection, accounts: set[AccountNumber]) -> Mapping[tuple[AccountNumber, int], list[str]]:
    """Return the days of the payments that accounts have been given, by account and cents."""
    days = defaultdict[tuple[AccountNumber, int], list[str]](list)
    for some in chunks(sorted(accounts)):
        for entry in entries_where(connection, C.kind == LedgerKind.ASSIGNMENT, C.account.in_(some)):
            days[entry.account, -entry.cents].append(entry.day)
    return days


def _is_near(day: str, other: str) -> bool:
    return abs(date.fromisoformat(day) - date.fromisoformat(other)) <= timedelta(SAME_MONEY_DAYS)


def _order_number(reference: str) -> int | None:
    digits = reference.removeprefix(ORDER)
    return int(digits) if digits != reference and digits.isdecimal() and len(digits) < 10 else None


def _assignment(payment: Entry, account: AccountNumber, day: str, again: str = "") -> Entry:
    """Return the entry that gives a payment to an account; without one it goes back to the payer."""
    cents, lines = payment.cents, {"suspense": payment.cents, "receivables": -payment.cents}
    new = Entry(day=day, kind=LedgerKind.ASSIGNMENT, of=f"payment {payment.no}{again}", about=payment.no, cents=0)
    return replace(new, account=account, cents=-cents, lines=lines) if account else new


def decide(
    database: Database, settings: UtilitySettings, name: str, asked: Asked, actor: Actor, now: EpochSeconds
) -> list[Entry]:
    """Take a decision of ``DECISIONS``; return the entries that it made.

    Raises:
        ConfigError: It can't be taken; says why.
    """
    with database.writes.begin() as connection:
        take(connection, Lock.LEDGER)
        today = str(local_day(now, zone_of(connection)))
        entries = post(connection, DECISIONS[name](Case(connection, settings, asked, today)), actor.name, now)
        if not entries:
            raise ConfigError("there is nothing to do")
        record(
            connection, actor, now, f"ledger.{name}", f"account {asked.account}", None, asked.model_dump(mode="json")
        )
    return entries


def _assign(case: Case) -> list[Entry]:
    """Give a payment that waits, or a part of it, to an account; or to none, since it goes back."""
    asked, connection = case.asked, case.connection
    payment = next((entry for entry in store.waiting(connection) if entry.no == asked.no), None)
    if payment is None:
        raise ConfigError(f"no: {asked.no} is no payment that waits")
    if asked.account and not store.registered(connection, [asked.account]):
        raise ConfigError(f"account: there is no account {asked.account}")
    part = int(asked.part * 100) or payment.cents
    if abs(part) > abs(payment.cents) or part * payment.cents < 0:
        raise ConfigError(f"part: {payment.cents / 100:.2f} is left of the payment")
    owed = store.balance(connection, asked.account)
    if asked.account and not asked.sure and _is_much(part, owed):
        much = f"{part / 100:,.2f} is more than {MUCH} times the {owed / 100:,.2f} that account {asked.account} owes"
        raise ConfigError(f"sure: {much}. Assign it all the same")
    payment = replace(payment, cents=part)
    again = len(entries_where(connection, C.about == asked.no))
    return [_assignment(payment, asked.account, case.today, f" again {again}" if again else "")]


def _reverse(case: Case) -> list[Entry]:
    entries = [entry for entry in entries_where(case.connection, C.no == case.asked.no) if entry.kind in REVERSIBLE]
    if not entries:
        raise ConfigError(f"no: {case.asked.no} is no entry that can be taken back")
    if entries[0].kind is LedgerKind.ORDER and entries_where(
        case.connection, C.kind == LedgerKind.RELEASE, C.text == entries[0].text
    ):
        stands = entries_where(case.connection, C.no == entries[0].about, *store.STANDING)
        if stands:
            raise ConfigError("no: its file was released, so the bank may carry it out; a bill is ordered once")
    return [reversal(entries[0], case.today)]


def _order(case: Case, *, is_refund: bool) -> list[Entry]:
    """Order direct debits of what is open of bills, or refunds after last bills; each bill once."""
    connection, office, orders = case.connection, case.settings.office, list[Entry]()
    if not (office.name and office.iban and (is_refund or office.creditor)):
        raise ConfigError("the town has no bank account for this yet", "set the name, iban, creditor of the office")
    file, day = f"CW-{case.today}-{store.newest(connection)}", _day(case)
    who = contacts_on(connection, office_key(connection, office), day)
    for account, owed in store.balances(connection).items():
        entries = live(entries_where(connection, C.account == account))
        bills = [bill for bill in entries if bill.kind is LedgerKind.BILL]
        if account not in who or not who[account].iban or not bills:
            continue
        # The bank may still carry out an order of a bill that was cancelled since, or an earlier refund.
        stand = () if is_refund else [bill.no for bill in bills]
        late = [order for order in entries if order.kind is LedgerKind.ORDER and order.about not in stand]
        if any(case.today < str(date.fromisoformat(order.due) + timedelta(WAIT_DAYS)) for order in late):
            continue
        to_order = [(bills[-1], owed)] if is_refund and owed < 0 and bills[-1].text == "final" else []
        if not is_refund and who[account].mandate_day:
            to_order = [(bill, cents) for bill, cents in open_items(entries) if bill in bills]
        ordered = {order.about for order in entries if order.kind is LedgerKind.ORDER}
        new = Entry(day=case.today, kind=LedgerKind.ORDER, of="", account=account, cents=0, due=day, text=file)
        orders += [
            replace(new, of=f"{file} bill {bill.no}", about=bill.no, cents=cents)
            for bill, cents in to_order
            if bill.no not in ordered
        ]
    return orders


def _propose(case: Case) -> list[Entry]:
    """Propose to close a month that is over."""
    month, closed = case.asked.day, store.last_closed(case.connection)
    before = entries_where(case.connection, C.day > f"{closed}-99", C.day < month)[:1]
    if not closed < month < case.today[:7] or before:
        raise ConfigError(f"{month}: only the first month that is over and not closed can be closed")
    digest = hashlib.sha256(store.exported(case.connection, month, case.settings.office.codes)).hexdigest()
    return [Entry(day=case.today, kind=LedgerKind.PROPOSAL, of=f"{month} {digest}", cents=0, text=month)]


def close(database: Database, settings: UtilitySettings, proposal: str, second: Second) -> None:
    """Close a month that another person proposed: no entry comes to it, and its export stays as it is.

    Args:
        proposal: What the person saw proposed: the month, and the digest of its export.

    Raises:
        ConfigError: It was not proposed as it is now, or the person may not be the second one.
    """
    month = proposal.partition(" ")[0]
    with second_person(database, second, f"ledger {month}") as connection:
        take(connection, Lock.LEDGER)
        content = store.exported(connection, month, settings.office.codes)
        is_same = proposal == f"{month} {hashlib.sha256(content).hexdigest()}"
        proposed = entries_where(connection, C.kind == LedgerKind.PROPOSAL, C.of == proposal)
        if not is_same or not proposed or month <= store.last_closed(connection):
            raise ConfigError(f"{month}: is not proposed as it is now; a clerk proposes it")
        require_second(connection, second, {proposed[0].person: "proposed it"})
        today = str(local_day(second.now, zone_of(connection)))
        closing = Entry(day=today, kind=LedgerKind.CLOSED, of=month, cents=0, sealed=zlib.compress(content))
        post(connection, [closing], second.actor.name, second.now)
        record(connection, second.actor, second.now, "ledger.close", month, None, proposal)


def release(database: Database, settings: UtilitySettings, file: str, digest: str, second: Second) -> None:
    """Let a file of orders leave, as the second person saw it.

    Raises:
        ConfigError: There is none, it is not as the person saw it, or the person may not be the second one.
    """
    with second_person(database, second, f"orders {file}") as connection:
        take(connection, Lock.LEDGER)
        orders = order_file(connection, settings, file)
        if orders.released_by:
            raise ConfigError(f"{file}: {orders.released_by} has released it; the bank may have it")
        if not orders.orders or orders.digest != digest:
            raise ConfigError(f"{file}: its orders are not those that you saw; look again")
        require_second(connection, second, orders.firsts)
        today = str(local_day(second.now, zone_of(connection)))
        # What leaves is what was seen, whatever becomes of the accounts' people later.
        sealed = orders.sealed(office_key(connection, settings.office))
        entry = Entry(day=today, kind=LedgerKind.RELEASE, of=f"{file} {digest}", cents=0, text=file, sealed=sealed)
        post(connection, [entry], second.actor.name, second.now)
        record(connection, second.actor, second.now, "ledger.release", file, None, {"digest": digest})


def _day(case: Case) -> str:
    try:
        day = str(date.fromisoformat(case.asked.day))
    except ValueError as error:
        raise ConfigError(f"day: {case.asked.day!r} is no day; write it as 2026-11-28") from error
    require_near("day", date.fromisoformat(day), date.fromisoformat(case.today), 0, 366)
    return day


DECISIONS: Mapping[str, Callable[[Case], list[Entry]]] = {
    "assign": _assign,
    "reverse": _reverse,
    "propose": _propose,
    "collect": partial(_order, is_refund=False),
    "refund": partial(_order, is_refund=True),
}
"""What a clerk can decide, by name."""
