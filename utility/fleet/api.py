"""Rollouts of releases by the API. Rights are those of the pages."""

from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import BaseModel, Field

from utility.care.store import release_of
from utility.fleet import decisions as rollouts
from utility.fleet import store
from utility.fleet.fleet import Member
from utility.webkit.columns import Time
from utility.webkit.requests import Asked, refusing
from utility.webkit.rights import ApprovesRollouts, ReadsTown, RunsRollouts
from utility.webkit.services import Api, RequestApi


class NewRollout(Asked):
    """A release for all controllers."""

    release: str = Field(max_length=64, description="Its version.")
    first: Annotated[str, Field(max_length=16)] | None = Field(None, description="The first controller.")


class Approved(Asked):
    """The rollout that a second person saw and approves."""

    no: int = Field(ge=0, lt=2**31, description="Its number.")
    sha256: str = Field(max_length=200, description="The checksums of its packages.")


class MemberAnswer(BaseModel):
    """A controller of a rollout."""

    controller: str
    step: int
    verdict: Literal["", "under way", "done", "failed"] = Field(description="Empty: its turn has not come.")
    minutes: int | None = Field(description="From the command to the verdict.")
    why: str


class RolloutAnswer(BaseModel):
    """The newest rollout."""

    no: int
    release: str
    sha256: str
    state: str
    begun: Time
    begun_by: str
    approved_by: str | None
    why: str
    controllers: list[MemberAnswer]


router = APIRouter()


@router.get("/fleet/rollouts")
def newest(api: RequestApi, _: ReadsTown) -> dict[str, list[RolloutAnswer]]:
    """Return the newest rollout, with the verdict of each controller; none: there was none."""
    return {"rollouts": shown_rollout(api)}


@router.post("/fleet/rollouts", status_code=201)
def begin(api: RequestApi, actor: RunsRollouts, asked: NewRollout) -> dict[str, list[RolloutAnswer]]:
    """Begin a rollout: its first controller is upgraded, the others wait for a second person."""
    with refusing():
        release = release_of(api.settings.packages, asked.release)
        rollouts.begin(api.database, actor, *release, asked.first, int(api.clock.now()))
    return {"rollouts": shown_rollout(api)}


@router.post("/fleet/rollouts/approve")
def approve(api: RequestApi, actor: ApprovesRollouts, asked: Approved) -> dict[str, list[RolloutAnswer]]:
    """Approve the running rollout for all controllers, as a second person."""
    with refusing():
        rollouts.approve(api.database, api.second(actor), asked.no, asked.sha256)
    return {"rollouts": shown_rollout(api)}


@router.post("/fleet/rollouts/stop")
def stop(api: RequestApi, actor: RunsRollouts) -> dict[str, list[RolloutAnswer]]:
    """Stop the running rollout: controllers under way go on, no further one begins."""
    with refusing():
        rollouts.stop(api.database, actor, int(api.clock.now()))
    return {"rollouts": shown_rollout(api)}


def shown_rollout(api: Api) -> list[RolloutAnswer]:
    """Return the newest rollout; empty: there was none."""
    with api.database.reads.begin() as connection:
        found = store.newest(connection)
        members = [] if found is None else store.members_of(connection, found.no)
    return [] if found is None else [RolloutAnswer(**vars(found), controllers=[_member(each) for each in members])]


def _member(member: Member) -> MemberAnswer:
    minutes = None if member.ended is None or member.sent is None else (member.ended - member.sent) // 60
    verdict = member.verdict or ("under way" if member.is_under_way else "")
    return MemberAnswer(
        controller=member.controller, step=member.step, verdict=verdict, minutes=minutes, why=member.why
    )
