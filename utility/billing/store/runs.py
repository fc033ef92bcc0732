"""Runs of bills and bills: made as drafts, checked, issued by a second person, never changed (C3).

A run and its bills are written in one transaction, and each further step is one statement, so a crash leaves nothing
half. The same inputs make no second run, and a month has at most one issued run.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from importlib.metadata import version
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, func, select

from commonwatt.model.calendar import month_quarters
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds, Quarter
from utility.billing.bill import Bill, BillEntry, EntryKind, LineKind, to_cents
from utility.billing.inputs import rules_of
from utility.billing.proof import HASH_BYTES, bill_of, canonical, check_code, digest_of
from utility.billing.rules.lines import Billed
from utility.billing.store import billing_sources
from utility.billing.stored_run import (
    BilledMonth,
    Computed,
    EarlierMonth,
    StoredRun,
    Tree,
    billed_month,
    kept_of,
    unpack_run,
)
from utility.billing.tables import bill, bill_entry, bill_run
from utility.customers.store import digests_at
from utility.database.database import Database, insert_or
from utility.database.town_zone import timezone_of, zone_of
from utility.jobs.plans import Period
from utility.registry.store.statements import moved_out
from utility.settlement.store.settled import days_between, first_settled_day, not_final
from utility.tariffs.store import CORRECTED_MONTHS, published

# States of runs whose bills people have: each bill is proved, and never changes.
ONCE_ISSUED = ("issued", "cancelled")
SERVICE = "service"  # the maker of a run that the service's job made

_NOT_SHOWN = ("by_job", "inputs_digest", "root", "secret", "leaves", "inputs")
_COLUMNS = [column for column in bill_run.c if column.name not in _NOT_SHOWN]


Issued: TypeAlias = Mapping[int, Mapping[AccountNumber, Billed]]
"""The bills of issued runs, as their runs made them, by the number of the run."""


def run_inputs(connection: Connection, month: str, default: str, issued: Issued, quarter: Quarter) -> StoredRun:
    """Return the inputs of a run as they are now.

    Args:
        default: The name of the tariff of accounts without one.
        issued: The bills of the runs ``issued_numbers``.
        quarter: When names and addresses are looked up.
    """
    _refuse_issued(connection, month)
    previous = _newest_issued(connection)
    addressees, tariffs = digests_at(connection, quarter) or None, published(connection)
    entries, finals = _open_entries(connection), moved_out(connection, month_quarters(month, zone_of(connection))[1])
    return StoredRun(
        month=month,
        timezone=timezone_of(connection),
        default=default,
        code=version("commonwatt"),
        settled=billing_sources.newest_settled(connection),
        previous=previous,
        tariffs=tuple(each.canonical() for each in tariffs),
        registry=billing_sources.load_registry(connection),
        bases=_bases(issued.get(previous, {})),
        earlier=_earlier(connection, issued),
        entries=entries,
        finals=finals,
        addressees=addressees,
        replaces=_cancelled_code(connection, month),
        rules=rules_of(
            addressees, entries, finals, *(t.file.tax or t.policy.base_of_part_month == "by_day" for t in tariffs)
        ),
    )


def save_run(
    connection: Connection, computed: Computed, tree: Tree, person: str, now: EpochSeconds
) -> tuple[int, bool] | None:
    """Store a run as a draft with its bills, unless there is one with the same inputs.

    Returns its number and whether it is new; ``None``: the service's job has made a run of this month already.
    """
    run = computed.run
    inputs = run.pack()
    digest = digest_of([inputs])
    row = {
        "month": run.month,
        "by_job": run.month if person == SERVICE else None,
        "state": "draft",
        "policy": next((each.bill.policy for each in computed.billed.values()), ""),
        "code": run.code,
        "settled_no": run.settled,
        "previous_no": run.previous,
        "inputs_digest": digest,
        "digest": computed.digest,
        "root": tree.head["root"],
        "secret": tree.secret,
        "leaves": b"".join(tree.hashes),
        "head": canonical(tree.head).decode(),
        "figures": json.dumps(computed.figures),
        "inputs": inputs,
        "made_by": person,
        "made": now,
    }
    statement = insert_or(connection, bill_run).values(row).on_conflict_do_nothing().returning(bill_run.c.no)
    number = connection.execute(statement).scalar()
    if number is None:
        same = (bill_run.c.month == run.month) & (bill_run.c.inputs_digest == digest)
        found: int | None = connection.execute(select(bill_run.c.no).where(same)).scalar()
        return None if found is None else (found, False)
    rows = [
        {
            "run_no": number,
            "account": account,
            "cents": to_cents(each.bill.total),
            "base": None if each.base is None else str(each.base),
            "content": computed.contents[account].decode(),
        }
        for account, each in computed.billed.items()
    ]
    if rows:
        connection.execute(bill.insert(), rows)
    return int(number), True


def runs(connection: Connection, limit: int, before: int | None = None) -> list[dict[str, Any]]:
    """Return the newest runs without their inputs, the newest first; only numbers below ``before``."""
    statement = select(*_COLUMNS).order_by(bill_run.c.no.desc()).limit(limit)
    if before is not None:
        statement = statement.where(bill_run.c.no < before)
    return [_run_row(row) for row in connection.execute(statement).mappings()]


def run_of(connection: Connection, number: int) -> dict[str, Any]:
    """Return a run without its inputs.

    Raises:
        ConfigError: There is none of that number.
    """
    row = connection.execute(select(*_COLUMNS).where(bill_run.c.no == number)).mappings().first()
    if row is None:
        raise ConfigError(f"{number}: there is no run of bills with this number", "see: commonwatt show runs")
    return _run_row(row)


def stored_run(connection: Connection, number: int, account: AccountNumber | None = None) -> StoredRun:
    """Return the inputs of a run, or what one account's bill needs of them."""
    packed = connection.execute(select(bill_run.c.inputs).where(bill_run.c.no == number)).scalar_one()
    return unpack_run(packed, account)


def tree_of(connection: Connection, number: int) -> Tree:
    """Return the tree over the bills of a run."""
    c = bill_run.c
    row = connection.execute(select(c.secret, c.leaves, c.head).where(c.no == number)).one()
    hashes = tuple(row.leaves[at : at + HASH_BYTES] for at in range(0, len(row.leaves), HASH_BYTES))
    return Tree(secret=row.secret, hashes=hashes, head=json.loads(row.head))


def count_runs(connection: Connection) -> Mapping[str, int]:
    """Return the number of runs by state; states without a run are left out."""
    return dict(connection.execute(select(bill_run.c.state, func.count()).group_by(bill_run.c.state)).all())


def count_issued(connection: Connection) -> int:
    """Return the number of bills of the last month that was issued."""
    return count_bills(connection, _newest_issued(connection))


def issued_run(connection: Connection, month: str) -> int | None:
    """Return the number of the issued run of a month; ``None``: it has none."""
    ours = (bill_run.c.month == month) & (bill_run.c.state == "issued")
    found: int | None = connection.execute(select(bill_run.c.no).where(ours)).scalar()
    return found


def newest_issued(
    connection: Connection, limit: int, states: Sequence[str] = ("issued",)
) -> list[tuple[int, str, EpochSeconds, str]]:
    """Return number, month, time of issue and state of the newest issued runs, or of those in some states."""
    c = bill_run.c
    statement = select(c.no, c.month, c.issued, c.state).where(c.state.in_(states))
    statement = statement.order_by(c.month.desc(), c.no.desc()).limit(limit)
    return [(row.no, row.month, row.issued, row.state) for row in connection.execute(statement)]


def latest_run(connection: Connection, month: str) -> int | None:
    """Return the number of a month's issued run, else of its newest one; ``None``: it has none."""
    of_month = select(func.max(bill_run.c.no)).where(bill_run.c.month == month)
    newest: int | None = connection.execute(of_month).scalar()
    return issued_run(connection, month) or newest


def is_billed(connection: Connection, month: str) -> bool:
    """Return whether the service's job has made a run of a month, or a person has issued that or a later month."""
    ours = (bill_run.c.by_job == month) | ((bill_run.c.month >= month) & (bill_run.c.state == "issued"))
    return connection.execute(select(bill_run.c.no).where(ours).limit(1)).first() is not None


def unissued_before(connection: Connection, month: str) -> str | None:
    """Return the month before ``month`` whose run by the service's job waits to be issued; ``None``: there is none."""
    c = bill_run.c
    issued = select(func.coalesce(func.max(c.month), "")).where(c.state == "issued").scalar_subquery()
    waiting = select(func.min(c.by_job)).where(c.by_job < month, c.by_job > issued)
    found: str | None = connection.execute(waiting).scalar()
    return found


def bills_of_run(connection: Connection, number: int) -> list[Bill]:
    """Return the bills of a run, by account."""
    return [bill_of(content) for content in contents_of(connection, number).values()]


@dataclass(frozen=True, kw_only=True)
class StoredBill:
    """A bill as its row has it."""

    bill: Bill | None  # its content; ``None``: it can't be read
    cents: int  # the column with its total
    base: Decimal | None  # the column with the account's base from the next month on, dollars; ``None``: none is kept


def stored_bills(
    connection: Connection, number: int, account: AccountNumber | None = None
) -> dict[AccountNumber, StoredBill]:
    """Return the rows of the bills of a run, or that of one account, by account."""
    c = bill.c
    statement = select(c.account, c.cents, c.base, c.content).where(c.run_no == number).order_by(c.account)
    if account is not None:
        statement = statement.where(c.account == account)
    return {
        row.account: StoredBill(
            bill=_read(row.content), cents=int(row.cents), base=None if row.base is None else Decimal(row.base)
        )
        for row in connection.execute(statement)
    }


def _read(content: str) -> Bill | None:
    try:
        found = bill_of(content)
        to_cents(found.total)
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None
    return found


def count_bills(connection: Connection, number: int) -> int:
    """Return the number of bills of a run."""
    return int(connection.execute(select(func.count()).select_from(bill).where(bill.c.run_no == number)).scalar_one())


def contents_of(connection: Connection, number: int) -> dict[AccountNumber, bytes]:
    """Return the bills of a run as canonical JSON, by account."""
    statement = select(bill.c.account, bill.c.content).where(bill.c.run_no == number).order_by(bill.c.account)
    return {row.account: row.content.encode() for row in connection.execute(statement)}


def check_run(connection: Connection, number: int, person: str, now: EpochSeconds, *, again: bool = False) -> None:
    """Mark a draft as checked; or a checked run as checked again, by another person.

    Raises:
        ConfigError: It is no draft.
    """
    ours = (bill_run.c.no == number) & (bill_run.c.state == ("checked" if again else "draft"))
    done = connection.execute(bill_run.update().where(ours).values(state="checked", checked_by=person, checked=now))
    if not done.rowcount:
        raise ConfigError(f"run {number} is {run_of(connection, number)['state']}; only a draft is checked")


def issue_run(connection: Connection, number: int, person: str, now: EpochSeconds) -> None:
    """Issue a checked run.

    Raises:
        ConfigError: It is not checked, its month or a later one has issued bills, a run was issued since it was made,
            or data is provisional.
    """
    run = run_of(connection, number)
    if run["state"] != "checked":
        raise ConfigError(f"run {number} is {run['state']}; only a checked run is issued")
    _refuse_issued(connection, run["month"])
    replaced = tree_of(connection, number).head.get("replaces", "")
    if run["previous_no"] != _newest_issued(connection) or replaced != _cancelled_code(connection, run["month"]):
        raise ConfigError(
            f"run {number} was made before another run was issued or cancelled",
            f"make it again: commonwatt do runs month={run['month']}",
        )
    if provisional := run["figures"]["provisional"]:
        raise ConfigError(
            f"run {number}: {provisional} bills have provisional quarter-hours, for which readings may come: wait "
            "for the deadline of settlement, then make the run again",
            f"with: commonwatt do runs month={run['month']}",
        )
    ours = (bill_run.c.no == number) & (bill_run.c.state == "checked")
    done = connection.execute(bill_run.update().where(ours).values(state="issued", issued_by=person, issued=now))
    if not done.rowcount:
        raise ConfigError(f"run {number} was issued by another person meanwhile", "see: commonwatt show runs")


def _run_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    # The root of the head is the one that is printed and checked, not the column beside it.
    head = {} if row["head"] is None else json.loads(row["head"])
    rest = {name: value for name, value in row.items() if name != "head"}
    return rest | {"root": head.get("root"), "figures": json.loads(row["figures"])}


def _open_entries(connection: Connection) -> tuple[BillEntry, ...]:
    """Return what two people entered and no issued bill has yet, by number."""
    c = bill_entry.c
    rows = connection.execute(select(bill_entry).where(c.state == "approved", c.left_cents != 0).order_by(c.no))
    return tuple(
        BillEntry(no=row.no, account=row.subject, kind=EntryKind(row.kind), cents=row.left_cents, reason=row.reason)
        for row in rows
    )


def _cancelled_code(connection: Connection, month: str) -> str:
    """Return the check code of a month's cancelled run, the newest one; empty: there is none."""
    of_month = (bill_run.c.month == month) & (bill_run.c.state == "cancelled")
    newest = connection.execute(select(func.max(bill_run.c.no)).where(of_month)).scalar()
    return "" if newest is None else check_code(tree_of(connection, newest).head)


def _newest_issued(connection: Connection) -> int:
    """Return the number of the run of the newest month with issued bills; 0: there is none."""
    return next((number for number, *_ in newest_issued(connection, 1)), 0)


def _refuse_issued(connection: Connection, month: str) -> None:
    for _, newest, *_ in newest_issued(connection, 1):
        if newest >= month:
            raise ConfigError(
                f"{month}: bills of {newest} are issued and stay; late data of it becomes corrections on the next bills"
            )


def issued_numbers(connection: Connection) -> list[int]:
    """Return the issued runs that a new run starts from: the months that it corrects, and the one before them."""
    return [number for number, *_ in newest_issued(connection, CORRECTED_MONTHS + 1)]


def _bases(billed: Mapping[AccountNumber, Billed]) -> dict[AccountNumber, Decimal]:
    return {account: each.base for account, each in billed.items() if each.base is not None}


def _earlier(connection: Connection, issued: Issued) -> tuple[EarlierMonth, ...]:
    """Return the newest months with issued bills, the oldest first, and what was billed for them so far."""
    c = bill_run.c
    statement = select(c.no, c.month, c.previous_no, c.inputs).where(c.state == "issued")
    rows = connection.execute(statement.order_by(c.month.desc()).limit(CORRECTED_MONTHS)).all()
    months: dict[str, dict[AccountNumber, BilledMonth]] = {}
    bases: dict[str, dict[AccountNumber, Decimal]] = {}
    for row in reversed(rows):
        bills = [each.bill for each in issued[row.no].values()]
        months[row.month] = {each.account: billed_month(each) for each in bills}
        bases[row.month] = _bases(issued.get(row.previous_no, {}))
        _add_corrections(months, bills)
    kept = {row.month: kept_of(row.inputs) for row in rows}
    return tuple(
        EarlierMonth(month=month, bases=bases[month], billed=billed, **kept[month]) for month, billed in months.items()
    )


def _add_corrections(months: Mapping[str, dict[AccountNumber, BilledMonth]], issued: Sequence[Bill]) -> None:
    """Add the corrections on some bills to what was billed for the months that they correct."""
    for each in issued:
        for line in each.lines:
            if line.kind is LineKind.CORRECTION and line.month in months:
                was = months[line.month].get(each.account, BilledMonth())
                cents, taxes = was.cents + to_cents(line.amount), was.taxes + line.tax_cents
                months[line.month][each.account] = was._replace(cents=cents, taxes=taxes)


def local_month(name: str, zone: ZoneInfo) -> Period:
    """Return a local month as the period of its job."""
    first, until = month_quarters(name, zone)
    return Period(start=first * QUARTER_S, end=until * QUARTER_S, name=name)


def is_to_bill(database: Database, month: Period) -> bool:
    """Return whether a month is still to be billed, and can ever be.

    It can't if no tariff is published, or if the town's first day was settled after it.
    """
    with database.reads.begin() as connection:
        begun = first_settled_day(connection)
        if begun is None or begun >= days_between(month.start, month.end).stop:
            return False
        return bool(published(connection)) and not is_billed(connection, month.name)


def bills_wait_for(database: Database, month: Period) -> str | None:
    """Return what a month's bills wait for; ``None``: for nothing."""
    with database.reads.begin() as connection:
        if (earlier := unissued_before(connection, month.name)) is not None:
            return f"the bills of {earlier} are not issued yet: the next bills begin with them"
        return not_final(connection, days_between(month.start, month.end))
