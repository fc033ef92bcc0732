"""The API of jobs: the list, what people do with a job, and requests without an answer."""

from typing import Annotated, Literal

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from utility.jobs.catalogue import catalogue, plan_of
from utility.jobs.plans import Plan, minute_of
from utility.jobs.store import listing
from utility.jobs.store.job_leases import newest_periods
from utility.readings.columns import Request
from utility.readings.store.requests import unanswered
from utility.webkit.columns import Time
from utility.webkit.parameters import Limit
from utility.webkit.rights import ManagesJobs, ReadsTown
from utility.webkit.services import Api, RequestApi
from utility.webkit.shapes import Asked, refusing

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
