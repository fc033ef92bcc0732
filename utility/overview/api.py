"""The API of the overview: completeness by day, jobs and what people do with them, and what waits for a person."""

from datetime import date, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import BaseModel, Field

from commonwatt.look.dead_letter_words import row_of, wanted
from commonwatt.model.exceptions import ConfigError
from utility.access.people import Right
from utility.control.commands import answered, words_of
from utility.jobs import store as listing
from utility.jobs.plans import Plan, catalogue, minute_of, plan_of
from utility.overview.store.days import counted_days
from utility.readings.columns import DeadLetterRow, Request
from utility.readings.store import reads
from utility.readings.store.compactor import conflicts as conflicting_slots
from utility.readings.store.completeness import Completeness
from utility.readings.store.dead_letters import dead_letters as kept_dead_letters
from utility.readings.store.gateways import unanswered
from utility.registry.columns import Differing
from utility.registry.store.registry import account_differences
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Shown, Written
from utility.webkit.requests import LOCAL_TIMES, Limit, LongLimit, MeterText, Moment, RequestBody, refusing
from utility.webkit.rights import READS_TOWN, ReadsTown
from utility.webkit.services import Api, RequestApi

MOST_DAYS = 366  # days of one request

_EPOCH = date(1970, 1, 1)


class CompletenessOfDays(BaseModel):
    """Completeness of finished days of UTC."""

    days: dict[date, Completeness] = Field(description="By day.")
    microgrids: dict[str, Completeness] = Field(description="By microgrid.")
    total: Completeness
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
        days={_EPOCH + timedelta(days=day): one for day, one in found.by_day.items()},
        microgrids=found.by_microgrid,
        total=found.total,
        pending=found.pending,
    )


JobName = Annotated[str, Path(pattern="^[A-Za-z_-]{1,32}$", description="Its name, or one of `also`.")]


class Jobs(BaseModel):
    """All jobs."""

    jobs: list[listing.JobAnswer]


class Periods(BaseModel):
    """Periods: first those that are not done, then the newest that are."""

    periods: list[listing.PeriodAnswer]


class Requests(BaseModel):
    """Requests, oldest first."""

    requests: list[Request]


class NewTimes(RequestBody):
    """A job's interval or time of day."""

    every_s: int | None = Field(None, description="Seconds between two runs.")
    at: str | None = Field(None, max_length=8, description="A local time of day, such as 02:30.")


ACTIONS = Actions()
JOB = "/console/jobs/{name}"
jobs_router = ACTIONS.json


@jobs_router.get("/jobs")
def jobs(api: RequestApi, _: ReadsTown) -> Jobs:
    """Return the jobs: state, last and next run, how long it took, last error."""
    return Jobs(jobs=listing.listed(api.database, catalogue(api.settings), int(api.clock.now())))


@jobs_router.get("/jobs/periods")
def periods(api: RequestApi, _: ReadsTown, limit: Limit = 100) -> Periods:
    """Return the newest periods of the jobs."""
    return Periods(periods=api.database.read(listing.newest_periods, limit, int(api.clock.now())))


@jobs_router.get("/requests")
def requests(api: RequestApi, _: ReadsTown, limit: Limit = 100) -> Requests:
    """Return requests to gateways that failed or have no answer yet, oldest first, with the time of their end."""
    return Requests(requests=api.database.read(unanswered, int(api.clock.now()), limit))


@ACTIONS.add("/jobs/{name}/run", Right.MANAGE_JOBS, back=JOB)
def run(act: Act, name: JobName) -> str:
    """Have the service run a job now, within 15 s; of days or months, the oldest one that is over and not done."""
    return listing.run_now(act.database, job_of(act.api, name), act.actor, act.now)


@ACTIONS.add("/jobs/{name}/pause", Right.MANAGE_JOBS, back=JOB)
def pause(act: Act, name: JobName) -> str:
    """Pause a job until it is resumed; a run that has begun goes on. After a day an alert reminds of it."""
    plan = job_of(act.api, name)
    listing.pause(act.database, plan, act.actor, act.now)
    return f"{plan.name} is paused."


@ACTIONS.add("/jobs/{name}/resume", Right.MANAGE_JOBS, back=JOB)
def resume(act: Act, name: JobName) -> str:
    """End a pause; a job of days or months makes up for what it missed, in order."""
    plan = job_of(act.api, name)
    listing.resume(act.database, plan, act.actor, act.now)
    return f"{plan.name} is resumed."


@ACTIONS.add("/jobs/{name}/reset", Right.MANAGE_JOBS, back=JOB, refused=422)
def reset(act: Act, name: JobName) -> str:
    """Have a job run as planned again, at the interval or the time of day of the settings file."""
    plan = job_of(act.api, name)
    listing.change(act.database, plan, act.actor, act.now)
    return f"{plan.name} runs as planned."


@ACTIONS.add("/jobs/{name}/change", Right.MANAGE_JOBS, back=JOB, refused=422)
def change(act: Act, name: JobName, new: NewTimes) -> str:
    """Set a job's interval or time of day; it holds from the next run on, and over restarts."""
    plan = job_of(act.api, name)
    if new.every_s is None and not new.at:
        raise ConfigError("give the interval or the time of day")
    minute = minute_of(new.at) if new.at else None
    listing.change(act.database, plan, act.actor, act.now, every_s=new.every_s, minute=minute)
    return f"{plan.name} is changed; that holds from the next run on."


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
