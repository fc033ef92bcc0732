"""The API of the overview: completeness by day, jobs and what people do with them, and what waits for a person."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field

from commonwatt.protocol.dead_letter_words import row_of, wanted
from utility.control.commands import answered, words_of
from utility.jobs import store as listing
from utility.jobs.plans import Plan, catalogue, minute_of, plan_of
from utility.jobs.store import newest_periods
from utility.overview.store.days import counted_days
from utility.readings.columns import DeadLetterRow, Request
from utility.readings.store import reads
from utility.readings.store.compactor import conflicts as conflicting_slots
from utility.readings.store.completeness import Completeness
from utility.readings.store.dead_letters import dead_letters as kept_dead_letters
from utility.readings.store.gateways import unanswered
from utility.registry.columns import Differing
from utility.registry.store.registry import account_differences
from utility.webkit.columns import Shown, Time, Written
from utility.webkit.requests import LOCAL_TIMES, Asked, Limit, LongLimit, MeterText, Moment, refusing
from utility.webkit.rights import READS_TOWN, ManagesJobs, ReadsTown
from utility.webkit.services import Api, RequestApi

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


JobName = Annotated[str, Path(pattern="^[A-Za-z_-]{1,32}$", description="Its name, or one of `also`.")]


class Jobs(BaseModel):
    """All jobs."""

    jobs: list[listing.JobAnswer]


class PeriodAnswer(BaseModel):
    """A period of a job. `why`: why its last attempt failed, or what it waits for."""

    job: str
    period: str
    start: Time
    until: Time
    due: Time
    state: Literal["done", "running", "waiting", "failed", "due", "to come"]
    attempts: int
    done: Time | None
    took_ms: int | None
    why: str | None


class Periods(BaseModel):
    """Periods: first those that are not done, then the newest that are."""

    periods: list[PeriodAnswer]


class Requests(BaseModel):
    """Requests, oldest first."""

    requests: list[Request]


class Words(BaseModel):
    """What happened."""

    words: list[str]


class NewTimes(Asked):
    """A job's interval or time of day; without both it is as planned again."""

    every_s: int | None = Field(None, description="Seconds between two runs.")
    at: str | None = Field(None, max_length=5, description="A local time of day, such as 02:30.")


jobs_router = APIRouter()


@jobs_router.get("/jobs")
def jobs(api: RequestApi, _: ReadsTown) -> Jobs:
    """Return the jobs: state, last and next run, how long it took, last error."""
    return Jobs(jobs=listing.listed(api.database, catalogue(api.settings), int(api.clock.now())))


@jobs_router.get("/jobs/periods")
def periods(api: RequestApi, _: ReadsTown, limit: Limit = 100) -> Periods:
    """Return the newest periods of the jobs."""
    rows = api.database.read(newest_periods, limit, int(api.clock.now()))
    return Periods(periods=[PeriodAnswer.model_validate(row) for row in rows])


@jobs_router.get("/requests")
def requests(api: RequestApi, _: ReadsTown, limit: Limit = 100) -> Requests:
    """Return requests to gateways that failed or have no answer yet, oldest first, with the time of their end."""
    return Requests(requests=api.database.read(unanswered, int(api.clock.now()), limit))


@jobs_router.post("/jobs/{name}/run")
def run(api: RequestApi, actor: ManagesJobs, name: JobName) -> Words:
    """Have the service run a job now, within 15 s."""
    with refusing():
        return Words(words=[listing.run_now(api.database, job_of(api, name), actor, int(api.clock.now()))])


@jobs_router.post("/jobs/{name}/pause")
def pause(api: RequestApi, actor: ManagesJobs, name: JobName) -> Words:
    """Pause a job until it is resumed."""
    with refusing():
        listing.pause(api.database, job_of(api, name), actor, int(api.clock.now()))
    return Words(words=["paused"])


@jobs_router.post("/jobs/{name}/resume")
def resume(api: RequestApi, actor: ManagesJobs, name: JobName) -> Words:
    """End a pause; a job of days or months makes up for what it missed."""
    with refusing():
        listing.resume(api.database, job_of(api, name), actor, int(api.clock.now()))
    return Words(words=["resumed"])


@jobs_router.post("/jobs/{name}/change")
def change(api: RequestApi, actor: ManagesJobs, name: JobName, new: NewTimes) -> Words:
    """Set a job's interval or time of day; an empty body puts it back to its plan."""
    with refusing(422):
        minute = None if new.at is None else minute_of(new.at)
        plan, now = job_of(api, name), int(api.clock.now())
        listing.change(api.database, plan, actor, now, every_s=new.every_s, minute=minute)
    return Words(words=["changed"])


def job_of(api: Api, name: str) -> Plan:
    """Return the plan of a job by its name.

    Raises:
        HTTPException: There is no such job.
    """
    with refusing(404):
        return plan_of(api.settings, name)


class GatewayCommand(BaseModel):
    """A command to a gateway. ``what`` and ``result``: message and outcome for people."""

    id: Annotated[str, Shown("Id")]
    controller: Annotated[str, Shown("Controller")]
    created: Annotated[int, Shown("Given", Written.MOMENT)]
    until: int
    what: Annotated[str, Shown("What")]
    message: dict[str, Any]
    state: Annotated[str, Shown("State")]
    result: Annotated[str, Shown("Result")]
    outcome: dict[str, Any] | None


@router.get("/dead-letters")
def dead_letters(
    api: RequestApi,
    meter: MeterText | None = None,
    reason: Annotated[str | None, Query(max_length=40, description="A reason, by name or number.")] = None,
    since: Moment = 0,
    state: Annotated[
        Literal["quarantined", "released", "refused"] | None, Query(description="What was decided.")
    ] = None,
    limit: Limit = 100,
) -> dict[str, list[DeadLetterRow]]:
    """Return the newest dead letters: rejected records and messages, whole or truncated, with the reason.

    Dead letters in state `quarantined` have readings that are in no block until a person decides: implausible ones,
    and readings from a controller that is not assigned to the meter (`not assigned`); or until the utility's clock
    is confirmed (`ahead`).
    """
    with refusing(422):
        asked = wanted(meter, reason, str(since), 0, state or "")
    found = api.database.read(kept_dead_letters, limit, asked)
    return {"dead_letters": [DeadLetterRow(**row_of(kept)) for kept in found]}


@router.get("/conflicts")
def conflicts(api: RequestApi, limit: Limit = 100) -> dict[str, object]:
    """Return slots with conflicting values, each value with the controllers that sent it.

    The smallest value is used. A slot is listed once its quarter-hour is compacted: up to `compact_s` (900 s)
    and a minute after the quarter-hour's end. Conflicting events are in `/dead-letters`, without
    delay.
    """
    return {"conflicts": conflicting_slots(api.database, limit)}


@router.get("/account-differences")
def differences(api: RequestApi, limit: LongLimit = 100) -> dict[str, list[Differing]]:
    """Return the accounts that meters report and that the registry does not have, newest first."""
    return {"account_differences": api.database.read(account_differences, limit)}


@router.get("/gaps")
def gaps(api: RequestApi, limit: Limit = 100) -> dict[str, object]:
    """Return the oldest blocks with missing slots that are being requested."""
    return {"gaps": api.database.read(reads.gaps, limit)}


@router.get("/commands")
def commands(api: RequestApi, limit: Limit = 100) -> dict[str, list[GatewayCommand]]:
    """Return the newest commands to gateways with their outcomes."""
    return {
        "commands": [
            GatewayCommand(**row, what=words_of(row["message"]), result=answered(row["outcome"]))
            for row in api.database.read(reads.commands, limit)
        ]
    }
