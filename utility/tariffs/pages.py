"""Tariffs: their versions, a draft with all its faults, two people, what was sent."""

from typing import Annotated, Any, Literal, Protocol

from fastapi import FastAPI, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.local_calendar import local_text
from utility.access.actor import Actor
from utility.access.two_people import shown as shown_second
from utility.tariffs import decisions as tariffs
from utility.tariffs.store.rates import acknowledged, told_counts
from utility.tariffs.store.tariffs import Stored, find_version, versions
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit.console.answers import ROWS, Skip, address, found, plain, refusing
from utility.webkit.console.console import Console
from utility.webkit.rights import Approvers, Clerks, ClerksOrApprovers, Staff
from utility.webkit.services import Api
from utility.webkit.works import Work

Source = Annotated[str, Form(max_length=tariffs.MAX_TARIFF_BYTES)]
MonthText = Annotated[str, Form(max_length=10)]

VersionNumber = Annotated[int, Path(ge=0, lt=2**15)]
OtherVersion = Annotated[int, Query(ge=0, lt=2**15)]

_START = "/console/rates"


class Begin(Protocol):
    """Begins the preview of a tariff."""

    def __call__(self, api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> Work:
        """Return the work; the month may be empty: the last one."""


def add_rates(app: FastAPI, console: Console, begin: Begin) -> None:
    """Add the routes."""
    _add_lists(app, console)
    _add_draft(app, console, begin)
    _add_version(app, console, begin)


def _add_lists(app: FastAPI, console: Console) -> None:
    @app.get(_START, include_in_schema=False)
    def rates(request: Request, actor: Staff) -> HTMLResponse:
        """List all versions of all tariffs, proposals first, and how many controllers received them."""
        with console.database.reads.begin() as connection:
            rows = versions(connection)
            told = told_counts(connection)
        rows.sort(key=lambda row: (row.state != "proposed", row.name, -row.version))
        return console.page(request, actor, "rates.html", {"rows": rows, "told": told})

    @app.get(f"{_START}/told", include_in_schema=False)
    def told(
        request: Request, actor: Staff, tariff: Annotated[str, Query(max_length=32)] = "", skip: Skip = 0
    ) -> HTMLResponse:
        """List what each controller was sent, and whether it has acknowledged it."""
        with console.database.reads.begin() as connection:
            rows = acknowledged(connection, tariff, ROWS + 1, skip)
        path = f"{_START}/told"
        content = {
            "rows": rows[:ROWS],
            "earlier": address(path, tariff=tariff, skip=max(0, skip - ROWS)) if skip else "",
            "later": address(path, tariff=tariff, skip=skip + ROWS) if len(rows) > ROWS else "",
        }
        return console.page(request, actor, "rates_told.html", content)


def _add_draft(app: FastAPI, console: Console, begin: Begin) -> None:
    @app.get(f"{_START}/new", include_in_schema=False)
    def form(
        request: Request,
        actor: Clerks,
        name: Annotated[str, Query(max_length=32)] = "",
        version: OtherVersion = 0,
    ) -> HTMLResponse:
        """Show the form for a tariff; with a stored version's text, if one is named."""
        return _draft(console, request, actor, _stored(console, name, version).source if name else "")

    @app.post(f"{_START}/new", include_in_schema=False)
    def draft(
        request: Request,
        actor: Clerks,
        action: Annotated[Literal["check", "preview", "propose"], Form()],
        source: Source = "",
        month: MonthText = "",
        file: Annotated[UploadFile | None, File()] = None,
    ) -> Any:
        """Check a tariff's text and show all faults at once; or preview it, or propose it."""
        try:
            text = _text(source, file)
            tariff = parse_tariff(text)
            if action == "propose":
                stored = tariffs.propose(console.database, text, actor, console.now())
                path = f"{_START}/version/{stored.name}/{stored.version}"
                return console.see_other(actor, path, f"{stored.label} is proposed; another person has to approve it")
            if action == "preview":
                return _started(console, actor, begin(console.api, actor, tariff, text, month))
        except ConfigError as error:
            return _draft(console, request, actor, source, faults=str(error).splitlines(), status=422)
        return _draft(console, request, actor, text, tariff=tariff)


def _add_version(app: FastAPI, console: Console, begin: Begin) -> None:
    place = f"{_START}/version/{{name}}/{{version}}"

    @app.get(place, include_in_schema=False)
    def shown(
        request: Request, actor: Staff, name: str, version: VersionNumber, other: OtherVersion = 0
    ) -> HTMLResponse:
        """Show a version, and what differs in it from another one."""
        stored = _stored(console, name, version)
        with console.database.reads.begin() as connection:
            others = [row.version for row in versions(connection) if row.name == name]
            firsts = {stored.proposed_by: "proposed it"}
            second = shown_second(connection, console.api.second(actor), firsts)
        base = other or max((each for each in others if each < version), default=0)
        content = {
            "stored": stored,
            "tariff": stored.tariff,
            "begins": local_text(stored.tariff.effective, stored.tariff.zone),
            "others": [each for each in others if each != version],
            "base": base,
            "differences": tariffs.differences(_stored(console, name, base).tariff, stored.tariff) if base else [],
            "month": console.api.last_month(),
        }
        return console.page(request, actor, "rates_version.html", content | second)

    @app.post(f"{place}/approve", include_in_schema=False)
    def approve(actor: Approvers, name: str, version: VersionNumber) -> RedirectResponse:
        """Publish a proposal, as the second person."""
        with refusing():
            published = tariffs.publish(console.database, name, version, console.api.second(actor))
        words = f"{published.label} is published; the controllers receive it when the service looks next"
        return console.see_other(actor, f"{_START}/version/{name}/{version}", words)

    @app.post(f"{place}/preview", include_in_schema=False)
    def preview(actor: ClerksOrApprovers, name: str, version: VersionNumber, month: MonthText = "") -> RedirectResponse:
        """Preview a stored version."""
        stored = _stored(console, name, version)
        with refusing(422):
            return _started(console, actor, begin(console.api, actor, stored.tariff, stored.source, month))


def _started(console: Console, actor: Actor, work: Work) -> RedirectResponse:
    return console.see_other(actor, f"/console/works/{work.id}")


def _draft(
    console: Console,
    request: Request,
    actor: Actor,
    source: str,
    faults: list[str] | None = None,
    tariff: Tariff | None = None,
    status: int = 200,
) -> HTMLResponse:
    content = {
        "source": source,
        "faults": [plain(ConfigError(fault)) for fault in faults or ()],
        "tariff": tariff,
        "begins": "" if tariff is None else local_text(tariff.effective, tariff.zone),
        "month": console.api.last_month(),
    }
    return console.page(request, actor, "rates_draft.html", content, status)


def _text(source: str, file: UploadFile | None) -> str:
    """Return the text of an uploaded file, or that of the form's field.

    Raises:
        ConfigError: The file is too long, or no text.
    """
    if file is None or not file.filename:
        return source.replace("\r\n", "\n")
    content = file.file.read(tariffs.MAX_TARIFF_BYTES + 1)
    if len(content) > tariffs.MAX_TARIFF_BYTES:
        raise ConfigError(f"the file has more than {tariffs.MAX_TARIFF_BYTES:,} bytes")
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is no text in UTF-8: byte {error.start}") from error


def _stored(console: Console, name: str, version: int) -> Stored:
    with console.database.reads.begin() as connection:
        stored: Stored = found(lambda: find_version(connection, name, version))
    return stored
