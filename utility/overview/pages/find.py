"""The search: results as one types, and a page of results without a script."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from utility.access.actor import Actor
from utility.access.roles import Role
from utility.overview.store.finding import find
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.navigation import entries_for
from utility.webkit.rights import ReadsTown

router = APIRouter(include_in_schema=False)


def _found(console: Console, actor: Actor, text: str) -> list[tuple[str, str]]:
    """Return words and address of each result: an account, microgrids, pages of the console, meters."""
    number, found = text.lower().removeprefix("account").strip(), console.database.read(find, text, console.now())
    by_kind: dict[str, list[tuple[str, str]]] = {"account": [], "microgrid": [], "page": _pages(console, actor, text)}
    if actor.has(Role.CLERK, Role.APPROVER) and any(each.kind == "account" for each in found):
        by_kind["account"].append((f"Account {int(number)}", f"/console/bills/{int(number)}"))
    for each in found:
        folder = "microgrids" if each.kind == "microgrid" else "meters"
        by_kind.setdefault(each.kind, []).append((each.text, f"/console/{folder}/{each.name}"))
    return [one for some in by_kind.values() for one in some]


def _pages(console: Console, actor: Actor, text: str) -> list[tuple[str, str]]:
    """Return the pages that the person may open, of which a word begins so: first those with it in their own title."""
    wanted, found = f" {text.strip().lower()}", []
    for entry in entries_for(actor, console.demonstration is not None):
        is_own, is_group = (wanted in f" {name.lower()}" for name in (entry.title, entry.group))
        if is_own or is_group:
            found.append((not is_own, f"Page {entry.group}: {entry.title}", entry.path))
    return [(words, path) for _, words, path in sorted(found, key=lambda each: each[0])]


@router.get("/console/find")
def page(
    console: RequestConsole, request: Request, actor: ReadsTown, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the results; of a single one its page."""
    results = _found(console, actor, text)
    if len(results) == 1:
        return RedirectResponse(results[0][1], 303)
    return console.page(request, actor, "find.html", {"results": results, "text": text})


@router.get("/console/find/results")
def part(
    console: RequestConsole, request: Request, actor: ReadsTown, text: Annotated[str, Query(max_length=100)] = ""
) -> Response:
    """Return the list of results, as one types."""
    content = {"results": _found(console, actor, text), "text": text}
    return console.fragment(request, actor, "find_results.html", content)
