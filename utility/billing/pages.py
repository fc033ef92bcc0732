"""Pages of bills and of their runs: found, explained, printed; made, checked and issued by two people."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from fastapi import HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.look.writing import Writing
from commonwatt.model.calendar import local_day, month_after, month_before
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import spaced
from commonwatt.model.units import AccountNumber, quarter_of
from utility.access.decisions import shown as shown_second
from utility.billing import decisions as runs
from utility.billing.api import ACTIONS
from utility.billing.bill import ENTRY_WORDS, LINE_ROWS, Bill
from utility.billing.documents.explained import (
    ExplainedBill,
    heat_of,
    hours_plot,
    parts_of,
    rows_within,
    why_it_differs,
    why_runs_differ,
    worth_of_sharing,
)
from utility.billing.documents.statement import KWH, Statement, hours, line_text, texts, writing_of
from utility.billing.proof import AlteredBillError, check_code
from utility.billing.run import month_steps
from utility.billing.store import entries as stored
from utility.billing.store import runs as billing
from utility.billing.store import views
from utility.billing.store.documents import (
    KeptDocuments,
    RunDocuments,
    as_letters,
    documents_of_run,
    issued_bills,
    refuse_altered,
)
from utility.billing.store.runs import ONCE_ISSUED, bills_wait_for, is_to_bill, latest_run, local_month, run_of
from utility.billing.store.views import BillOrder, FoundAccount, drafts_of_account, find_accounts
from utility.customers.store import language_of
from utility.energy.quarters import Quantity
from utility.ledger.store import is_paid
from utility.registry.store.accounts import tariff_name
from utility.tariffs.file import POLICY_WORDS, BillTable
from utility.tariffs.store import bill_table, published
from utility.tariffs.tariff import in_force
from utility.webkit.console.answers import ROWS, Number, Skip, address, download, found, other_pages
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import (
    ReadsBills,
    ReadsTown,
)
from utility.webkit.services import Api

MAX_BILLS = 200  # most bills of an account that are listed: runs of about ten years

Day = Annotated[date | None, Query(description="A local day of the bill.")]
Hour = Annotated[int | None, Query(ge=0, le=23)]

_START = "/console/bills"


router = ACTIONS.forms


@router.get(_START)
def find(
    console: RequestConsole,
    request: Request,
    actor: ReadsBills,
    text: Annotated[str, Query(max_length=100)] = "",
) -> Any:
    """Show the accounts that a text may mean; of a single one go to its bills."""
    accounts = [] if _is_number(text) else _accounts(console, text)
    if _is_number(text) or len(accounts) == 1:
        return RedirectResponse(f"{_START}/{accounts[0].account if accounts else int(text)}", 303)
    content = {"account": "", "rows": [], "text": text, "accounts": accounts, "who": None}
    return console.page(request, actor, "bills.html", content)


@router.get(f"{_START}/{{account}}")
def of_account(console: RequestConsole, request: Request, actor: ReadsBills, account: Number) -> HTMLResponse:
    """List an account's bills, the newest month first."""
    drafts = console.database.read(drafts_of_account, account, MAX_BILLS)
    rows = [*drafts, *map(vars, issued_bills(console.database, account, MAX_BILLS, ONCE_ISSUED))]
    rows.sort(key=lambda row: (row["month"], row["no"]), reverse=True)
    who = next((each for each in _accounts(console, str(account)) if each.account == account), None)
    content = {"account": account, "rows": rows, "text": account, "who": who}
    return console.page(request, actor, "bills.html", content)


@router.get(f"{_START}/{{account}}/{{run}}")
def explained(
    console: RequestConsole,
    request: Request,
    actor: ReadsBills,
    account: Number,
    run: Number,
    day: Day = None,
    hour: Hour = None,
) -> HTMLResponse:
    """Show a bill with its days, the hours of a day or the quarter-hours of an hour."""
    documents = _documents(console, account, run)
    (statement,) = documents.statements([account])
    path = f"{_START}/{account}/{run}"
    is_part = "days" in console.database.read(run_of, documents.number)["figures"]
    before = 0 if is_part else console.database.read(latest_run, month_before(statement.bill.month)) or 0
    content = bill_content(console, statement, documents, lambda: console.api.part(_kept).of(account, before)) | {
        "run": {"no": documents.number, "state": documents.state},
        "rows": _steps(documents, statement.bill, day, hour),
        "files": [f"{path}/{name}" for name in ("bill.pdf", "receipt.json", "plot.json")],
        "day": day,
        "hour": hour,
        "who": next((each for each in _accounts(console, str(account)) if each.account == account), None),
        "due": due_date(console, run),
    }
    return console.page(request, actor, "bill.html", content)


@router.get(f"{_START}/{{account}}/{{run}}/plot.json")
def plot(console: RequestConsole, _: ReadsBills, account: Number, run: Number) -> dict[str, Any]:
    """Return a bill's energies by local hour, kWh."""
    (statement,) = _documents(console, account, run).statements([account])
    return hours_plot(hours(statement))


@router.get(f"{_START}/{{account}}/{{run}}/bill.pdf")
def as_pdf_file(console: RequestConsole, _: ReadsBills, account: Number, run: Number) -> Response:
    """Return the printed bill."""
    documents = _documents(console, account, run)
    return download(printed(console, documents, account), f"{documents.run.month}-{account}.pdf", "application/pdf")


@router.get(f"{_START}/{{account}}/{{run}}/receipt.json")
def receipt(console: RequestConsole, _: ReadsBills, account: Number, run: Number) -> Response:
    """Return the receipt, by which anybody can check the bill."""
    documents = _documents(console, account, run)
    content = json.dumps(documents.receipt(account), separators=(",", ":")).encode()
    return download(content, f"receipt-{documents.run.month}-{account}.json", "application/json")


def _is_number(text: str) -> bool:
    return text.strip().isdecimal() and len(text) < 10


def _accounts(console: Console, text: str) -> list[FoundAccount]:
    return console.database.read(find_accounts, text, quarter_of(console.now()))


def bill_content(
    console: Console,
    statement: Statement,
    documents: RunDocuments,
    before: Callable[[], RunDocuments],
    language: str = "en",
) -> dict[str, Any]:
    """Return what every page of a bill shows; ``before`` returns the documents of the month before."""
    writing = writing_of(documents.table(statement.bill), language)
    bill, by_hour, said = statement.bill, hours(statement), texts(statement, writing)
    received = Decimal(int(by_hour.energies[Quantity.SHARED_IN].sum())) / KWH
    try:
        differs = why_it_differs(bill, before().bill(bill.account), writing)
    except ConfigError:
        differs = ""
    days, most = heat_of(by_hour, statement.zone)
    return {
        "bill": bill,
        "writing": writing,
        "said": said,
        "code": spaced(said.code),
        "line_text": partial(line_text, writing),
        "parts": parts_of(bill, writing),
        "differs": differs,
        "worth": worth_of_sharing(bill, received),
        "days": days,
        "paid": console.database.read(is_paid, bill.account, documents.number),
        "most": most,
        "day": None,
        "hour": None,
    }


def printed(console: Console, documents: RunDocuments, account: AccountNumber) -> bytes:
    """Return an account's printed bill."""
    # Loaded here: what draws PDFs takes 29 MB.
    from utility.billing.documents.pdf import as_pdf

    statements = as_letters(console.database, console.api.settings, documents, documents.statements([account]))
    return as_pdf(found(lambda: next(statements)))


def due_date(console: Console, number: int) -> date | None:
    """Return the due date of an issued run's bills; ``None``: it is not issued."""
    with console.database.reads.begin() as connection:
        issued = found(lambda: run_of(connection, number))["issued"]
    if issued is None:
        return None
    return local_day(issued, console.zone()) + timedelta(console.api.settings.billing.payment_days)


def _kept(api: Api) -> KeptDocuments[int]:
    return KeptDocuments(partial(documents_of_run, api.database), api.database)


def _documents(console: Console, account: int, run: int) -> RunDocuments:
    documents: RunDocuments = found(lambda: console.api.part(_kept).of(account, run))
    return documents


def _steps(documents: RunDocuments, bill: Bill, day: date | None, hour: int | None) -> list[dict[str, Any]]:
    """Return the rows of the explanation, each with the address of what it is made of."""
    if hour is not None and day is None:
        raise HTTPException(422, "an hour needs its day")
    explained = ExplainedBill(documents.run.inputs(), bill, documents.quarters(bill.account))
    path = f"{_START}/{bill.account}/{documents.number}"
    rows = rows_within(explained, day, hour)
    if day is None:
        return [{**row, "more": address(path, day=row["from"])} for row in rows]
    if hour is None:
        return [{**row, "more": f"{path}?day={day}&hour={int(str(row['from'])[11:13])}"} for row in rows]
    return [{**row, "more": ""} for row in rows]


Other = Annotated[int, Query(ge=0, lt=2**31)]

_RUNS = "/console/runs"
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
    """Have all pages of staff write amounts as the town's tariff says, and a household's as its own does."""
    console.shared["writing"] = partial(_writing, console)
    console.written.append(partial(_written, console))


@router.get(_RUNS)
def listed(console: RequestConsole, request: Request, actor: ReadsTown, before: Other = 0) -> HTMLResponse:
    """List runs of bills, the newest first, and the works that make one."""
    rows = console.database.read(billing.runs, ROWS + 1, before or None)
    month = console.api.last_month()
    period, own = local_month(month, console.zone()), [row for row in rows if row["month"] == month]
    is_shown = own or is_to_bill(console.database, period)
    steps = month_steps(own, bills_wait_for(console.database, period)) if is_shown else []
    run = next((row for row in rows if steps and row["no"] == steps[-1].run), None)
    issued = [row["month"] for row in rows if row["state"] == "issued"]
    content = {
        "steps": steps,
        "has_prices": bool(console.database.read(published)),
        "run": run,
        "altered": "",
        "rows": rows[:ROWS],
        "later": address(_RUNS, before=rows[ROWS - 1]["no"]) if len(rows) > ROWS else "",
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


@router.get(f"{_RUNS}/{{number}}")
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


@router.get(f"{_RUNS}/{{number}}/bills")
def bills(
    console: RequestConsole,
    request: Request,
    actor: ReadsBills,
    number: Number,
    other: Other = 0,
    order: Annotated[BillOrder, Query()] = BillOrder.ACCOUNT,
    skip: Skip = 0,
) -> HTMLResponse:
    """List the bills of a run beside those of another one."""
    with console.database.reads.begin() as connection:
        run = found(lambda: billing.run_of(connection, number))
        base = _base(console, run, other)
        rows = views.bills_page(connection, number, base, order, ROWS + 1, skip)
    path = f"{_RUNS}/{number}/bills"
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


def _writing(console: Console) -> Writing:
    currency = console.api.zone.currency
    first = None if currency == "USD" else BillTable(currency=currency)
    return writing_of(console.database.read(bill_table, console.api.settings.billing.tariff, first), "en")


def _written(console: Console, account: AccountNumber) -> Writing | None:
    """Return how an account's pages are written; ``None``: neither its people nor its tariff say it."""
    now, settings = quarter_of(console.now()), console.api.settings
    with console.database.reads.begin() as connection:
        name = tariff_name(connection, account, now) or settings.billing.tariff
        tariff = in_force([each for each in published(connection) if each.name == name], now)
        language = language_of(connection, settings.office, account, now)
    table = None if tariff is None else tariff.file.bill
    if table is None:
        return Writing(language=language, currency="") if language else None
    return writing_of(table, language)


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
        standing = views.standing_out(connection, run["no"], base or None)
    like = before or run["figures"].get("before")
    differs = why_runs_differ(run, like, _writing(console)) if like else ""
    return {"run": run, "before": before, "standing": standing, "differs": differs}
