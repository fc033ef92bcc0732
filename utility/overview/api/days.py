"""Completeness by day, from the counts of finished days: a month of the whole town is a short sum."""

from datetime import date, timedelta
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from pydantic import BaseModel, Field

from utility.overview.store.days import counted_days
from utility.readings.store.completeness import Completeness
from utility.webkit.parameters import LOCAL_TIMES
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

MOST_DAYS = 366  # days of one request

_EPOCH = date(1970, 1, 1)


class SlotCounts(BaseModel):
    """Counts of slots, each under one reason."""

    expected: int = Field(description="The sum of all others.")
    exact: int
    averaged: int
    quarantined: int
    refused: int
    off: int
    absent: int
    missing: int


class CompletenessOfDays(BaseModel):
    """Completeness of finished days of UTC."""

    days: dict[date, SlotCounts] = Field(description="By day.")
    microgrids: dict[str, SlotCounts] = Field(description="By microgrid.")
    total: SlotCounts
    pending: int = Field(description="Microgrid-days that are to be counted, or counted again after late readings.")


router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


@router.get("/completeness/days")
def completeness_of_days(
    api: RequestApi,
    first: Annotated[date, Query(description="The first day, of UTC.")],
    last: Annotated[date, Query(description="The last day.")],
) -> CompletenessOfDays:
    """Count the slots of finished days, by day and by microgrid, as they were counted after each day's end.

    A microgrid's day counts again within an hour after a late reading. At most 366 days.
    """
    if not 0 <= (last - first).days < MOST_DAYS:
        raise HTTPException(422, f"last must not be before first, and at most {MOST_DAYS} days are counted at once")
    begin = (first - _EPOCH).days
    found = api.database.read(counted_days, begin, (last - _EPOCH).days + 1)
    return CompletenessOfDays(
        days={_EPOCH + timedelta(days=day): _counts(one) for day, one in found.by_day.items()},
        microgrids={name: _counts(one) for name, one in found.by_microgrid.items()},
        total=_counts(found.total),
        pending=found.pending,
    )


def _counts(one: Completeness) -> SlotCounts:
    return SlotCounts(expected=one.expected, **vars(one))
