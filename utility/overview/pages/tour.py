"""The tour of a demonstration: things to try, each with a button, and what its stage shows (docs/scenarios.md)."""

from pathlib import Path as FolderPath
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.demo.tour import order, stage_of
from utility.access.people import Actor, Right
from utility.access.store.audit_log import record
from utility.billing.store.run_bills import compare
from utility.billing.store.runs import newest_issued
from utility.webkit.console.answers import found, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.navigation import TOUR
from utility.webkit.rights import ReadsTown, may

Acting = Annotated[Actor, may(Right.SEND_COMMANDS, session=True)]  # no program with a token
CHECK = "bill"  # the step that the console does by itself


router = APIRouter(include_in_schema=False)


@router.get(TOUR.path)
def tour(console: RequestConsole, request: Request, actor: ReadsTown) -> HTMLResponse:
    """Show the steps with their states, the audit so far, and what happened on stage."""
    return console.page(request, actor, "tour.html", found(lambda: stage_of(_folder(console))) | {"check": CHECK})


@router.post(f"{TOUR.path}/{{step}}")
def act(console: RequestConsole, actor: Acting, step: Annotated[str, Path(max_length=16)]) -> RedirectResponse:
    """Have the supervisor on this machine do a step, or check the bills of the newest month."""
    with refusing():
        words = _check(console) if step == CHECK else order(_folder(console), step)
    with console.database.writes.begin() as connection:
        record(connection, actor, console.now(), "tour.order", f"step {step}")
    return console.see_other(actor, TOUR.path, words)


def _folder(console: Console) -> FolderPath:
    if (folder := console.demonstration) is None:
        raise HTTPException(404, "this is no demonstration")
    return folder


def _check(console: Console) -> str:
    """Compute the bills of the newest issued month again, and compare each byte; return the result in words."""
    for number, month, *_ in console.database.read(newest_issued, 1):
        compare(console.database, number)
        return f"The bills of {month}, run {number}, were computed again from their readings: each byte is the same."
    return "This town has no issued bills yet: nothing was checked."
