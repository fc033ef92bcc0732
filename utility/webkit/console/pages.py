"""The state of a long work that a person started: a run of bills, a preview of a tariff, a replay."""

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from utility.webkit.console.answers import refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import ReadsTown
from utility.webkit.works import LongWork

router = APIRouter(include_in_schema=False)


@router.get("/console/works/{work_id}")
def work(console: RequestConsole, request: Request, actor: ReadsTown, work_id: str) -> Response:
    """Show how far a work is; go to the result when it is there."""
    found = _found(console, work_id)
    return (
        RedirectResponse(found.path, 303) if found.path else console.page(request, actor, "work.html", {"work": found})
    )


@router.get("/console/works/{work_id}/live")
def live(console: RequestConsole, request: Request, actor: ReadsTown, work_id: str) -> Response:
    """Return the changing part of that page; go to the result when it is there."""
    found = _found(console, work_id)
    if found.path:
        return Response(headers={"HX-Redirect": found.path})
    return console.fragment(request, actor, "work_live.html", {"work": found})


@router.post("/console/works/{work_id}/cancel")
def cancel(console: RequestConsole, actor: ReadsTown, work_id: str) -> RedirectResponse:
    """Cancel one's own work."""
    with refusing():
        console.api.works.cancel(work_id, actor.name)
    return console.see_other(actor, f"/console/works/{work_id}")


def _found(console: Console, work_id: str) -> LongWork:
    work = console.api.works.find(work_id)
    if work is None:
        raise HTTPException(
            404,
            "this work is not known: it is old, or the service was started again meanwhile. If its result is not "
            "listed, nothing was stored: start it again",
        )
    return work
