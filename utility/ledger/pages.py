"""The ledger for clerks: what is owed, payments that wait, a bank's file, orders for the bank, months."""

import json
from itertools import accumulate
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.care.code import decrypt
from utility.access.decisions import shown
from utility.customers.store import office_key
from utility.database.base import Connection
from utility.ledger import store
from utility.ledger.bank import MAX_BYTES
from utility.ledger.decisions import DECISIONS, REVERSIBLE, Asked, close, decide, release, take_in
from utility.ledger.entry import WITHOUT_LINES, LedgerKind, live, open_items
from utility.ledger.store import C, OrderFile, entries_where, order_file
from utility.webkit.console.answers import ROWS, Number, Skip, content_of, download, other_pages, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ApprovesLedger, KeepsLedger, ReadsLedger

_START = "/console/ledger"
_File = Annotated[str, Path(pattern=r"^CW-[0-9-]{12,40}$")]
_Month = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}$")]


router = APIRouter(include_in_schema=False)


@router.get(_START)
def listed(console: RequestConsole, request: Request, actor: ReadsLedger, skip: Skip = 0) -> HTMLResponse:
    """List what accounts owe, payments that wait, reminders, orders and months."""
    with console.database.reads.begin() as connection:
        waiting = store.waiting(connection)[:ROWS]
        owed = sorted(store.balances(connection).items(), key=lambda each: -each[1])
        orders = entries_where(connection, C.kind == LedgerKind.ORDER)
        content: dict[str, Any] = {
            "owed": owed[skip : skip + ROWS],
            "waiting": [(each, _words(connection, console, each.sealed)) for each in waiting],
            "reminders": entries_where(connection, C.kind == LedgerKind.REMINDER)[-ROWS:][::-1],
            "files": list(dict.fromkeys(each.text for each in reversed(orders)))[:12],
            "months": store.closed_months(connection),
            "proposed": entries_where(connection, C.kind == LedgerKind.PROPOSAL)[-1:],
            "month": console.api.last_month(),
            "first_open": store.first_open(connection),
            "office": console.api.settings.office,
            **other_pages(_START, skip, is_more=len(owed) > skip + ROWS),
        }
    return console.page(request, actor, "ledger.html", content)


@router.get(f"{_START}/accounts/{{number}}")
def account(
    console: RequestConsole, request: Request, actor: ReadsLedger, number: Number, skip: Skip = 0
) -> HTMLResponse:
    """Show the statement of an account, the newest entry first, and what is open."""
    entries = console.database.read(entries_where, C.account == number)
    owed = list(accumulate(0 if each.kind in WITHOUT_LINES else each.cents for each in entries))
    shown_ = list(zip(entries, owed, strict=True))[::-1][skip : skip + ROWS]
    content = {
        "number": number,
        "entries": [(each, None if each.kind in WITHOUT_LINES else cents) for each, cents in shown_],
        "open": open_items(entries)[:ROWS],
        "live": {each.no for each in live(entries)},
        "reversible": REVERSIBLE,
        **other_pages(f"{_START}/accounts/{number}", skip, is_more=len(entries) > skip + ROWS),
    }
    return console.page(request, actor, "ledger_account.html", content)


@router.get(f"{_START}/months/{{month}}.csv")
def month_file(console: RequestConsole, _: ReadsLedger, month: _Month) -> Response:
    """Return a month's export."""
    codes = console.api.settings.office.codes
    return download(console.database.read(store.exported, month, codes), f"ledger-{month}.csv", "text/csv")


@router.get(f"{_START}/orders/{{file}}")
def download_orders(console: RequestConsole, _: KeepsLedger, file: _File) -> Response:
    """Return the orders for the bank but of cancelled bills: pain.008 of direct debits, pain.001 of refunds."""
    settings = console.api.settings
    with console.database.reads.begin() as connection:
        it = _orders(connection, console, file)
        currency = store.currency_of(connection, settings.billing.tariff)
    if not it.released_by:
        raise HTTPException(409, f"{file}: a second person has to release it first")
    name = "pain_001.xml" if it.orders[0][0].cents < 0 else "pain_008.xml"
    content = {"file": file, "orders": it.orders, "office": settings.office, "total": it.cents, "currency": currency}
    return download(console.renderer.render(name, content).encode(), f"{file}.xml", "application/xml")


@router.get(f"{_START}/orders/{{file}}/look")
def look_at_orders(console: RequestConsole, request: Request, actor: ReadsLedger, file: _File) -> HTMLResponse:
    """Show what the bank is told by a file, for the second person who releases it."""
    with console.database.reads.begin() as connection:
        it = _orders(connection, console, file)
        second = shown(connection, console.api.second(actor), it.firsts)
    return console.page(request, actor, "ledger_orders.html", {"it": it, "second": second})


@router.post(f"{_START}/release")
def released(
    console: RequestConsole,
    actor: ApprovesLedger,
    file: Annotated[str, Form(max_length=48)],
    digest: Annotated[str, Form(max_length=64)],
) -> RedirectResponse:
    """Release a file of orders, as the second person."""
    with refusing():
        release(console.database, console.api.settings, file, digest, console.api.second(actor))
    return console.see_other(actor, _START, f"{file} is released; a clerk downloads it")


@router.post(f"{_START}/import")
def imported(console: RequestConsole, request: Request, actor: KeepsLedger, file: UploadFile) -> HTMLResponse:
    """Import a bank's file, and show what became of its bookings."""
    with refusing(422):
        done = take_in(console.database, console.api.settings, content_of(file, MAX_BYTES), actor, console.now())
    return console.page(request, actor, "ledger_import.html", {"done": done})


@router.post(f"{_START}/close")
def closed(
    console: RequestConsole, actor: ApprovesLedger, of: Annotated[str, Form(pattern="^[0-9]{4}-[0-9]{2} [0-9a-f]{64}$")]
) -> RedirectResponse:
    """Close a month, as the second person."""
    with refusing():
        close(console.database, console.api.settings, of, console.api.second(actor))
    return console.see_other(actor, _START, f"{of[:7]} is closed")


@router.post(f"{_START}/decide/{{name}}")
def decided(
    console: RequestConsole, actor: KeepsLedger, name: str, asked: Annotated[Asked, Form()]
) -> RedirectResponse:
    """Take a decision."""
    if name not in DECISIONS:
        raise HTTPException(404, f"{name}: there is no such decision")
    with refusing(422):
        made = decide(console.database, console.api.settings, name, asked, actor, console.now())
    path = f"{_START}/accounts/{asked.account}" if name == "reverse" and asked.account else _START
    return console.see_other(actor, path, f"{len(made)} entries made")


def _orders(connection: Connection, console: Console, file: str) -> OrderFile:
    it = order_file(connection, console.api.settings, file)
    if not it.orders:
        raise HTTPException(404, f"{file}: there is no such file")
    return it


def _words(connection: Connection, console: Console, sealed: bytes | None) -> str:
    """Return who paid and the words of a payment."""
    said = json.loads(decrypt(office_key(connection, console.api.settings.office), sealed or b""))
    return "; ".join(each for each in said if each)
