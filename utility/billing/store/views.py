"""Runs of bills, and accounts, as people look for them: bills by pages, two runs side by side, accounts found."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from statistics import median
from typing import Any

from sqlalchemy import Connection, Row, Select, func, or_, select

from commonwatt.model.units import AccountNumber, Quarter
from utility.access.tables import person
from utility.billing.bill import Step, dollars, steps_of
from utility.billing.store.runs import ONCE_ISSUED
from utility.billing.tables import bill, bill_run
from utility.registry.tables import holding, meter

_FEW = 2  # bills that are listed for each reason


class BillOrder(StrEnum):
    """The order of a run's bills."""

    ACCOUNT = "account"
    LESS = "less"
    MORE = "more"


@dataclass(frozen=True, kw_only=True)
class BillRow:
    """A bill beside the same account's bill in another run."""

    account: AccountNumber  # the account
    total: Decimal  # dollars
    before: Decimal | None  # dollars in the other run; ``None``: it has no bill there
    difference: Decimal | None  # how much more it is, dollars


@dataclass(frozen=True, kw_only=True)
class StandingOut:
    """What a person looks at before a run is issued."""

    listed: Sequence[tuple[BillRow, str]]  # some bills, each with why it stands out
    zero: int  # bills of nothing
    both: int  # accounts with a bill in the other run, too
    more: int  # accounts that pay more than there
    less: int  # accounts that pay less
    median: Decimal  # half of the bills are higher, dollars
    median_change: Decimal | None  # the same of the changes; ``None``: there is nothing to compare with
    steps: Sequence[Step]  # how many bills there are from one amount to below another one
    change_steps: Sequence[Step]  # how many accounts there are by change from the other run


def standing_out(connection: Connection, number: int, other: int | None) -> StandingOut:
    """Return what stands out among the bills of a run, beside those of another one."""
    statement, _ = _beside(number, other)
    rows = sorted(connection.execute(statement), key=lambda row: -row.cents)
    cents = [row.cents for row in rows]
    changes = [row.cents - row.was for row in rows if row.was is not None]
    return StandingOut(
        listed=_listed(connection, number, rows),
        zero=cents.count(0),
        both=len(changes),
        more=sum(change > 0 for change in changes),
        less=sum(change < 0 for change in changes),
        median=dollars(round(median(cents))) if cents else Decimal(0),
        median_change=dollars(round(median(changes))) if changes else None,
        steps=steps_of(cents),
        change_steps=steps_of(changes),
    )


def _listed(connection: Connection, number: int, rows: Sequence[Row[Any]]) -> list[tuple[BillRow, str]]:
    """Return the first bills of each reason to look at one; ``rows`` are the run's bills, the largest first."""
    known = sorted((row for row in rows if row.was is not None), key=lambda row: row.cents - row.was)
    content = bill.c.content  # canonical JSON: without spaces
    marks = {
        "lacks some data": ~content.contains('"missing":0,'),
        "has estimates": ~content.contains('"estimated":0,'),
        "credit larger than the rest": content.contains('"kind":"lapsed"'),
    }
    chosen = {
        "largest": [row.account for row in rows[:_FEW] if row.cents],
        "rose most": [row.account for row in known[: -_FEW - 1 : -1] if row.cents > row.was],
        "fell most": [row.account for row in known[:_FEW] if row.cents < row.was],
    }
    for words, mark in marks.items():
        statement = select(bill.c.account).where(bill.c.run_no == number, mark).order_by(bill.c.account).limit(_FEW)
        chosen[words] = list(connection.execute(statement).scalars())
    reasons = {n: ", ".join(words for words in chosen if n in chosen[words]) for of in chosen.values() for n in of}
    found = {row.account: _bill_row(row) for row in rows}
    return [(found[account], why) for account, why in reasons.items()]


def bills_page(
    connection: Connection, number: int, other: int | None, order: BillOrder, limit: int, skipped: int
) -> list[BillRow]:
    """Return some bills of a run: by account, or by the change from another run, the largest fall or rise first."""
    statement, was = _beside(number, other)
    change = bill.c.cents - func.coalesce(was, bill.c.cents)
    orders: dict[BillOrder, tuple[Any, ...]] = {
        BillOrder.ACCOUNT: (bill.c.account,),
        BillOrder.LESS: (change, bill.c.account),
        BillOrder.MORE: (change.desc(), bill.c.account),
    }
    statement = statement.order_by(*orders[order]).limit(limit).offset(skipped)
    return [_bill_row(row) for row in connection.execute(statement)]


def drafts_of_account(connection: Connection, account: AccountNumber, limit: int) -> Sequence[dict[str, Any]]:
    """Return an account's bills in runs not issued yet, the newest first: run, month, state, total in dollars."""
    c = bill_run.c
    statement = select(c.no, c.month, c.state, bill.c.cents).join(bill, bill.c.run_no == c.no)
    statement = statement.where(bill.c.account == account, c.state.not_in(ONCE_ISSUED))
    statement = statement.order_by(c.month.desc(), c.no.desc()).limit(limit)
    return [
        {"no": row.no, "month": row.month, "state": row.state, "issued": None, "total": dollars(row.cents)}
        for row in connection.execute(statement)
    ]


def _beside(number: int, other: int | None) -> tuple[Select[Any], Any]:
    was = bill.alias("was")
    statement = select(bill.c.account, bill.c.cents, was.c.cents.label("was"))
    joined = statement.outerjoin(was, (was.c.run_no == (other or 0)) & (was.c.account == bill.c.account))
    return joined.where(bill.c.run_no == number), was.c.cents


def _bill_row(row: Row[Any]) -> BillRow:
    before, difference = (None, None) if row.was is None else (dollars(row.was), dollars(row.cents - row.was))
    return BillRow(account=row.account, total=dollars(row.cents), before=before, difference=difference)


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
