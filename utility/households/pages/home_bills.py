"""A resident's issued bills with their documents, and the own data as files: always of the own account."""

import json
from datetime import date, timedelta
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import local_day, midnight, month_before
from commonwatt.model.units import QUARTER_S, AccountNumber
from utility.access.actor import Actor
from utility.billing.documents.explained import Explained, rows_within
from utility.billing.documents.plot import hours_plot
from utility.billing.documents.statement import hours
from utility.billing.pages.bills import bill_content, due_date, printed
from utility.billing.store.bill_documents import RunDocuments, issued_documents
from utility.billing.store.kept_documents import KeptDocuments
from utility.exports.customer.files import MEDIA_TYPES, SUFFIXES, CustomerFormat, Source, pieces_of
from utility.exports.selection import Selection
from utility.exports.store.exports import Asked, account_quarters
from utility.households.api import own_account
from utility.webkit.console.answers import attached, download, plain
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsOwnHome
from utility.webkit.services import Api

_Month = Annotated[str, Path(pattern=r"^20[0-9]{2}-(0[1-9]|1[0-2])$", description="A local month.")]
_Run = Annotated[int, Query(ge=0, lt=2**31, description="A cancelled run, whose bill is wanted; 0: the issued one.")]
_Form = Annotated[CustomerFormat, Query(description="Green Button (XML), or a spreadsheet (CSV).")]
_Source = Annotated[Source, Query(description="Settled quarter-hours, as bills have them, or sums of readings.")]


router = APIRouter(include_in_schema=False)


@router.get("/console/home/bills/{month}")
def month_page(
    console: RequestConsole, request: Request, actor: ReadsOwnHome, month: _Month, run: _Run = 0
) -> Response:
    """Return an issued bill with its explanation by day."""
    account, found = _documents(console, actor, month, run)
    (statement,) = found.statements([account])
    explained = Explained(found.run.inputs(), statement.bill, statement.meters)
    path, of = f"/console/home/bills/{month}", f"?run={run}" if run else ""
    content = bill_content(
        console, statement, found, lambda: console.api.part(_kept).of(account, (month_before(month), 0))
    ) | {
        "rows": rows_within(explained),
        "files": [f"{path}/{name}{of}" for name in ("pdf", "receipt", "plot.json")],
        "due": due_date(console, found.number),
    }
    return console.page(request, actor, "bill_parts.html", content)


@router.get("/console/home/bills/{month}/plot.json")
def plot(console: RequestConsole, actor: ReadsOwnHome, month: _Month, run: _Run = 0) -> dict[str, Any]:
    """Return the bill's energies by local hour, kWh, as the printed bill draws them."""
    account, found = _documents(console, actor, month, run)
    (statement,) = found.statements([account])
    return hours_plot(hours(statement))


@router.get("/console/home/bills/{month}/receipt")
def receipt(console: RequestConsole, actor: ReadsOwnHome, month: _Month, run: _Run = 0) -> Response:
    """Return the receipt of an issued bill, by which its household checks it without the utility."""
    account, found = _documents(console, actor, month, run)
    content = json.dumps(found.receipt(account), separators=(",", ":"))
    return download(content.encode(), f"receipt-{month}-{account}.json", "application/json")


@router.get("/console/home/bills/{month}/pdf")
def paper(console: RequestConsole, actor: ReadsOwnHome, month: _Month, run: _Run = 0) -> Response:
    """Return an issued bill as PDF."""
    account, found = _documents(console, actor, month, run)
    return download(printed(console, found, account), f"bill-{month}-{account}.pdf", "application/pdf")


@router.get("/console/home/energy")
def energy(
    console: RequestConsole,
    actor: ReadsOwnHome,
    start: date | None = None,
    end: date | None = None,
    form: _Form = CustomerFormat.GREEN_BUTTON,
    of: _Source = Source.SETTLED,
) -> Response:
    """Return the account's quarter-hours of some local days as a file; today's if none are given."""
    account, zone = own_account(actor), console.zone()
    start = start or local_day(console.now(), zone)
    end = end or start + timedelta(days=1)
    try:
        first, until = (midnight(day, zone) * QUARTER_S for day in (start, end))
        selection = Selection(accounts=(account,))
        asked = Asked(start=first, end=until, selection=selection, names=("start", "end", "", "", "account"))
        quarters = account_quarters(console.database, asked, settled=of is Source.SETTLED)
    except (ConfigError, ValueError, OverflowError) as error:
        raise HTTPException(422, plain(error)) from error
    name = f"energy-{account}-{start}-{end}.{SUFFIXES[form]}"
    pieces = pieces_of(quarters, form, f"{console.database.store_id:x}", zone)
    return StreamingResponse(pieces, media_type=MEDIA_TYPES[form], headers=attached(name))


def _kept(api: Api) -> KeptDocuments[tuple[str, int]]:
    return KeptDocuments(partial(issued_documents, api.database), api.database)


def _documents(console: Console, actor: Actor, month: str, run: int) -> tuple[AccountNumber, RunDocuments]:
    account = own_account(actor)
    try:
        return account, console.api.part(_kept).of(account, (month, run))
    except ConfigError as error:
        raise HTTPException(404, f"no bill of yours can be shown: {error}") from error
