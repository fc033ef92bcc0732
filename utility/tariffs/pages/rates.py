"""Tariffs: their versions, two people, what was sent."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.model.time.local_calendar import local_text
from utility.access.decisions import shown as shown_second
from utility.tariffs import decisions as tariffs
from utility.tariffs.pages.drafts import Begin, MonthText, OtherVersion, VersionNumber, started, stored_version
from utility.tariffs.policy_settings import POLICY_WORDS
from utility.tariffs.store.rates import acknowledged, told_counts
from utility.tariffs.store.tariffs import versions
from utility.webkit.console.answers import ROWS, Skip, other_pages, refusing
from utility.webkit.console.console import RequestConsole
from utility.webkit.rights import PreviewsPrices, PublishesPrices, ReadsTown

_START = "/console/rates"


def make_rates_router(begin: Begin) -> APIRouter:
    """Return the routes."""
    router = APIRouter(include_in_schema=False)
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

    @router.post(f"{place}/approve")
    def approve(console: RequestConsole, actor: PublishesPrices, name: str, version: VersionNumber) -> RedirectResponse:
        """Publish a proposal, as the second person."""
        with refusing():
            published = tariffs.publish(console.database, name, version, console.api.second(actor))
        words = f"{published.label} is published; the controllers receive it when the service looks next"
        return console.see_other(actor, f"{_START}/version/{name}/{version}", words)

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
            told = told_counts(connection)
        rows.sort(key=lambda row: (row.state != "proposed", row.name, -row.version))
        return console.page(request, actor, "rates.html", {"rows": rows, "told": told})

    @router.get(f"{_START}/told")
    def told(
        console: RequestConsole,
        request: Request,
        actor: ReadsTown,
        tariff: Annotated[str, Query(max_length=32)] = "",
        skip: Skip = 0,
    ) -> HTMLResponse:
        """List what each controller was sent, and whether it has acknowledged it."""
        rows = console.database.read(acknowledged, tariff, ROWS + 1, skip)
        others = other_pages(f"{_START}/told", skip, is_more=len(rows) > ROWS, tariff=tariff)
        return console.page(request, actor, "rates_told.html", {"rows": rows[:ROWS]} | others)
