"""Releases for researchers: their data dictionary and files, agreements and who may download, approvals."""

import csv
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from pydantic import BaseModel

from commonwatt.model.time.local_calendar import local_text
from commonwatt.model.time.times import parse_time
from commonwatt.model.units import QUARTER_S
from utility.access.actor import Actor
from utility.access.decisions import shown as shown_second
from utility.access.roles import Role
from utility.access.store.access import people
from utility.research import decisions as releases
from utility.research import store as store
from utility.research.documents import AGREEMENT_LICENCE
from utility.research.release import Tier
from utility.research.shown import KINDS, attack_words, files_of_tier, made_rows, options_words, plot_of, reading_lines
from utility.webkit.columns import Shown, Written, columns_of
from utility.webkit.console.answers import ROWS, Skip, Why, other_pages, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.console.rendering import MISSING, plain_bytes
from utility.webkit.rights import Allowed, Approvers, Clerks, Researchers

Readers = Annotated[Actor, Depends(Allowed(Role.RESEARCHER, Role.CLERK, Role.APPROVER))]
Id = Annotated[str, Path(pattern="^[0-9a-z]{1,16}$")]
Name = Annotated[str, Form(max_length=64)]

_START = "/console/research"
_MAX_MANIFEST = 1_000_000
_SHOWN_ROWS = 5
_PLOT_ROWS = 200
_OPEN_DATA = "sums.csv"


class ReleaseRow(BaseModel):
    """A release in the list."""

    id: Annotated[str, Shown("Release", link="/console/research/{id}")]
    kind: Annotated[str, Shown("Tier", link="/console/research/kinds/{kind}")]
    start: Annotated[int, Shown("From", Written.MOMENT)]
    end: Annotated[int, Shown("Until", Written.MOMENT)]
    size: Annotated[str, Shown("Size")]
    licence: Annotated[str, Shown("Licence")]
    state: Annotated[str, Shown("State", Written.STATE, badges={"released": "good"})]
    asked_by: Annotated[str, Shown("Asked for by")]


router = APIRouter(include_in_schema=False)


@router.get(f"{_START}/kinds/{{tier}}")
def kind(console: RequestConsole, request: Request, actor: Readers, tier: Tier) -> HTMLResponse:
    """Show before access what a tier has: its data dictionary, made rows, and how to get it."""
    files = files_of_tier(tier)
    known = console.database.read(people)
    clerks = [one.display for one in known if Role.CLERK in one.roles and one.state == "active"]
    rows = [{"file": name, **vars(one)} for name, columns in files.items() for one in columns]
    data, columns = list(files.items())[-1]
    content = {
        "tier": tier,
        "words": KINDS[tier],
        "is_open": tier is Tier.OPEN,
        "columns": [{**row, "type": row["kind"], "description": row["meaning"]} for row in rows],
        "sample": _as_text([[one.name for one in columns], *made_rows(tier)[44 : 44 + _SHOWN_ROWS]]),
        "data": data,
        "clerks": clerks,
        "terms": AGREEMENT_LICENCE.format(agreement="the agreement's name", until="its last day"),
    }
    return console.page(request, actor, "research_kind.html", content)


@router.get(f"{_START}/kinds/{{tier}}/plot.json")
def kind_plot(_: Readers, tier: Tier) -> dict[str, Any]:
    """Return the made rows of a tier."""
    columns = list(files_of_tier(tier).values())[-1]
    return plot_of([one.name for one in columns], made_rows(tier))


@router.get(_START)
def listed(console: RequestConsole, request: Request, actor: Readers, skip: Skip = 0) -> HTMLResponse:
    """List releases: to a researcher those of the own agreements and the open ones, to staff all."""
    with console.database.reads.begin() as connection:
        rows = store.releases(connection, ROWS + 1, skip)
        own = store.agreements_of(connection, actor.name, console.now())
        agreements = [one for one in store.agreements(connection) if _is_staff(actor) or one.name in own]
        readers = store.readers(connection) if _is_staff(actor) else {}
    content = {
        "rows": [
            _list_row(console, kept) for kept in rows[:ROWS] if _is_staff(actor) or releases.may_download(kept, own)
        ],
        "columns": columns_of(ReleaseRow),
        "kinds": KINDS,
        "agreements": agreements,
        "readers": readers,
        **other_pages(_START, skip, is_more=len(rows) > ROWS),
    }
    return console.page(request, actor, "research.html", content)


@router.get(f"{_START}/{{release}}")
def shown(console: RequestConsole, request: Request, actor: Readers, release: Id) -> HTMLResponse:
    """Show a release: licence, citation, files and how to read them, first rows, data dictionary, attacks."""
    kept, may = _kept(console, actor, release)
    manifest = _manifest(console, release)
    content: dict[str, Any] = {
        "release": _row(kept),
        "attacks": kept.attacks,
        "attack": attack_words(kept.attacks),
        "columns": _columns(manifest),
        "licence": _licence(kept),
        "citation": _citation(console, kept, manifest),
        "lines": reading_lines(release, manifest),
        "sample": _as_text(_first_rows(console, kept, 1 + _SHOWN_ROWS)),
    }
    if _is_staff(actor):
        content |= console.database.read(shown_second, console.api.second(actor), {kept.asked_by: "asked for it"})
    content |= {"files": _files(console, release, manifest), "may_download": may and actor.has(Role.RESEARCHER)}
    return console.page(request, actor, "research_release.html", content)


@router.get(f"{_START}/{{release}}/plot.json")
def plot(console: RequestConsole, actor: Readers, release: Id) -> dict[str, Any]:
    """Return the first sums of an open release."""
    kept, _ = _kept(console, actor, release)
    rows = _first_rows(console, kept, 1 + _PLOT_ROWS)
    return plot_of(rows[0], [row for row in rows[1:] if row[0] == rows[1][0]]) if len(rows) > 1 else {"series": []}


@router.post(f"{_START}/{{release}}/download")
def download(console: RequestConsole, actor: Researchers, release: Id, name: Name) -> FileResponse:
    """Return a file of a release; the log says who got it."""
    with refusing(404):
        path = releases.downloaded(console.database, _folder(console), release, name, actor, console.now())
    return FileResponse(path, filename=f"{release}-{path.name}", content_disposition_type="attachment")


@router.post(f"{_START}/{{release}}/approve")
def approve(console: RequestConsole, actor: Approvers, release: Id, why: Why = "") -> RedirectResponse:
    """Approve a release above the limit, as the second person."""
    with refusing():
        releases.approve(console.database, release, why, console.api.second(actor))
    words = f"{release} is approved; who asked for it runs its command again"
    return console.see_other(actor, f"{_START}/{release}", words)


@router.post(f"{_START}/agreements")
def add(
    console: RequestConsole, actor: Clerks, name: Name, until: Annotated[str, Form(max_length=40)]
) -> RedirectResponse:
    """Add an agreement."""
    with refusing(422):
        end = parse_time(until, "until", console.zone())
        releases.add_agreement(console.database, name, end, actor, console.now())
    return console.see_other(actor, _START, f"agreement {name.strip()} is added")


@router.post(f"{_START}/readers")
def reader(
    console: RequestConsole, actor: Clerks, agreement: Name, person: Name, remove: Annotated[bool, Form()] = False
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


def _manifest(console: Console, release: str) -> Mapping[str, Any]:
    """Return the manifest of a release; empty if its files are not there."""
    path = _folder(console) / release / "datapackage.json"
    if not path.is_file() or path.stat().st_size > _MAX_MANIFEST:
        return {}
    found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _folder(console: Console) -> FilePath:
    return console.api.settings.research.releases


def _columns(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the data dictionary of a release: file, column, type, meaning."""
    return [
        {"file": resource["path"], **field}
        for resource in manifest.get("resources", ())
        if resource["path"].endswith(".csv")
        for field in resource["schema"]["fields"]
    ]


def _files(console: Console, release: str, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    digests = {one["path"]: one.get("hash", "").removeprefix("sha256:") for one in manifest.get("resources", ())}
    paths = releases.files_of(_folder(console), release)
    return [{"name": path.name, "bytes": path.stat().st_size, "sha256": digests.get(path.name, "")} for path in paths]


def _licence(kept: store.Kept) -> str:
    return "CC BY 4.0" if kept.tier == Tier.OPEN else f"agreement {kept.options.get('agreement', '')}"


def _citation(console: Console, kept: store.Kept, manifest: Mapping[str, Any]) -> str:
    first, last = (local_text(quarter, console.zone())[:10] for quarter in (kept.since, kept.until - 1))
    title, version = manifest.get("title", f"{kept.tier} release"), manifest.get("release", {}).get("version", "")
    return f"{title}, {kept.id}, {first} to {last}. Made by Commonwatt {version}".strip() + "."


def _first_rows(console: Console, kept: store.Kept, most: int) -> list[list[str]]:
    """Return the heading and the first rows of an open release's data; none of another tier: each access is logged."""
    path = _folder(console) / kept.id / _OPEN_DATA
    if kept.tier != Tier.OPEN or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(islice(csv.reader(file), most))


def _as_text(rows: list[list[str]]) -> str:
    return "\n".join(map(",".join, rows))


def _list_row(console: Console, kept: store.Kept) -> ReleaseRow:
    size = sum(path.stat().st_size for path in releases.files_of(_folder(console), kept.id))
    return ReleaseRow(
        id=kept.id,
        kind=Tier.OPEN if kept.tier == Tier.OPEN else Tier.HOMES,
        start=kept.since * QUARTER_S,
        end=kept.until * QUARTER_S,
        size=plain_bytes(size) if size else MISSING,
        licence=_licence(kept),
        state=kept.state,
        asked_by=kept.asked_by,
    )


def _row(kept: store.Kept) -> dict[str, Any]:
    times = {"start": kept.since * QUARTER_S, "end": kept.until * QUARTER_S}
    return {**vars(kept), **times, "words": options_words(kept.options)}
