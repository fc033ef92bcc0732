"""Releases for researchers: their data dictionary and files, agreements and who may download, approvals."""

import json
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Form, HTTPException, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from commonwatt.model.times import parse_time
from commonwatt.model.units import QUARTER_S
from utility.access.actor import Actor
from utility.access.decisions import shown as shown_second
from utility.access.roles import Role
from utility.research import decisions as releases
from utility.research import store as store
from utility.webkit.console.answers import ROWS, Skip, Why, address, refusing
from utility.webkit.console.console import Console
from utility.webkit.rights import Allowed, Approvers, Clerks, Researchers

Readers = Annotated[Actor, Depends(Allowed(Role.RESEARCHER, Role.CLERK, Role.APPROVER))]
Id = Annotated[str, Path(pattern="^[0-9a-z]{1,16}$")]
Name = Annotated[str, Form(max_length=64)]

_START = "/console/research"
_MAX_MANIFEST = 1_000_000


def add_research(app: FastAPI, console: Console) -> None:
    """Add the routes."""
    _add_releases(app, console)
    _add_decisions(app, console)


def _add_releases(app: FastAPI, console: Console) -> None:
    @app.get(_START, include_in_schema=False)
    def listed(request: Request, actor: Readers, skip: Skip = 0) -> HTMLResponse:
        """List releases: to a researcher those of the own agreements and the open ones, to staff all."""
        with console.database.reads.begin() as connection:
            rows = store.releases(connection, ROWS + 1, skip)
            own = store.agreements_of(connection, actor.name, console.now())
            agreements = [one for one in store.agreements(connection) if _is_staff(actor) or one.name in own]
            readers = store.readers(connection) if _is_staff(actor) else {}
        content = {
            "rows": [_row(kept) for kept in rows[:ROWS] if _is_staff(actor) or releases.may_download(kept, own)],
            "agreements": agreements,
            "readers": readers,
            "earlier": address(_START, skip=max(0, skip - ROWS)) if skip else "",
            "later": address(_START, skip=skip + ROWS) if len(rows) > ROWS else "",
        }
        return console.page(request, actor, "research.html", content)

    @app.get(f"{_START}/{{release}}", include_in_schema=False)
    def shown(request: Request, actor: Readers, release: Id) -> HTMLResponse:
        """Show a release: its data dictionary, its attacks, its files."""
        kept, may = _kept(console, actor, release)
        folder = console.api.settings.research.releases
        files = [{"name": path.name, "bytes": path.stat().st_size} for path in releases.files_of(folder, release)]
        content: dict[str, Any] = {
            "release": _row(kept),
            "attacks": kept.attacks,
            "columns": _columns(console, release),
        }
        if _is_staff(actor):
            with console.database.reads.begin() as connection:
                content |= shown_second(connection, console.api.second(actor), {kept.asked_by: "asked for it"})
        content |= {"files": files, "may_download": may and actor.has(Role.RESEARCHER)}
        return console.page(request, actor, "research_release.html", content)

    @app.post(f"{_START}/{{release}}/download", include_in_schema=False)
    def download(actor: Researchers, release: Id, name: Name) -> FileResponse:
        """Return a file of a release; the log says who got it."""
        folder = console.api.settings.research.releases
        with refusing(404):
            path = releases.downloaded(console.database, folder, release, name, actor, console.now())
        return FileResponse(path, filename=f"{release}-{path.name}", content_disposition_type="attachment")


def _add_decisions(app: FastAPI, console: Console) -> None:
    @app.post(f"{_START}/{{release}}/approve", include_in_schema=False)
    def approve(actor: Approvers, release: Id, why: Why = "") -> RedirectResponse:
        """Approve a release above the limit, as the second person."""
        with refusing():
            releases.approve(console.database, release, why, console.api.second(actor))
        words = f"{release} is approved; who asked for it runs its command again"
        return console.see_other(actor, f"{_START}/{release}", words)

    @app.post(f"{_START}/agreements", include_in_schema=False)
    def add(actor: Clerks, name: Name, until: Annotated[str, Form(max_length=40)]) -> RedirectResponse:
        """Add an agreement."""
        with refusing(422):
            end = parse_time(until, "until", console.zone())
            releases.add_agreement(console.database, name, end, actor, console.now())
        return console.see_other(actor, _START, f"agreement {name.strip()} is added")

    @app.post(f"{_START}/readers", include_in_schema=False)
    def reader(
        actor: Clerks, agreement: Name, person: Name, remove: Annotated[bool, Form()] = False
    ) -> RedirectResponse:
        """Let a researcher download an agreement's releases, or no more."""
        with refusing():
            change = releases.stop_reading if remove else releases.let_read
            change(console.database, agreement, person, actor, console.now())
        words = f"{person} may {'no more ' if remove else ''}download the releases of {agreement}"
        return console.see_other(actor, _START, words)


def _is_staff(actor: Actor) -> bool:
    return actor.has(Role.CLERK, Role.APPROVER)


def _kept(console: Console, actor: Actor, release: str) -> tuple[store.Kept, bool]:
    """Return a release that the actor may see, and whether a researcher of the same agreements may download it."""
    with console.database.reads.begin() as connection:
        kept = store.find_release(connection, release)
        own = store.agreements_of(connection, actor.name, console.now())
    may = kept is not None and releases.may_download(kept, own)
    if kept is None or not (may or _is_staff(actor)):
        raise HTTPException(404, f"{release}: there is no such release for you")
    return kept, may


def _columns(console: Console, release: str) -> list[dict[str, str]]:
    """Return the data dictionary of a release from its manifest: file, column, type, meaning."""
    path = console.api.settings.research.releases / release / "datapackage.json"
    if not path.is_file() or path.stat().st_size > _MAX_MANIFEST:
        return []
    resources = json.loads(path.read_text(encoding="utf-8"))["resources"]
    return [
        {"file": resource["path"], **field}
        for resource in resources
        if resource["path"].endswith(".csv")
        for field in resource["schema"]["fields"]
    ]


def _row(kept: store.Kept) -> dict[str, Any]:
    options = ", ".join(f"{name} {value}" for name, value in sorted(kept.options.items()) if value not in (None, ""))
    return {**vars(kept), "start": kept.since * QUARTER_S, "end": kept.until * QUARTER_S, "words": options}
