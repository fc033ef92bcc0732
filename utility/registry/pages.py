"""The page of places that must not be cut: a clerk asks, an approver decides, operators see them in a shortage."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from commonwatt.model.units import quarter_of
from utility.access.decisions import shown as shown_second
from utility.access.people import Actor, Right
from utility.registry import decisions
from utility.registry.store.statements import meters_of, spared_places
from utility.webkit.console.answers import Number, refusing
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import ApprovesAccounts, KeepsAccounts, may

_START = "/console/spared"
_Seers = Annotated[Actor, may(Right.READ_SPARED)]
_Yes = Annotated[bool, Form()]


router = APIRouter(include_in_schema=False)


@router.get(_START)
def page(console: RequestConsole, request: Request, actor: _Seers) -> Response:
    """List the places, and what waits for a second person."""
    with console.database.reads.begin() as connection:
        rows = list(spared_places(connection).values())
        meters = meters_of(connection, quarter_of(console.now()))
        second = {
            each.account: shown_second(connection, console.api.second(actor), {each.asked_by: "asked for it"})
            for each in rows
            if each.wanted is not None
        }
    where = {account: name for name, of in meters.items() for account in of.values()}
    return console.page(request, actor, "spared.html", {"rows": rows, "where": where, "second": second})


@router.post(_START)
def ask(
    console: RequestConsole, actor: KeepsAccounts, account: Annotated[int, Form(ge=1, le=65_535)], wanted: _Yes
) -> RedirectResponse:
    """Ask that a place is not cut, or may be again."""
    with refusing(422):
        decisions.ask(console.database, account, actor, console.now(), wanted=wanted)
    return console.see_other(actor, _START, f"account {account}: a second person has to agree")


@router.post(f"{_START}/{{account}}")
def decide(
    console: RequestConsole, actor: ApprovesAccounts, account: Number, agrees: _Yes, wanted: _Yes
) -> RedirectResponse:
    """Agree or refuse, as the second person, what the page has shown to be wanted."""
    with refusing():
        decisions.decide(console.database, account, console.api.second(actor), agrees=agrees, wanted=wanted)
    return console.see_other(actor, _START, f"account {account}: {'agreed' if agrees else 'refused'}")
