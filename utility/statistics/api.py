"""The API of usage by month, quarter, year and five years, and of projections; residents ask for their own account."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from commonwatt.model.units import QUARTER_S, AccountNumber
from utility.database.town_zone import zone_of
from utility.statistics.months import Month, Span, columns_of, month_number, month_text, span_around, span_text
from utility.statistics.scenarios import ScenarioYear
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_projection import Projectable, projection_view
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
from utility.webkit.columns import Shown, Time, Written
from utility.webkit.rights import ReadsOwnHome, ReadsTown
from utility.webkit.services import Api, RequestApi
from utility.webkit.shapes import refusing

ScopeText = Annotated[str, Query(pattern="^(account|microgrid|class|town)$", description="What rows are of.")]
NameText = Annotated[str, Query(max_length=32, description="One subject: 17, r001, residential; with its past.")]
MonthText = Annotated[str, Query(pattern=r"^(\d{4}-\d{2})?$", description="A month of the period; empty: the last.")]
After = Annotated[int, Query(ge=-1, lt=2**31, description="The last page's `next`.")]
Limit = Annotated[int, Query(ge=1, le=MOST_ROWS, description="How many at most.")]


class Usage(BaseModel):
    """The usage of a subject in a period. Energies are milliwatt-hours; null: no meter tells."""

    scope: str
    number: int = Field(description="The account's number, or the number of the microgrid or the class; 0: the town.")
    name: Annotated[str, Shown("Name")]
    period: Annotated[str, Shown("Period")]
    start: Time
    end: Time
    imported: Annotated[int, Shown("Imported", Written.ENERGY)]
    exported: Annotated[int, Shown("Exported", Written.ENERGY)]
    shared_in: int
    shared_out: int
    generated: int | None
    used: Annotated[int | None, Shown("Used", Written.ENERGY)]
    self_sufficiency: Annotated[float | None, Shown("Self-sufficiency")] = Field(
        description="The part of what was used that was not taken from the town."
    )
    use_known: float | None = Field(
        description="The part of `imported` that was taken by the microgrids, in the months, of which `used`, "
        "`generated` and `self_sufficiency` are; null: nothing was taken."
    )
    peak: Annotated[int, Shown("Highest quarter-hour", Written.ENERGY)] = Field(
        description="The highest quarter-hour taken from the town."
    )
    peak_start: Time
    quarters: int = Field(description="Quarter-hours of the meters; the next three count some of them.")
    settled: int
    missing: int
    estimated: int
    generation_known: float | None = Field(description="The part of the readings of generation that is there.")
    reduced_s: int
    islanded_s: int
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
    limit: Limit = MOST_ROWS,
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
    subject = {"scope": row.scope.name.lower(), "number": row.subject, "name": row.name}
    time = {"period": span_text(row.months, by), "start": start, "end": end}
    more = {"peak_start": row.totals.peak_at * QUARTER_S, "provisional": row.is_provisional}
    return Usage.model_validate(vars(row.totals) | subject | time | more)


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
