"""The ledger for clerks: what is owed, payments that wait, a bank's file, plans, orders for the bank, months."""

import json
from typing import Annotated, Any

from fastapi import APIRouter, Form, HTTPException, Path, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.care.sealing import decrypt
from utility.customers.store.contacts import contacts_on, office_key
from utility.database.base import Connection
from utility.ledger.bank import MAX_BYTES
from utility.ledger.decisions import DECISIONS, REVERSIBLE, Asked, close, decide, take_in
from utility.ledger.entry import WITHOUT_LINES, Kind, live, open_items
from utility.ledger.store import entries as store
from utility.ledger.store.entries import C, entries_where
from utility.webkit.console.answers import ROWS, Number, Skip, download, other_pages, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import Approvers, Clerks, ClerksOrApprovers

_START = "/console/ledger"
_File = Annotated[str, Path(pattern=r"^CW-[0-9-]{12,40}$")]
_Month = Annotated[str, Path(pattern=r"^[0-9]{4}-[0-9]{2}$")]


router = APIRouter(include_in_schema=False)


@router.get(_START)
def listed(console: RequestConsole, request: Request, actor: ClerksOrApprovers, skip: Skip = 0) -> HTMLResponse:
    """List what accounts owe, payments that wait, reminders, orders and months."""
    with console.database.reads.begin() as connection:
        waiting = store.waiting(connection)[:ROWS]
        owed = sorted(store.balances(connection).items(), key=lambda each: -each[1])
        orders = entries_where(connection, C.kind == Kind.ORDER)
        content: dict[str, Any] = {
            "owed": owed[skip : skip + ROWS],
            "waiting": [(each, _words(connection, console, each.sealed)) for each in waiting],
            "reminders": entries_where(connection, C.kind == Kind.REMINDER)[-ROWS:][::-1],
            "files": list(dict.fromkeys(each.text for each in reversed(orders)))[:12],
            "months": store.closed_months(connection),
            "proposed": entries_where(connection, C.kind == Kind.PROPOSAL)[-1:],
            "month": console.api.last_month(),
            **other_pages(_START, skip, is_more=len(owed) > skip + ROWS),
        }
    return console.page(request, actor, "ledger.html", content)


@router.get(f"{_START}/accounts/{{number}}")
def account(console: RequestConsole, request: Request, actor: ClerksOrApprovers, number: Number) -> HTMLResponse:
    """Show the statement of an account, what is open, and its plan."""
    entries = console.database.read(entries_where, C.account == number)
    content = {"number": number, "entries": entries, "open": open_items(entries), "live": live(entries)}
    content |= {"without_lines": WITHOUT_LINES, "reversible": REVERSIBLE}
    return console.page(request, actor, "ledger_account.html", content)


@router.get(f"{_START}/months/{{month}}.csv")
def month_file(console: RequestConsole, _: ClerksOrApprovers, month: _Month) -> Response:
    """Return a month's export."""
    codes = console.api.settings.office.codes
    return download(console.database.read(store.exported, month, codes), f"ledger-{month}.csv", "text/csv")


@router.get(f"{_START}/orders/{{file}}")
def order_file(console: RequestConsole, _: Clerks, file: _File) -> Response:
    """Return the orders for the bank but of cancelled bills: pain.008 of direct debits, pain.001 of refunds."""
    settings = console.api.settings
    with console.database.reads.begin() as connection:
        found = entries_where(connection, C.text == file, *store.STANDING)
        who = contacts_on(connection, office_key(connection, settings.office), found[0].due) if found else {}
        orders = [(each, who[each.account]) for each in found if each.account in who]
        content = {
            "file": file,
            "orders": orders,
            "office": settings.office,
            "total": sum(abs(each.cents) for each, _ in orders),
            "currency": store.currency_of(connection, settings.billing.tariff),
        }
    if not orders:
        raise HTTPException(404, f"{file}: there is no such file")
    name = "pain_001.xml" if orders[0][0].cents < 0 else "pain_008.xml"
    return download(console.renderer.render(name, content).encode(), f"{file}.xml", "application/xml")


@router.post(f"{_START}/import")
def imported(console: RequestConsole, request: Request, actor: Clerks, file: UploadFile) -> HTMLResponse:
    """Import a bank's file, and show what became of its bookings."""
    with refusing(422):
        done = take_in(console.database, console.api.settings, file.file.read(MAX_BYTES + 1), actor, console.now())
    return console.page(request, actor, "ledger_import.html", {"done": done})


@router.post(f"{_START}/close")
def closed(console: RequestConsole, actor: Approvers, month: Annotated[str, Form(max_length=7)]) -> RedirectResponse:
    """Close a month, as the second person."""
    with refusing():
        close(console.database, console.api.settings, month, console.api.second(actor))
    return console.see_other(actor, _START, f"{month} is closed")


@router.post(f"{_START}/decide/{{name}}")
def decided(console: RequestConsole, actor: Clerks, name: str, asked: Annotated[Asked, Form()]) -> RedirectResponse:
    """Take a decision."""
    if name not in DECISIONS:
        raise HTTPException(404, f"{name}: there is no such decision")
    with refusing(422):
        made = decide(console.database, console.api.settings, name, asked, actor, console.now())
    path = f"{_START}/accounts/{asked.account}" if name in ("plan", "reverse") and asked.account else _START
    return console.see_other(actor, path, f"{len(made)} entries made")


def _words(connection: Connection, console: Console, sealed: bytes | None) -> str:
    """Return who paid and the words of a payment."""
    said = json.loads(decrypt(office_key(connection, console.api.settings.office), sealed or b""))
    return "; ".join(each for each in said if each)
