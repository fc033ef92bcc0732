"""The search: results as one types, and a page of results without a script."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from utility.overview.store.finding import Found, find
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import Staff

router = APIRouter(include_in_schema=False)


def _found(console: Console, text: str) -> list[Found]:
    return console.database.read(find, text, console.now())


@router.get("/console/find")
def page(
    console: RequestConsole, request: Request, actor: Staff, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the results; of a single one its page."""
    results = _found(console, text)
    if len(results) == 1:
        return RedirectResponse(path_of(results[0]), 303)
    return console.page(request, actor, "find.html", {"results": results, "text": text, "path_of": path_of})


@router.get("/console/find/results")
def part(
    console: RequestConsole, request: Request, actor: Staff, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the list of results, as one types."""
    content = {"results": _found(console, text), "text": text, "path_of": path_of}
    return console.fragment(request, actor, "find_results.html", content)


def path_of(found: Found) -> str:
    """Return the address of a result's page."""
    return f"/console/{'microgrids' if found.kind == 'microgrid' else 'meters'}/{found.name}"
