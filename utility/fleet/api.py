"""Rollouts of releases by the API. Rights are those of the pages."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from utility.access.people import Right
from utility.care.store import release_of
from utility.fleet import decisions as rollouts
from utility.fleet import store
from utility.fleet.fleet import RolloutMember
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import RequestBody
from utility.webkit.rights import ReadsTown
from utility.webkit.services import Api, RequestApi


class NewRollout(RequestBody):
    """A release for all controllers."""

    release: str = Field(max_length=64, description="Its version.")
    first: Annotated[str, Field(max_length=16)] | None = Field(None, description="The first controller.")


class Approved(RequestBody):
    """The rollout that a second person saw and approves."""

    no: int = Field(ge=0, lt=2**31, description="Its number.")
    sha256: str | None = Field(None, max_length=200, description="The checksums of its packages, to be sure.")


class MemberAnswer(BaseModel):
    """A controller of a rollout."""

    controller: str
    step: int
    verdict: Literal["", "under way", "done", "failed"] = Field(description="Empty: its turn has not come.")
    minutes: int | None = Field(description="From the command to the verdict.")
    why: str


@dataclass(frozen=True, kw_only=True)
class RolloutAnswer(store.Rollout):
    """The newest rollout, with its controllers."""

    controllers: list[MemberAnswer]


_FLEET = "/console/fleet"
ACTIONS = Actions()
router = ACTIONS.json


@router.get("/fleet/rollouts")
def newest(api: RequestApi, _: ReadsTown) -> dict[str, list[RolloutAnswer]]:
    """Return the newest rollout, with the verdict of each controller; none: there was none."""
    return {"rollouts": shown_rollout(api)}


@ACTIONS.add(
    "/fleet/rollouts",
    Right.RUN_ROLLOUTS,
    back=_FLEET,
    said="the rollout of {asked.release} began; a second person approves the others",
    status=201,
)
def begin(act: Act, asked: NewRollout) -> dict[str, list[RolloutAnswer]]:
    """Begin a rollout: its first controller is upgraded, the others wait for a second person."""
    release = release_of(act.api.settings.packages, asked.release)
    rollouts.begin(act.database, act.actor, *release, asked.first, act.now)
    return {"rollouts": shown_rollout(act.api)}


@ACTIONS.add(
    "/fleet/rollouts/approve", Right.APPROVE_ROLLOUTS, back=_FLEET, said="the rollout is approved for all controllers"
)
def approve(act: Act, asked: Approved) -> dict[str, list[RolloutAnswer]]:
    """Approve the running rollout for all controllers, as a second person."""
    rollouts.approve(act.database, act.second, asked.no, asked.sha256)
    return {"rollouts": shown_rollout(act.api)}


@ACTIONS.add(
    "/fleet/rollouts/stop",
    Right.RUN_ROLLOUTS,
    back=_FLEET,
    said="the rollout is stopped; controllers under way go on to their verdict",
)
def stop(act: Act) -> dict[str, list[RolloutAnswer]]:
    """Stop the running rollout: controllers under way go on, no further one begins."""
    rollouts.stop(act.database, act.actor, act.now)
    return {"rollouts": shown_rollout(act.api)}


def shown_rollout(api: Api) -> list[RolloutAnswer]:
    """Return the newest rollout; empty: there was none."""
    with api.database.reads.begin() as connection:
        found = store.newest(connection)
        members = [] if found is None else store.members_of(connection, found.no)
    return [] if found is None else [RolloutAnswer(**vars(found), controllers=[_member(each) for each in members])]


def _member(member: RolloutMember) -> MemberAnswer:
    minutes = None if member.ended is None or member.sent is None else (member.ended - member.sent) // 60
    verdict = member.verdict or ("under way" if member.is_under_way else "")
    return MemberAnswer(
        controller=member.controller, step=member.step, verdict=verdict, minutes=minutes, why=member.why
    )
