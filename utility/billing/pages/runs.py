"""Runs of bills: made, checked and issued by two people; a run beside the month before; its bills."""

from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.time.local_calendar import month_after, month_before
from commonwatt.model.words import spaced
from utility.access.decisions import shown as shown_second
from utility.billing import decisions as runs
from utility.billing.api.billing_works import begin_check, begin_draft
from utility.billing.bill import LINE_ROWS
from utility.billing.documents.answer import why_runs_differ
from utility.billing.documents.writing import Writing, writing_of
from utility.billing.entries import ENTRY_WORDS, EntryKind
from utility.billing.month_steps import month_steps
from utility.billing.proof.altered import AlteredBillError
from utility.billing.proof.head import check_code
from utility.billing.store import billing, run_views
from utility.billing.store import entries as stored
from utility.billing.store.bill_documents import refuse_altered
from utility.billing.store.bills_due import bills_wait_for, local_month
from utility.billing.store.run_views import Order
from utility.tariffs.policy_settings import POLICY_WORDS
from utility.tariffs.store.tariffs import bill_table
from utility.webkit.console.answers import ROWS, Number, Skip, Why, address, found, other_pages, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import (
    ApprovesEntries,
    EntersBills,
    IssuesBills,
    MakesBills,
    ReadsBills,
    ReadsTown,
    WithdrawsEntries,
)

Other = Annotated[int, Query(ge=0, lt=2**31)]

_START = "/console/runs"
_ENTRIES = "/console/entries"

_FIGURES = {
    "bills": "Bills",
    "total": "All bills, dollars",
    **{kind.value: f"{row.heading}, dollars" for kind, row in LINE_ROWS.items()},
    "open_corrections": "Corrections left for later bills, dollars",
    "provisional": "Bills with quarter-hours that may change",
    "estimated": "Bills with estimates",
    "missing": "Bills with quarter-hours without data",
    "given_mwh": "Given to the town, kWh",
    "kept_by_town_mwh": "Given, with credit that stays with the town, kWh",
    "taken_mwh": "Taken, kWh",
    "taken_by_nobody_mwh": "Taken by places without an account, kWh",
}
"""The words of a run's sums."""


def begin(console: Console) -> None:
    """Have all pages of staff write amounts as the town's tariff says."""
    console.shared["writing"] = partial(_writing, console)


router = APIRouter(include_in_schema=False)


@router.get(_START)
def listed(console: RequestConsole, request: Request, actor: ReadsTown, before: Other = 0) -> HTMLResponse:
    """List runs of bills, the newest first, and the works that make one."""
    rows = console.database.read(billing.runs, ROWS + 1, before or None)
    month = console.api.last_month()
    waits_for = bills_wait_for(console.database, local_month(month, console.zone()))
    steps = month_steps([row for row in rows if row["month"] == month], waits_for)
    run = next((row for row in rows if row["no"] == steps[-1].run), None)
    issued = [row["month"] for row in rows if row["state"] == "issued"]
    content = {
        "steps": steps,
        "run": run,
        "altered": "",
        "rows": rows[:ROWS],
        "later": address(_START, before=rows[ROWS - 1]["no"]) if len(rows) > ROWS else "",
        "month": month,
        "next": min(month_after(max(issued, default=month_before(month))), month_after(month)),
        "policies": POLICY_WORDS,
        "works": [work for work in console.api.works.newest() if work.is_open],
    }
    try:
        content |= _seen(console, run) if run else {}
    except AlteredBillError as error:
        content |= {"run": None, "altered": str(error)}
    return console.page(request, actor, "runs.html", content)


@router.post(_START)
def make(console: RequestConsole, actor: MakesBills, month: Annotated[str, Form(max_length=10)]) -> RedirectResponse:
    """Begin to make the bills of a month, as a draft."""
    with refusing(422):
        work = begin_draft(console.api, actor, month)
    return console.see_other(actor, f"/console/works/{work.id}")


@router.get(f"{_START}/{{number}}")
def shown(
    console: RequestConsole, request: Request, actor: ReadsTown, number: Number, other: Other = 0
) -> HTMLResponse:
    """Show a run's sums beside those of the month before, or of another run."""
    with console.database.reads.begin() as connection:
        run = found(lambda: billing.run_of(connection, number))
        content = {
            "steps": month_steps([run], None),
            "month": run["month"],
            "code": spaced(check_code(billing.tree_of(connection, number).head)),
            "words": {name: said for name, said in _FIGURES.items() if name in run["figures"]},
            "payment_days": console.api.settings.billing.payment_days,
            **_seen(console, run, other),
        }
        if run["state"] == "checked":
            content |= shown_second(connection, console.api.second(actor), runs.firsts_of(connection, run))
    return console.page(request, actor, "run.html", content)


@router.post(f"{_START}/{{number}}/check")
def check(console: RequestConsole, actor: MakesBills, number: Number) -> RedirectResponse:
    """Begin to compute a draft again and to compare it, byte by byte."""
    with refusing():
        work = begin_check(console.api, actor, number)
    return console.see_other(actor, f"/console/works/{work.id}")


@router.post(f"{_START}/{{number}}/issue")
def issue(console: RequestConsole, actor: IssuesBills, number: Number) -> RedirectResponse:
    """Issue a checked run, as the second person."""
    with refusing():
        runs.issue(console.database, number, console.api.second(actor), console.api.settings.billing.payment_days)
    return console.see_other(actor, f"{_START}/{number}", f"run {number} is issued")


@router.get(f"{_START}/{{number}}/bills")
def bills(
    console: RequestConsole,
    request: Request,
    actor: ReadsBills,
    number: Number,
    other: Other = 0,
    order: Annotated[Order, Query()] = Order.ACCOUNT,
    skip: Skip = 0,
) -> HTMLResponse:
    """List the bills of a run beside those of another one."""
    with console.database.reads.begin() as connection:
        run = found(lambda: billing.run_of(connection, number))
        base = _base(console, run, other)
        rows = run_views.bills_page(connection, number, base, order, ROWS + 1, skip)
    path = f"{_START}/{number}/bills"
    content: dict[str, Any] = {
        "run": run,
        "base": base,
        "rows": rows[:ROWS],
        "order": order,
        **other_pages(path, skip, is_more=len(rows) > ROWS, other=other, order=order),
    }
    return console.page(request, actor, "run_bills.html", content)


@router.get(_ENTRIES)
def entries(
    console: RequestConsole,
    request: Request,
    actor: ReadsBills,
    before: Other = 0,
    account: Other = 0,
    run: Other = 0,
) -> HTMLResponse:
    """List what people entered for bills, with forms to enter, to approve and to withdraw."""
    rows = console.database.read(stored.entries, ROWS + 1, before)
    later = address(_ENTRIES, before=rows[ROWS - 1]["no"]) if len(rows) > ROWS else ""
    content = {"rows": rows[:ROWS], "later": later, "account": account or "", "run": run, "kinds": ENTRY_WORDS}
    return console.page(request, actor, "entries.html", content)


@router.post(_ENTRIES)
def enter(
    console: RequestConsole,
    actor: EntersBills,
    kind: Annotated[EntryKind, Form()],
    subject: Annotated[int, Form(ge=1, lt=2**31)],
    reason: Why,
    amount: Annotated[Decimal, Form()] = Decimal(0),
) -> RedirectResponse:
    """Enter something for bills, for a second person to approve."""
    with refusing(422):
        number = runs.enter(console.database, kind, subject, amount, reason, actor, console.now())
    return console.see_other(actor, _ENTRIES, f"entry {number} waits for a second person")


@router.post(f"{_ENTRIES}/{{number}}/approve")
def approve(console: RequestConsole, actor: ApprovesEntries, number: Number) -> RedirectResponse:
    """Approve an entry, as the second person."""
    with refusing():
        runs.approve_entry(console.database, number, console.api.second(actor))
    return console.see_other(actor, _ENTRIES, f"entry {number} is approved")


@router.post(f"{_ENTRIES}/{{number}}/withdraw")
def withdraw(console: RequestConsole, actor: WithdrawsEntries, number: Number) -> RedirectResponse:
    """Withdraw an entry before it is approved."""
    with refusing():
        runs.withdraw_entry(console.database, number, actor, console.now())
    return console.see_other(actor, _ENTRIES, f"entry {number} is withdrawn")


def _writing(console: Console) -> Writing:
    return writing_of(console.database.read(bill_table, console.api.settings.billing.tariff))


def _base(console: Console, run: dict[str, Any], other: int) -> int:
    """Return the run beside which one is shown, 0: none, as for some days of a month; no bill of both was altered."""
    base = other
    if "days" not in run["figures"]:
        base = other or console.database.read(billing.latest_run, month_before(run["month"])) or 0
    for each in filter(None, (run["no"], base)):
        refuse_altered(console.database, each)
    return base


def _seen(console: Console, run: dict[str, Any], other: int = 0) -> dict[str, Any]:
    """Return what both pages show of a run, beside the month before or another run."""
    base = _base(console, run, other)
    with console.database.reads.begin() as connection:
        before = found(lambda: billing.run_of(connection, base)) if base else None
        standing = run_views.standing_out(connection, run["no"], base or None)
    like = before or run["figures"].get("before")
    differs = why_runs_differ(run, like, _writing(console)) if like else ""
    return {"run": run, "before": before, "standing": standing, "differs": differs}
