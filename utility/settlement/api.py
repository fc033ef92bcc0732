"""Settlement by the API: how far it is, versions of settled days, and the record of sharing."""

from datetime import date, timedelta

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from commonwatt.model.units import MAX_EPOCH, QUARTER_S, parse_id
from utility.readings.api import MAX_COMPLETENESS_S, check_microgrid, check_range
from utility.settlement.jobs import FINISHED_S
from utility.settlement.store.readings import due_days
from utility.settlement.store.settled import RESIDUAL_DAYS, Residual, counts, residuals, versions_of
from utility.settlement.store.sharing import recorded
from utility.webkit.columns import Time
from utility.webkit.requests import LOCAL_TIMES, Limit, MeterText, MicrogridName, Moment
from utility.webkit.rights import READS_TOWN
from utility.webkit.services import RequestApi

_EPOCH = date(1970, 1, 1)


class SettlementAnswer(BaseModel):
    """How far settlement is."""

    last: date | None = Field(description="The last settled day.")
    days: int = Field(description="Settled days of microgrids.")
    provisional: int = Field(description="Days of microgrids that may still change.")
    versions: int = Field(description="Versions of meters' days.")
    due: int = Field(description="Days of microgrids that are due now.")
    residuals: list[Residual] = Field(description="The worst first.")


class SettledVersion(BaseModel):
    """A version of a meter's settled day."""

    day: date
    version: int
    computed: Time
    why: str
    bytes: int


router = APIRouter(dependencies=[READS_TOWN, LOCAL_TIMES])


@router.get("/settlement")
def settlement(api: RequestApi, limit: Limit = 1000) -> SettlementAnswer:
    """Return how far settlement is, and the residuals of microgrids over the last 31 days."""
    now = int(api.clock.now())
    with api.database.reads.begin() as connection:
        found = counts(connection)
        due = sum(due_days(connection, (now - FINISHED_S) // 86_400).values())
        worst = residuals(connection, now // 86_400 - RESIDUAL_DAYS, now // 86_400)[:limit]
    return SettlementAnswer(
        last=(_EPOCH + timedelta(days=found["last"])) if found["days"] else None,
        days=found["days"],
        provisional=found["provisional"],
        versions=found["versions"],
        due=due,
        residuals=worst,
    )


@router.get("/settlement/versions")
def versions(
    api: RequestApi, meter: MeterText, start: Moment = 0, end: Moment = MAX_EPOCH
) -> dict[str, list[SettledVersion]]:
    """Return the versions of a meter's settled days (UTC) that begin in ``[start, end)``, and why each was made."""
    if (found := parse_id(meter)) is None:
        raise HTTPException(422, f"{meter}: no meter's id")
    rows = api.database.read(versions_of, found, -(-start // 86_400), (end - 1) // 86_400)
    return {"versions": [SettledVersion(**row) for row in rows]}


@router.get("/sharing")
def sharing(
    api: RequestApi, start: Moment, end: Moment, microgrid: MicrogridName | None = None, limit: Limit = 1000
) -> dict[str, object]:
    """Return who gave and received by sharing in the quarter-hours that begin in ``[start, end)``, newest first.

    By microgrid, milliwatt-hours, from stored readings. Quarter-hours without sharing are not listed. Late readings
    make a new ``version``; ``complete``: every reading that is needed was there.
    """
    check_range(start, end, MAX_COMPLETENESS_S)
    if microgrid is not None:
        check_microgrid(api.database, microgrid)
    first, last = -(-start // QUARTER_S), (end - 1) // QUARTER_S
    return {"sharing": api.database.read(recorded, first, last, microgrid, limit)}
