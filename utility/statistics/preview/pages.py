"""The preview of a tariff: who would pay less, who more, and by how much."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Form, HTTPException, Query, Request
from fastapi.responses import HTMLResponse

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import local_text, parse_month
from utility.access.actor import Actor
from utility.access.decisions import shown as shown_second
from utility.billing.decisions import previewed
from utility.billing.preview import Year, sentences
from utility.billing.preview import year as year_of
from utility.billing.steps import steps_of
from utility.statistics.preview.api import Preview
from utility.tariffs.pages.drafts import Filled
from utility.tariffs.prices_form import kept_of, written
from utility.tariffs.store.tariffs import find_version
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit.console.answers import ROWS, Skip, other_pages, plain
from utility.webkit.console.console import Console, RequestConsole
from utility.webkit.rights import PreviewsPrices, ProposesPrices

_PLACE = "/console/rates/preview"
_FEW = 8  # most steps of a histogram, as many as fit on a phone


router = APIRouter(include_in_schema=False)


@router.post("/console/rates/form/effect")
def effect(
    console: RequestConsole, request: Request, actor: ProposesPrices, filled: Annotated[Filled, Form()]
) -> HTMLResponse:
    """Show what the form's prices would have made of a month's bills, or what is wrong with them."""
    month, year, bill = filled.month or console.api.last_month(), Year(), None
    try:
        made = written(filled, kept := kept_of(filled.source))
        faults, bill = made.faults, kept.get("bill")
        if not faults:
            tariff, default = parse_tariff(made.text), console.api.settings.billing.tariff
            parse_month(month)
            year = year_of([(month, previewed(console.database, tariff, month, default))])
    except ConfigError as error:
        faults = {"": plain(error)}
    steps = steps_of([int(100 * change.difference) for change in year.changes], _FEW)
    content = {"faults": faults, "bill": bill, "month": month, "steps": steps}
    return console.fragment(request, actor, "rates_effect.html", content | {"sentences": sentences(year)})


@router.get(f"{_PLACE}/{{work_id}}")
def preview(
    console: RequestConsole,
    request: Request,
    actor: PreviewsPrices,
    work_id: str,
    order: Annotated[Literal["less", "more"], Query()] = "less",
    skip: Skip = 0,
) -> HTMLResponse:
    """Show who would pay less and who more."""
    work = console.api.works.find(work_id)
    if work is None or not isinstance(work.result, Preview):
        raise HTTPException(404, "this preview is not there any more; make it again from the tariff's page")
    made, path = work.result, f"{_PLACE}/{work_id}"
    changes = made.year.changes
    ranked = changes if order == "less" else changes[::-1]
    content = {
        "preview": made,
        "work": work,
        "sentences": sentences(made.year),
        "steps": steps_of([int(100 * change.difference) for change in changes], _FEW),
        "rows": ranked[skip : skip + ROWS],
        "order": order,
        **other_pages(path, skip, is_more=len(ranked) > skip + ROWS, order=order),
    }
    return console.page(request, actor, "rates_preview.html", content | _stored(console, actor, made.tariff))


def _stored(console: Console, actor: Actor, tariff: Tariff) -> dict[str, Any]:
    """Return of a stored tariff whether it waits for a second person, and whether the one who looks may be that."""
    if not tariff.version:
        return {"stored": None}
    with console.database.reads.begin() as connection:
        stored = find_version(connection, tariff.name, tariff.version)
        second = shown_second(connection, console.api.second(actor), {stored.proposed_by: "proposed it"})
    return {"stored": stored, "tariff": stored.tariff, "begins": local_text(tariff.effective, tariff.zone)} | second
