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
from utility.statistics.decisions import Outlook, outlook
from utility.tariffs.api import Text
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit import works
from utility.webkit.api import Work, work_answer
from utility.webkit.columns import Time
from utility.webkit.parameters import Limit
from utility.webkit.rights import ClerksOrApprovers
from utility.webkit.services import Api, RequestApi
from utility.webkit.works import Progress

Skip = Annotated[int, Query(ge=0, le=10**7, description="How many come before.")]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What a tariff would have made of a month."""

    tariff: Tariff  # the tariff
    source: str  # its text
    month: str  # the local month
    made: EpochSeconds  # when it was computed
    changes: list[preview.Change]  # each account's change, the largest fall first
    outlook: Outlook | None  # what the next month would bring by it; ``None``: no month's usage is known


class PreviewOf(Text):
    """A tariff's text, and the local month to preview it on."""

    month: str = Field("", max_length=10, description="Such as 2026-10; empty: the last one.")


class Changes(BaseModel):
    """A page of a preview, the largest fall first."""

    month: str
    made: Time
    accounts: int
    changes: list[preview.Change]


def begin_preview(api: Api, actor: Actor, tariff: Tariff, source: str, month: str) -> works.Work:
    """Begin to compute what a tariff would have made of a month (empty: the last one) for every account.

    Raises:
        ConfigError: It is no month, or too many works wait.
    """
    wanted, now = month or api.last_month(), int(api.clock.now())
    parse_month(wanted)

    def job(progress: Progress) -> tuple[str, Preview]:
        changes = previewed(api.database, tariff, wanted, api.settings.billing.tariff, progress)
        changes.sort(key=lambda change: (change.difference, change.account))
        ahead = outlook(api.database, tariff, api.settings.billing.tariff, now)
        made = Preview(tariff=tariff, source=source, month=wanted, made=now, changes=changes, outlook=ahead)
        return "/console/rates/preview/{id}", made

    return api.works.start(f"Preview of {tariff.name} for {wanted}", actor.name, now, job)


router = APIRouter()


@router.post("/tariffs/preview", status_code=202)
def begin(api: RequestApi, actor: ClerksOrApprovers, asked: PreviewOf) -> Work:
    """Begin to compute a month's bills of every account by a tariff; nothing is stored."""
    try:
        tariff = parse_tariff(asked.source)
        return work_answer(begin_preview(api, actor, tariff, asked.source, asked.month))
    except ConfigError as error:
        raise HTTPException(422, str(error).splitlines()) from error


@router.get("/tariffs/preview/{work_id}")
def shown(api: RequestApi, _: ClerksOrApprovers, work_id: str, skip: Skip = 0, limit: Limit = 100) -> Changes:
    """Return what accounts would pay, the largest fall first."""
    work = api.works.find(work_id)
    if work is None or not isinstance(work.result, Preview):
        raise HTTPException(404, "there is no such preview, or not any more")
    made = work.result
    rows = made.changes[skip : skip + limit]
    return Changes(month=made.month, made=made.made, accounts=len(made.changes), changes=rows)
