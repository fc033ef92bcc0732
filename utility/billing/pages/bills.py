"""Bills: found by account, explained from the amount down to quarter-hours, printed, with their receipt."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import local_day, month_before
from commonwatt.model.units import AccountNumber, quarter_of
from commonwatt.model.words import spaced
from commonwatt.settlement.settled import Quantity
from utility.billing.bill import Bill
from utility.billing.documents.answer import parts_of, why_it_differs, worth_of_sharing
from utility.billing.documents.explained import Explained, rows_within
from utility.billing.documents.plot import heat_of, hours_plot
from utility.billing.documents.statement import KWH, Statement, hours, texts
from utility.billing.documents.writing import writing_of
from utility.billing.store.bill_documents import RunDocuments, documents_of_run
from utility.billing.store.billing import ONCE_ISSUED, latest_run, run_of
from utility.billing.store.finding import FoundAccount, find_accounts
from utility.billing.store.issued_bills import issued_bills
from utility.billing.store.kept_documents import KeptDocuments
from utility.billing.store.letters import as_letters
from utility.billing.store.run_views import drafts_of_account
from utility.ledger.store.entries import is_paid
from utility.webkit.console.answers import Number, address, download, found
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsBills
from utility.webkit.services import Api

MAX_BILLS = 200  # most bills of an account that are listed: runs of about ten years

Day = Annotated[date | None, Query(description="A local day of the bill.")]
Hour = Annotated[int | None, Query(ge=0, le=23)]

_START = "/console/bills"


router = APIRouter(include_in_schema=False)


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
    console: Console, statement: Statement, documents: RunDocuments, before: Callable[[], RunDocuments]
) -> dict[str, Any]:
    """Return what every page of a bill shows; ``before`` returns the documents of the month before."""
    bill, by_hour, said = statement.bill, hours(statement), texts(statement)
    writing = writing_of(documents.table(bill))
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
        "parts": parts_of(bill),
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
    explained = Explained(documents.run.inputs(), bill, documents.quarters(bill.account))
    path = f"{_START}/{bill.account}/{documents.number}"
    rows = rows_within(explained, day, hour)
    if day is None:
        return [{**row, "more": address(path, day=row["from"])} for row in rows]
    if hour is None:
        return [{**row, "more": f"{path}?day={day}&hour={int(str(row['from'])[11:13])}"} for row in rows]
    return [{**row, "more": ""} for row in rows]
