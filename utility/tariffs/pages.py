"""Tariffs: their versions, two people, what was sent; a new version in a form or as text, with its faults."""

from collections import Counter
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.calendar import local_text, month_after, month_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import Quarter, quarter_of
from utility.access.decisions import shown as shown_second
from utility.access.people import Actor
from utility.outbox.store import told_of
from utility.tariffs import decisions as tariffs
from utility.tariffs.api import ACTIONS
from utility.tariffs.file import DAYS, POLICY_WORDS
from utility.tariffs.prices_form import HOURS, MOST_PERIODS, PricesForm, beyond, form_of, kept_of, source_of, written
from utility.tariffs.store import (
    StoredVersion,
    find_version,
    out_of_time,
    published,
    same_day,
    versions,
)
from utility.tariffs.tariff import Tariff, in_force, parse_tariff
from utility.webkit.console.answers import ROWS, Skip, content_of, found, other_pages, plain, refusing
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import PreviewsPrices, ProposesPrices, ReadsTown
from utility.webkit.services import Api
from utility.webkit.works import LongWork

Source = Annotated[str, Form(max_length=tariffs.MAX_TARIFF_BYTES)]
MonthText = Annotated[str, Form(max_length=10)]

VersionNumber = Annotated[int, Path(ge=0, lt=2**15)]
OtherVersion = Annotated[int, Query(ge=0, lt=2**15)]

_START = "/console/rates"
_DAY_WORDS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Hol.")


class Begin(Protocol):
    """Begins the preview of a tariff."""

    def __call__(self, api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> LongWork:
        """Return the work; the month may be empty: the last one."""


class Filled(PricesForm):
    """The form as it is sent."""

    source: str = ""  # the text that the form began with
    action: Literal["preview", "text"] = "preview"
    month: str = ""  # of the preview


_drafts = APIRouter(include_in_schema=False)


@_drafts.get(f"{_START}/new")
def form(
    console: RequestConsole,
    request: Request,
    actor: ProposesPrices,
    name: Annotated[str, Query(max_length=32)] = "",
    version: OtherVersion = 0,
) -> HTMLResponse:
    """Show the prices of a stored version, or of the one in force, to be changed."""
    stored = stored_version(console, name, version) if name else _in_force(console)
    if stored is None:
        return _form(console, request, actor, _first_form(console), _first_source(console))
    return _either(console, request, actor, stored.tariff, stored.source)


def make_drafts_router(begin: Begin) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    router.routes += _drafts.routes

    @router.post(f"{_START}/form")
    def filled(
        console: RequestConsole, request: Request, actor: ProposesPrices, filled: Annotated[Filled, Form()]
    ) -> Any:
        """Go on to the preview, or to the text; what is wrong is said beside its field."""
        with refusing(422):
            made = written(filled, kept_of(filled.source))
        if filled.action == "text":
            return _text_page(console, request, actor, made.text)
        if made.faults:
            return _form(console, request, actor, filled, filled.source, made.faults, 422)
        with refusing(422):
            tariff = parse_tariff(made.text)
            if fault := console.database.read(out_of_time, tariff, console.now()):
                return _form(console, request, actor, filled, filled.source, {"effective": fault}, 422)
            return started(console, actor, begin(console.api, actor, tariff, made.text, filled.month))

    @router.post(f"{_START}/new")
    def draft(
        console: RequestConsole,
        request: Request,
        actor: ProposesPrices,
        action: Annotated[Literal["check", "preview", "propose", "form"], Form()],
        source: Source = "",
        month: MonthText = "",
        file: Annotated[UploadFile | None, File()] = None,
        replaces: Annotated[int, Form(ge=0, lt=2**15)] = 0,
    ) -> Any:
        """Check a tariff's text and show all faults at once; or preview it, propose it, or show it as a form."""
        tariff = None
        try:
            text = _text(source, file)
            tariff = parse_tariff(text)
            if action == "propose":
                stored = tariffs.propose(console.database, text, actor, console.now(), replaces)
                path = f"{_START}/version/{stored.name}/{stored.version}"
                return console.see_other(actor, path, f"{stored.label} is proposed; another person has to approve it")
            if fault := console.database.read(out_of_time, tariff, console.now()):
                raise ConfigError(fault)
            if action == "preview":
                return started(console, actor, begin(console.api, actor, tariff, text, month))
        except ConfigError as error:
            faults = plain(error).splitlines()
            return _text_page(console, request, actor, source, faults=faults, tariff=tariff, status=422)
        if action == "form":
            return _either(console, request, actor, tariff, text)
        return _text_page(console, request, actor, text, tariff=tariff)

    return router


def started(console: Console, actor: Actor, work: LongWork) -> RedirectResponse:
    """Return the answer that leads to a work's page."""
    return console.see_other(actor, f"/console/works/{work.id}")


def stored_version(console: Console, name: str, version: int) -> StoredVersion:
    """Return a stored version; a page says so if there is none."""
    stored: StoredVersion = found(lambda: console.database.read(find_version, name, version))
    return stored


def _in_force(console: Console) -> StoredVersion | None:
    """Return the version in force of the tariff of accounts without one, else its newest; ``None``: there is none."""
    name = console.api.settings.billing.tariff
    with console.database.reads.begin() as connection:
        ours = [tariff for tariff in published(connection) if tariff.name == name]
        tariff = in_force(ours, quarter_of(console.now())) or (ours[-1] if ours else None)
        return None if tariff is None else find_version(connection, name, tariff.version)


def _first_form(console: Console) -> PricesForm:
    """Return the form of a town without a tariff: one price at all hours."""
    return PricesForm(
        effective=_month_after(console, quarter_of(console.now())),
        name=["all hours"],
        import_price=[""],
        credit=[""],
        week=["1" * HOURS * len(DAYS)],
    )


_DOLLARS = {"currency": "USD", "language": "en"}  # of bills whose tariff says nothing else


def _first_source(console: Console) -> str:
    tariff = {"name": console.api.settings.billing.tariff, "timezone": console.zone().key}
    bill = {"currency": console.api.zone.currency, "language": console.api.zone.language or "en"}
    kept = {"tariff": tariff, "policy": {"name": "spec"}} | ({} if bill == _DOLLARS else {"bill": bill})
    return written(PricesForm(), kept).text


def _month_after(console: Console, quarter: Quarter) -> str:
    return f"{month_after(month_of(quarter, console.zone()))}-01"


def _either(console: Console, request: Request, actor: Actor, tariff: Tariff, source: str) -> HTMLResponse:
    """Show a tariff as a form; as its text, with the reason, if the form can't show all of it."""
    if reasons := beyond(tariff.file):
        note = f"This tariff is shown as its text, since the form can't show it: {'; '.join(reasons)}."
        return _text_page(console, request, actor, source, note=note)
    form = form_of(tariff.file)
    newest = max((each.effective for each in console.database.read(published) if each.name == tariff.name), default=0)
    is_correction = form.corrects and not tariff.version  # a text; of a stored version the next one is made
    if not is_correction and tariff.effective <= max(newest, now := quarter_of(console.now())):
        form = form.model_copy(update={"effective": _month_after(console, max(newest, now)), "corrects": ""})
    return _form(console, request, actor, form, source_of(tariff.file))


def _form(
    console: Console,
    request: Request,
    actor: Actor,
    form: PricesForm,
    source: str,
    faults: Mapping[str, str] | None = None,
    status: int = 200,
) -> HTMLResponse:
    rows = list(zip(form.name, form.import_price, form.credit, strict=False))
    kept = kept_of(source)
    content = {
        "form": form,
        "source": source,
        "bill": kept.get("bill"),
        "faults": faults or {},
        "name": kept["tariff"].get("name", ""),
        "policy": POLICY_WORDS.get(kept["policy"].get("name"), ""),
        "rows": [*rows, ("", "", "")][:MOST_PERIODS] if all(map(any, rows)) else rows,
        "days": _DAY_WORDS,
        "month": console.api.last_month(),
    }
    return console.page(request, actor, "rates_form.html", content, status)


def _text_page(
    console: Console,
    request: Request,
    actor: Actor,
    source: str,
    faults: list[str] | None = None,
    tariff: Tariff | None = None,
    note: str = "",
    status: int = 200,
) -> HTMLResponse:
    content = {
        "source": source,
        "faults": [plain(ConfigError(fault)) for fault in faults or ()],
        "tariff": tariff,
        "begins": "" if tariff is None else local_text(tariff.effective, tariff.zone),
        "policy": "" if tariff is None else POLICY_WORDS[tariff.policy.name],
        "note": note,
        "waiting": None if tariff is None else console.database.read(same_day, tariff),
        "month": console.api.last_month(),
    }
    return console.page(request, actor, "rates_draft.html", content, status)


def _text(source: str, file: UploadFile | None) -> str:
    """Return the text of an uploaded file, or that of the form's field."""
    if file is None or not file.filename:
        return source.replace("\r\n", "\n")
    content = content_of(file, tariffs.MAX_TARIFF_BYTES)
    try:
        return content.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the file is no text in UTF-8: byte {error.start}") from error


def make_rates_router(begin: Begin) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
    router.routes += ACTIONS.forms.routes
    _add_lists(router)

    place = f"{_START}/version/{{name}}/{{version}}"

    @router.get(place)
    def shown(
        console: RequestConsole,
        request: Request,
        actor: ReadsTown,
        name: str,
        version: VersionNumber,
        other: OtherVersion = 0,
    ) -> HTMLResponse:
        """Show a version, and what differs in it from another one."""
        stored = stored_version(console, name, version)
        with console.database.reads.begin() as connection:
            others = [row.version for row in versions(connection) if row.name == name]
            firsts = {stored.proposed_by: "proposed it"}
            second = shown_second(connection, console.api.second(actor), firsts)
        base = other or max((each for each in others if each < version), default=0)
        before = stored_version(console, name, base).tariff if base else None
        content = {
            "stored": stored,
            "tariff": stored.tariff,
            "policy": POLICY_WORDS[stored.tariff.policy.name],
            "begins": local_text(stored.tariff.effective, stored.tariff.zone),
            "others": [each for each in others if each != version],
            "base": base,
            "differences": [] if before is None else tariffs.differences(before, stored.tariff),
            "month": console.api.last_month(),
        }
        return console.page(request, actor, "rates_version.html", content | second)

    @router.post(f"{place}/preview")
    def preview(
        console: RequestConsole, actor: PreviewsPrices, name: str, version: VersionNumber, month: MonthText = ""
    ) -> RedirectResponse:
        """Preview a stored version."""
        stored = stored_version(console, name, version)
        with refusing(422):
            return started(console, actor, begin(console.api, actor, stored.tariff, stored.source, month))

    return router


def _add_lists(router: APIRouter) -> None:
    @router.get(_START)
    def rates(console: RequestConsole, request: Request, actor: ReadsTown) -> HTMLResponse:
        """List all versions of all tariffs, proposals first, and how many controllers received them."""
        with console.database.reads.begin() as connection:
            rows = versions(connection)
            told = Counter((*row.content.values(), row.state or "") for row in told_of(connection, "rates"))
        rows.sort(key=lambda row: (row.state != "proposed", row.name, -row.version))
        counts = sorted((*each, count) for each, count in told.items())
        return console.page(request, actor, "rates.html", {"rows": rows, "told": counts})

    @router.get(f"{_START}/told")
    def told(
        console: RequestConsole,
        request: Request,
        actor: ReadsTown,
        tariff: Annotated[str, Query(max_length=32)] = "",
        skip: Skip = 0,
    ) -> HTMLResponse:
        """List what each controller was sent, and whether it has acknowledged it."""
        rows = console.database.read(told_of, f"rates {tariff}".rstrip(), ROWS + 1, skip)
        others = other_pages(f"{_START}/told", skip, is_more=len(rows) > ROWS, tariff=tariff)
        return console.page(request, actor, "rates_told.html", {"rows": rows[:ROWS]} | others)
