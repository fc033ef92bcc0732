"""Runs of bills: made as drafts, checked by one person, issued by another one."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from secrets import token_bytes
from typing import Any
from zoneinfo import ZoneInfo

from commonwatt.model.calendar import local_day, month_before, month_of, parse_month
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, EpochSeconds
from utility.access.decisions import Second, require_second, second_person
from utility.access.people import Actor
from utility.access.store.audit_log import record, standings
from utility.billing.bill import EntryKind, by_code, cents_of
from utility.billing.inputs import RunInputs
from utility.billing.preview import BillChange, preview
from utility.billing.proof import SALT_BYTES
from utility.billing.run import Progress
from utility.billing.store import billing_sources
from utility.billing.store.entries import add_entry, cancel_run, entry_of, require_newest, step, take_entries
from utility.billing.store.run_bills import as_issued, beside_before, compare, computed_run, prepared
from utility.billing.store.runs import bills_of_run, check_run, issue_run, issued_run, run_of, save_run
from utility.billing.stored_run import Computed
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import timezone_of, zone_of
from utility.energy.quarters import SettledQuarters
from utility.ledger.entry import billed
from utility.ledger.store import post, post_cancel
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff


def draft(
    database: Database, month: str, default: str, actor: Actor, now: EpochSeconds, progress: Progress | None = None
) -> tuple[int, Computed]:
    """Make the bills of a month as a draft; return the run's number: with the same inputs, that of the run there is.

    It reads and computes for seconds, and then writes once: a process that dies before leaves nothing.

    Args:
        default: The name of the tariff of accounts without one.
        progress: Called with the meters done and all.

    Raises:
        ConfigError: It is no month, it has not begun, or the month or a later one has issued bills.
    """
    parse_month(month)
    inputs = prepared(database, month, default, now)
    if month > month_of(now // QUARTER_S, ZoneInfo(inputs.timezone)):
        raise ConfigError(f"{month}: this month has not begun; there is nothing to bill")
    bills = beside_before(database, computed_run(database, inputs, progress))
    tree = bills.tree(token_bytes(SALT_BYTES))
    with database.writes.begin() as connection:
        saved = save_run(connection, bills, tree, actor.name, now)
        assert saved is not None, "only the service's job has one run a month"
        number, is_new = saved
        if is_new:
            sums = {name: bills.figures[name] for name in ("bills", "total")}
            record(connection, actor, now, "run.make", f"run {number}", None, {"month": month, **sums})
    return number, bills


def check(database: Database, number: int, actor: Actor, now: EpochSeconds, progress: Progress | None = None) -> None:
    """Compute a draft again from its inputs, compare each byte of its bills, and mark it as checked.

    Raises:
        ConfigError: There is no such run, or it is no draft.
        StoreError: The bills differ.
    """
    compare(database, number, progress)
    with database.writes.begin() as connection:
        run = run_of(connection, number)
        # Checked by nobody who could be one of two people, such as by a command: a person checks it again.
        again = run["state"] == "checked" and not standings(connection, [run["checked_by"]]).get(run["checked_by"])
        check_run(connection, number, actor.name, now, again=again)
        record(connection, actor, now, "run.check", f"run {number}", {"state": run["state"]}, {"state": "checked"})


def issue(database: Database, number: int, second: Second, payment_days: int = 30) -> None:
    """Issue a checked run; a second person has to, who is apart from those who made and checked it.

    Its bills never change then.

    Raises:
        ConfigError: There is no such run, the person may not be the second one, or it can't be issued: says why.
    """
    with second_person(database, second, f"run {number}") as connection:
        run = run_of(connection, number)
        if run["state"] == "checked":
            require_second(connection, second, firsts_of(connection, run))
        issue_run(connection, number, second.actor.name, second.now)
        _to_ledger(connection, number, second, payment_days)
        take_entries(connection, number)
        before = {"state": "checked"}
        record(connection, second.actor, second.now, "run.issue", f"run {number}", before, {"state": "issued"})


def _to_ledger(connection: Connection, number: int, second: Second, payment_days: int) -> None:
    """Post an issued run's bills."""
    today = local_day(second.now, zone_of(connection))
    day, due = str(today), str(today + timedelta(payment_days))
    bills = bills_of_run(connection, number)
    made = [billed(number, each.account, day, due, by_code(each), is_final=each.is_final) for each in bills]
    post(connection, made, second.actor.name, second.now)


def enter(
    database: Database, kind: EntryKind, subject: int, amount: Decimal, reason: str, actor: Actor, now: EpochSeconds
) -> int:
    """Store what a person enters for an account's next bill, or to cancel a run; return its number.

    Raises:
        ConfigError: The amount, the account, the run or the reason is wrong: says which.
    """
    row: dict[str, Any] = {"kind": kind.value, "subject": subject, "cents": cents_of(kind, amount)}
    if not 1 <= len(why := " ".join(reason.split())) <= 200:
        raise ConfigError("reason needs 1 to 200 characters")
    with database.writes.begin() as connection:
        if kind is EntryKind.CANCEL:
            require_newest(connection, subject)
        number = add_entry(connection, {**row, "reason": why, "entered_by": actor.name, "entered": now})
        record(connection, actor, now, "entry.enter", f"entry {number}", None, row)
    return number


def approve_entry(database: Database, number: int, second: Second) -> None:
    """Approve what a person entered, as the second one; a run that it cancels is cancelled at once."""
    with second_person(database, second, f"entry {number}") as connection:
        require_second(connection, second, {entry_of(connection, number)["entered_by"]: "entered it"})
        entry = step(connection, number, "approved", second.actor.name, second.now)
        if entry["kind"] == EntryKind.CANCEL:
            _cancel(connection, entry["subject"], second)
        before = {"state": "entered"}
        record(connection, second.actor, second.now, "entry.approve", f"entry {number}", before, {"state": "approved"})


def withdraw_entry(database: Database, number: int, actor: Actor, now: EpochSeconds) -> None:
    """Withdraw what a person entered, before a second one approves it."""
    with database.writes.begin() as connection:
        before = {"state": step(connection, number, "withdrawn", actor.name, now)["state"]}
        record(connection, actor, now, "entry.withdraw", f"entry {number}", before, {"state": "withdrawn"})


def _cancel(connection: Connection, number: int, second: Second) -> None:
    """Cancel an issued run within the transaction of the decision; its month can be made again."""
    cancel_run(connection, number)
    day = str(local_day(second.now, zone_of(connection)))
    post_cancel(connection, number, day, second.actor.name, second.now)
    before = {"state": "issued"}
    record(connection, second.actor, second.now, "run.cancel", f"run {number}", before, {"state": "cancelled"})


def firsts_of(connection: Connection, run: Mapping[str, Any]) -> dict[str, str]:
    """Return what the people did who made and checked a run, by name; a job is nobody."""
    maker, checker = run["made_by"], run["checked_by"] or ""
    is_person = maker in standings(connection, [maker])
    return ({maker: "made it"} if is_person else {}) | {checker: "checked it"}


def previewed(
    database: Database,
    tariff: Tariff | None,
    month: str,
    default: str,
    progress: Progress | None = None,
    otherwise: Callable[[SettledQuarters], SettledQuarters] | None = None,
) -> list[BillChange]:
    """Return what a tariff would have made of a month's bills, for every account.

    Args:
        tariff: The new tariff, in place of the published versions of its name; ``None``: none.
        default: The name of the tariff of accounts without one.
        progress: Called with the meters done and all.
        otherwise: Returns the quarter-hours of the new bills, of those that are settled; ``None``: they are the same.
    """
    before = database.read(issued_run, month_before(month))
    billed = {} if before is None else as_issued(database, before)
    with database.reads.begin() as connection:
        newest = billing_sources.newest_settled(connection)
        inputs = RunInputs(
            month=month,
            timezone=timezone_of(connection),
            registry=billing_sources.load_registry(connection),
            tariffs=published(connection),
            default=default,
            bases={account: each.base for account, each in billed.items() if each.base is not None},
        )
    load = billing_sources.settled_as_of(database, newest)
    other = None if otherwise is None else lambda *asked: otherwise(load(*asked))
    return preview(inputs, tariff, load, progress, other)
