"""The API of usage by month and more, of projections, and of what a tariff would have made of a year's bills."""

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from commonwatt.model.calendar import parse_month
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S, AccountNumber, EpochSeconds
from utility.access.people import Actor
from utility.billing import preview
from utility.billing.decisions import previewed
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.statistics.months import Month, Span, columns_of, month_number, month_text, span_around, span_text
from utility.statistics.projection import YEAR, ScenarioYear
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_projection import Projectable, months_with_usage, projection_view
from utility.statistics.store.usage_view import (
    MOST_ROWS,
    UsageRow,
    last_month,
    names_of,
    scope_of,
    subject_of,
    usage_history,
    usage_page,
)
from utility.statistics.usage import Totals
from utility.tariffs.api import Text
from utility.tariffs.store import published
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit import works
from utility.webkit.api import WorkAnswer, work_answer
from utility.webkit.columns import Shown, Time
from utility.webkit.requests import Limit, refusing
from utility.webkit.rights import PreviewsPrices, ReadsOwnHome, ReadsTown
from utility.webkit.services import Api, RequestApi
from utility.webkit.works import Progress

ScopeText = Annotated[str, Query(pattern="^(account|microgrid|class|town)$", description="What rows are of.")]
NameText = Annotated[str, Query(max_length=32, description="One subject: 17, r001, residential; with its past.")]
MonthText = Annotated[str, Query(pattern=r"^(\d{4}-\d{2})?$", description="A month of the period; empty: the last.")]
After = Annotated[int, Query(ge=-1, lt=2**31, description="The last page's `next`.")]
MonthsLimit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many at most.")]


@dataclass(frozen=True, kw_only=True)
class _Subject:
    scope: str
    number: Annotated[
        int, Field(description="The account's number, or the number of the microgrid or the class; 0: the town.")
    ]
    name: Annotated[str, Shown("Name")]
    period: Annotated[str, Shown("Period")]
    start: Time
    end: Time


@dataclass(frozen=True, kw_only=True)
class Usage(Totals, _Subject):
    """The usage of a subject in a period. Energies are milliwatt-hours; null: no meter tells."""

    peak_start: Time
    provisional: bool


class Usages(BaseModel):
    """A page of usage."""

    usage: list[Usage]
    next: int | None = Field(description="Give it as `after` for the next page; null: this is the last one.")


class Figure(BaseModel):
    """A projected figure; milliwatt-hours, or cents. Without a band there was too little past."""

    number: int
    name: str
    quantity: str
    unit: str
    low: int | None
    middle: int
    high: int | None


class Tested(BaseModel):
    """How the band of 80 % did on the town's own past."""

    quantity: str
    months: int = Field(description="How many months were projected from earlier ones alone.")
    held: float = Field(description="The part of them that the band held.")


class Projection(BaseModel):
    """The projection of the next month; without figures nothing is projected yet."""

    month: str | None
    made: Time | None
    tariffs: str | None = Field(description="The tariffs by which revenue is projected.")
    figures: list[Figure]
    tested: list[Tested]
    scenarios: list[ScenarioYear]


router = APIRouter()


@router.get("/statistics")
def statistics(
    api: RequestApi,
    _: ReadsTown,
    scope: ScopeText = "town",
    by: Span = Span.MONTH,
    month: MonthText = "",
    name: NameText = "",
    after: After = -1,
    limit: MonthsLimit = MOST_ROWS,
) -> Usages:
    """Return usage: of all subjects in the period around a month, or the past of one, the newest period first."""
    with refusing(404):
        return _usages(api, scope_of(scope), by, month, name, after, limit)


@router.get("/statistics/own")
def own(api: RequestApi, actor: ReadsOwnHome, by: Span = Span.MONTH, month: MonthText = "") -> Usages:
    """Return the past of the own account, the newest period first."""
    with refusing(404):
        return _usages(api, Scope.ACCOUNT, by, month, _own(actor.account), -1, MOST_ROWS)


@router.get("/projection")
def projection(api: RequestApi, _: ReadsTown, scope: ScopeText = "town", name: NameText = "") -> Projection:
    """Return the projection of the next month, of all subjects or one, and the town's five years as scenarios."""
    with refusing(404):
        return _projection(api, scope_of(scope), name)


@router.get("/projection/own")
def own_projection(api: RequestApi, actor: ReadsOwnHome) -> Projection:
    """Return the projection of the own account's next month."""
    with refusing(404):
        return _projection(api, Scope.ACCOUNT, _own(actor.account))


def _own(account: AccountNumber | None) -> str:
    return str(account or 0)


def _usages(api: Api, scope: Scope, by: Span, month: str, name: str, after: int, limit: int) -> Usages:
    with api.database.reads.begin() as connection:
        last = month_number(month) if month else last_month(connection)
        if last is None:
            return Usages(usage=[], next=None)
        zone = zone_of(connection)
        if name:
            rows = usage_history(connection, scope, subject_of(connection, scope, name), last, by, limit)
        else:
            rows = usage_page(connection, scope, span_around(last, by), after=after, limit=limit)

    def edge(at: Month) -> int:
        return columns_of(at, zone).first * QUARTER_S

    found = [_usage(row, by, edge(row.months.start), edge(row.months.stop)) for row in rows]
    is_more = not name and len(rows) == limit
    return Usages(usage=found, next=rows[-1].subject if is_more else None)


def _usage(row: UsageRow, by: Span, start: int, end: int) -> Usage:
    return Usage(
        scope=row.scope.name.lower(),
        number=row.subject,
        name=row.name,
        period=span_text(row.months, by),
        start=start,
        end=end,
        peak_start=row.totals.peak_at * QUARTER_S,
        provisional=row.is_provisional,
        **vars(row.totals),
    )


def _projection(api: Api, scope: Scope, name: str) -> Projection:
    with api.database.reads.begin() as connection:
        subjects = [subject_of(connection, scope, name)] if name else None
        view: dict[str, Any] = projection_view(connection, scope, subjects)
        names = names_of(connection, scope)
    if not view:
        return Projection(month=None, made=None, tariffs=None, figures=[], tested=[], scenarios=[])
    return Projection(
        month=month_text(view["month"]),
        made=view["made"],
        tariffs=view["tariffs"],
        figures=[_figure(row, names) for row in view["rows"]],
        tested=[Tested(quantity=key, months=count, held=held) for key, (count, held) in view["tested"].items()],
        scenarios=[ScenarioYear(**each) for each in view["scenarios"]] if scope is Scope.TOWN else [],
    )


def _figure(row: dict[str, Any], names: dict[int, str]) -> Figure:
    quantity = Projectable(row["quantity"])
    return Figure(
        number=row["subject"],
        name=names.get(row["subject"], str(row["subject"])),
        quantity=quantity.name.lower(),
        unit="cents" if quantity.is_money else "milliwatt-hours",
        **{key: row[key] for key in ("low", "middle", "high")},
    )


Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]


@dataclass(frozen=True, kw_only=True)
class TariffPreview:
    """What a tariff would have made of a year."""

    tariff: Tariff  # the tariff
    source: str  # its text
    month: str  # the last local month
    made: EpochSeconds  # when it was computed
    year: preview.Year  # the months that end with it, and each account's change


class PreviewOf(Text):
    """A tariff's text, and the local month with which the year ends to preview it on."""

    month: str = Field("", max_length=10, description="The last of up to twelve, such as 2026-10; empty: the last one.")


class Changes(BaseModel):
    """A page of a preview, the largest fall first."""

    month: str
    made: Time
    accounts: int
    changes: list[preview.BillChange]


def previewed_year(
    database: Database, tariff: Tariff, last: str, default: str, progress: Progress | None = None
) -> preview.Year:
    """Return what a tariff would have made of the bills of the year that ends with a month, as ``previewed`` does."""
    months = [month_text(each) for each in database.read(_months_to, month_number(last), default)]
    return preview.year((each, previewed(database, tariff, each, default, progress)) for each in months)


def _months_to(connection: Connection, last: Month, default: str) -> list[Month]:
    """Return the months with usage and a tariff of the year that ends with a month; without any, that month."""
    zone = zone_of(connection)
    begun = min((each.effective for each in published(connection) if each.name == default), default=0)
    known = [month for month in months_with_usage(connection, last + 1) if month > last - YEAR]
    return [month for month in known if columns_of(month, zone).first >= begun] or [last]


def begin_preview(api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> works.LongWork:
    """Begin to compute what a tariff would have made of the year that ends with a month (empty: the last one).

    Raises:
        ConfigError: It is no month, or the person or too many people have a preview in work.
    """
    wanted, now = month or api.last_month(), int(api.clock.now())
    parse_month(wanted)

    def job(progress: Progress) -> tuple[str, TariffPreview]:
        year = previewed_year(api.database, tariff, wanted, api.settings.billing.tariff, progress)
        return "/console/rates/preview/{id}", TariffPreview(
            tariff=tariff, source=source, month=wanted, made=now, year=year
        )

    return api.works.start(works.WorkKind.PREVIEW, f"Preview of {tariff.name} for {wanted}", actor.name, now, job)


@router.post("/tariffs/preview", status_code=202)
def begin(api: RequestApi, actor: PreviewsPrices, asked: PreviewOf) -> WorkAnswer:
    """Begin to compute a year's bills of every account by a tariff; nothing is stored."""
    try:
        tariff = parse_tariff(asked.source)
        return work_answer(begin_preview(api, actor, tariff, asked.source, asked.month))
    except ConfigError as error:
        raise HTTPException(422, str(error).splitlines()) from error


@router.get("/tariffs/preview/{work_id}")
def shown(api: RequestApi, _: PreviewsPrices, work_id: str, skip: Skip = 0, limit: Limit = 100) -> Changes:
    """Return what accounts would pay, the largest fall first."""
    work = api.works.find(work_id)
    if work is None or not isinstance(work.result, TariffPreview):
        raise HTTPException(404, "there is no such preview, or not any more")
    made = work.result
    rows = list(made.year.changes[skip : skip + limit])
    return Changes(month=made.month, made=made.made, accounts=len(made.year.changes), changes=rows)
