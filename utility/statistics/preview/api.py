"""The API of previews of tariffs: a long work, and each account's change."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.local_calendar import parse_month
from commonwatt.model.units import EpochSeconds
from utility.access.actor import Actor
from utility.billing import preview
from utility.billing.decisions import previewed
from utility.database.base import Connection
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.statistics.months import Month, columns_of, month_number, month_text
from utility.statistics.projection import YEAR
from utility.statistics.store.usage_projection import months_with_usage
from utility.tariffs.api import Text
from utility.tariffs.store.tariffs import published
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit import works
from utility.webkit.api import WorkAnswer, work_answer
from utility.webkit.columns import Time
from utility.webkit.parameters import Limit
from utility.webkit.rights import PreviewsPrices
from utility.webkit.services import Api, RequestApi
from utility.webkit.works import Progress

Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]


@dataclass(frozen=True, kw_only=True)
class Preview:
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
    changes: list[preview.Change]


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


def begin_preview(api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> works.Work:
    """Begin to compute what a tariff would have made of the year that ends with a month (empty: the last one).

    Raises:
        ConfigError: It is no month, or the person or too many people have a preview in work.
    """
    wanted, now = month or api.last_month(), int(api.clock.now())
    parse_month(wanted)

    def job(progress: Progress) -> tuple[str, Preview]:
        year = previewed_year(api.database, tariff, wanted, api.settings.billing.tariff, progress)
        return "/console/rates/preview/{id}", Preview(tariff=tariff, source=source, month=wanted, made=now, year=year)

    return api.works.start(works.Kind.PREVIEW, f"Preview of {tariff.name} for {wanted}", actor.name, now, job)


router = APIRouter()


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
    if work is None or not isinstance(work.result, Preview):
        raise HTTPException(404, "there is no such preview, or not any more")
    made = work.result
    rows = list(made.year.changes[skip : skip + limit])
    return Changes(month=made.month, made=made.made, accounts=len(made.year.changes), changes=rows)
