"""Releases for researchers: their data dictionary and files, requests, agreements, approvals."""

import csv
import json
from collections.abc import Container, Mapping
from datetime import date, timedelta
from itertools import islice
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import Form, HTTPException, Path, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse

from commonwatt.model.calendar import local_day, local_text, month_quarters
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S
from utility.access.decisions import shown as shown_second
from utility.access.people import Actor, Right, Role
from utility.access.store.access import people
from utility.research import decisions as releases
from utility.research import store as store
from utility.research.api import ACTIONS, Release, licence, release_row
from utility.research.coarsening import Coarsening
from utility.research.documents import (
    AGREEMENT_LICENCE,
    KINDS,
    attack_words,
    files_of_tier,
    made_rows,
    options_words,
    plot_of,
    reading_lines,
)
from utility.research.groups import MIN_HOMES
from utility.research.jobs.releases import asked_of
from utility.research.release import Tier
from utility.webkit.columns import columns_of
from utility.webkit.console.answers import ROWS, Skip, Why, other_pages, quarters_of, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import DownloadsReleases, PreparesReleases, may
from utility.webkit.works import WorkKind

Readers = Annotated[Actor, may(Right.READ_RESEARCH)]
_Kind = Annotated[Tier, Path(alias="kind")]
Askers = Annotated[Actor, may(Right.ASK_FOR_DATA)]
Id = Annotated[str, Path(pattern="^[0-9a-z]{1,16}$")]
Watthours = Annotated[int, Form(ge=0, le=10_000)]
Name = Annotated[str, Form(max_length=64)]

_START = "/console/research"
_MAX_MANIFEST = 1_000_000
_SHOWN_ROWS = 5
_PLOT_ROWS = 200
_OPEN_DATA = "sums.csv"
STEP_WORDS = {
    900: "15 minutes",
    3600: "an hour",
    15: "15 seconds, homes only",
    60: "a minute, homes only",
    300: "5 minutes, homes only",
}


router = ACTIONS.forms


@router.get(f"{_START}/kinds/{{kind}}")
def kind(console: RequestConsole, request: Request, actor: Readers, tier: _Kind) -> HTMLResponse:
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


@router.get(f"{_START}/kinds/{{kind}}/plot.json")
def kind_plot(_: Readers, tier: _Kind) -> dict[str, Any]:
    """Return the made rows of a tier."""
    columns = list(files_of_tier(tier).values())[-1]
    return plot_of([one.name for one in columns], made_rows(tier))


@router.get(_START)
def listed(console: RequestConsole, request: Request, actor: Readers, skip: Skip = 0) -> HTMLResponse:
    """List releases: to a researcher the open ones and those of the own requests, to staff all."""
    with console.database.reads.begin() as connection:
        rows = store.releases(connection, ROWS + 1, skip)
        own = store.releases_of(connection, actor.name, console.now())
        agreements = [one for one in store.agreements(connection) if _is_staff(actor) or one.name in own.values()]
        oldest = store.first_quarter(connection)
    content = {
        "rows": [release_row(console.api, kept) for kept in rows[:ROWS] if _may_see(actor, kept, own)],
        "columns": columns_of(Release),
        "kinds": KINDS,
        "steps": STEP_WORDS,
        "days": _likely(console, oldest),
        "agreements": agreements,
        **other_pages(_START, skip, is_more=len(rows) > ROWS),
    }
    return console.page(request, actor, "research.html", content)


@router.get(f"{_START}/{{release}}")
def shown(console: RequestConsole, request: Request, actor: Readers, release: Id) -> HTMLResponse:
    """Show a release: licence, citation, files and how to read them, first rows, data dictionary, attacks."""
    kept, may = _kept(console, actor, release)
    if kept.state in releases.REQUESTS:
        return _request(console, request, actor, kept)
    manifest = _manifest(console, release)
    content: dict[str, Any] = {
        "release": _row(kept),
        "attacks": kept.attacks,
        "attack": attack_words(kept.attacks),
        "columns": _columns(manifest),
        "licence": licence(kept),
        "citation": _citation(console, kept, manifest),
        "lines": reading_lines(release, manifest),
        "sample": _as_text(_first_rows(console, kept, 1 + _SHOWN_ROWS)),
    }
    if _is_staff(actor):
        content |= console.database.read(shown_second, console.api.second(actor), {kept.asked_by: "asked for it"})
    content |= {"files": _files(console, release, manifest), "may_download": may and actor.may(Right.DOWNLOAD_RELEASES)}
    return console.page(request, actor, "research_release.html", content)


def _likely(console: Console, oldest: int | None) -> list[date]:
    """Return the first whole day of which readings are kept, and the days that are likely asked for: the last month."""
    now, zone = console.now(), console.zone()
    kept = local_day((oldest or now // QUARTER_S) * QUARTER_S - 1, zone) + timedelta(1)
    month = [local_day(each * QUARTER_S, zone) for each in month_quarters(console.api.last_month(), zone)]
    last = month[1] if month[1] > kept else local_day(now, zone)
    return [kept, max(kept, month[0]), last - timedelta(1)]


def _request(console: Console, request: Request, actor: Actor, kept: store.KeptRelease) -> HTMLResponse:
    """Show a request, and to clerks how to answer it."""
    with console.database.reads.begin() as connection:
        agreements = [one.name for one in store.agreements(connection) if one.until > console.now()]
        made = store.find_release(connection, kept.options.get("release", ""))
        own = store.releases_of(connection, actor.name, console.now())
    content = {
        "asked": _row(kept),
        "made": made if made is not None and _may_see(actor, made, own) else None,
        "agreements": agreements,
        "least": MIN_HOMES,
        "is_fine": kept.options["step_s"] < QUARTER_S,
    }
    return console.page(request, actor, "research_request.html", content)


@router.post(f"{_START}/requests")
def ask(
    console: RequestConsole,
    actor: Askers,
    kind: Annotated[Tier, Form()],
    first: Annotated[date, Form(alias="from")],
    last: Annotated[date, Form(alias="to")],
    step: Annotated[int, Form()],
    purpose: Annotated[str, Form(max_length=releases.MAX_PURPOSE)] = "",
) -> RedirectResponse:
    """Ask for a release of local days, the first and the last one included."""
    with refusing(422):
        if (last - first).days >= releases.MAX_DAYS:
            raise ConfigError(f"to: more than {releases.MAX_DAYS} days after the first one; ask for each year")
        start, end = (quarter // 4 * 3600 for quarter in quarters_of(first, last, console.zone()))
        asked = asked_of(kind, start, end, Coarsening(step_s=step))
        request = releases.ask(console.database, asked, purpose, actor, console.now())
    return console.see_other(actor, f"{_START}/{request}", "you have asked; the answer will stand here")


@router.post(f"{_START}/{{release}}/refuse")
def refuse(console: RequestConsole, actor: PreparesReleases, release: Id, why: Why = "") -> RedirectResponse:
    """Answer a request with the reason why there is no release."""
    with refusing(422):
        releases.refuse(console.database, release, why, actor, console.now())
    return console.see_other(actor, f"{_START}/{release}", "the request is refused")


@router.post(f"{_START}/{{release}}/make")
def make(
    console: RequestConsole,
    actor: PreparesReleases,
    release: Id,
    agreement: Annotated[str, Form(max_length=64)] = "",
    homes: Annotated[int | None, Form(ge=MIN_HOMES, le=10_000)] = None,
    sample: Annotated[int | None, Form(ge=1, le=100)] = None,
    rounded: Annotated[Watthours | None, Form(alias="round")] = None,
    noise: Watthours | None = None,
) -> RedirectResponse:
    """Begin to make what was asked for, or the files of a release that was approved."""
    kept, _ = _kept(console, actor, release)
    choice = {"min_homes": homes, "sample_percent": sample, "unit_wh": rounded, "noise_wh": noise}
    choice = {name: value for name, value in choice.items() if value is not None}
    with refusing(422):
        asked = releases.wanted(kept, choice | ({"agreement": agreement} if agreement else {}))
        job = releases.job_of(console.database, console.api.settings, kept, asked, actor, console.now())
        words = f"Release of {kept.tier} for {kept.asked_by}"
        work = console.api.works.start(WorkKind.RELEASE, words, actor.name, console.now(), job)
    return console.see_other(actor, f"/console/works/{work.id}")


@router.get(f"{_START}/{{release}}/plot.json")
def plot(console: RequestConsole, actor: Readers, release: Id) -> dict[str, Any]:
    """Return the first sums of an open release."""
    kept, _ = _kept(console, actor, release)
    rows = _first_rows(console, kept, 1 + _PLOT_ROWS)
    return plot_of(rows[0], [row for row in rows[1:] if row[0] == rows[1][0]]) if len(rows) > 1 else {"series": []}


@router.post(f"{_START}/{{release}}/download")
def download(console: RequestConsole, actor: DownloadsReleases, release: Id, name: Name) -> FileResponse:
    """Return a file of a release; the audit log says who got it."""
    with refusing(404):
        path = releases.downloaded(console.database, _folder(console), release, name, actor, console.now())
    return FileResponse(path, filename=f"{release}-{path.name}", content_disposition_type="attachment")


def _is_staff(actor: Actor) -> bool:
    return actor.may(Right.READ_RELEASES)


def _may_see(actor: Actor, kept: store.KeptRelease, own: Container[str]) -> bool:
    is_own = kept.state in releases.REQUESTS and kept.asked_by == actor.name
    return is_own or _is_staff(actor) or releases.may_download(kept, own)


def _kept(console: Console, actor: Actor, release: str) -> tuple[store.KeptRelease, bool]:
    """Return a release that the actor may see, and whether this person as a researcher may download it."""
    with console.database.reads.begin() as connection:
        kept = store.find_release(connection, release)
        own = store.releases_of(connection, actor.name, console.now())
    may = kept is not None and releases.may_download(kept, own)
    if kept is None or not _may_see(actor, kept, own):
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


def _citation(console: Console, kept: store.KeptRelease, manifest: Mapping[str, Any]) -> str:
    first, last = (local_text(quarter, console.zone())[:10] for quarter in (kept.since, kept.until - 1))
    title, version = manifest.get("title", f"{kept.tier} release"), manifest.get("release", {}).get("version", "")
    return f"{title}, {kept.id}, {first} to {last}. Made by Commonwatt {version}".strip() + "."


def _first_rows(console: Console, kept: store.KeptRelease, most: int) -> list[list[str]]:
    """Return the heading and the first rows of an open release's data; none of another tier: each access is logged."""
    path = _folder(console) / kept.id / _OPEN_DATA
    if kept.tier != Tier.OPEN or not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(islice(csv.reader(file), most))


def _as_text(rows: list[list[str]]) -> str:
    return "\n".join(map(",".join, rows))


def _row(kept: store.KeptRelease) -> dict[str, Any]:
    times = {"start": kept.since * QUARTER_S, "end": kept.until * QUARTER_S}
    return {**vars(kept), **times, "words": options_words(kept.options)}
