"""Releases for researchers by the API, and decisions on them. Rights are those of the pages."""

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from commonwatt.model.calendar import parse_time
from commonwatt.model.units import QUARTER_S
from utility.research import decisions as releases
from utility.research import store
from utility.webkit.columns import Time
from utility.webkit.requests import Asked, Limit, Why, refusing
from utility.webkit.rights import ApprovesReleases, PreparesReleases, ReadsReleases
from utility.webkit.services import RequestApi


class Approval(Asked):
    """Why a release above the limit is approved."""

    why: Why


class NewAgreement(Asked):
    """An agreement with researchers."""

    name: str = Field(max_length=releases.MAX_NAME)
    until: str = Field(max_length=40, description="When it ends.")


class Done(BaseModel):
    """A decision that was taken."""

    person: str = Field(description="Who decided.")


class ReleaseAnswer(BaseModel):
    """A release."""

    id: str
    tier: str
    since: Time
    until: Time
    state: str
    asked_by: str
    decided_by: str | None
    why: str | None
    attacks: list[str] = Field(description="How often each attack succeeds.")


router = APIRouter()


@router.get("/releases")
def releases_(api: RequestApi, _: ReadsReleases, limit: Limit = 100) -> dict[str, list[ReleaseAnswer]]:
    """Return the newest releases, with their state and how often each attack succeeds."""
    return {"releases": [_release(one) for one in api.database.read(store.releases, limit)]}


@router.get("/agreements")
def agreements(api: RequestApi, _: ReadsReleases) -> dict[str, list[store.Agreement]]:
    """Return the agreements with researchers, by their ends."""
    return {"agreements": api.database.read(store.agreements)}


@router.post("/releases/{release}/approve")
def approve(
    api: RequestApi, actor: ApprovesReleases, release: Annotated[str, Path(max_length=64)], asked: Approval
) -> Done:
    """Approve a release above the limit, as a second person."""
    with refusing():
        releases.approve(api.database, release, asked.why, api.second(actor))
    return Done(person=actor.name)


@router.post("/agreements", status_code=201)
def add(api: RequestApi, actor: PreparesReleases, asked: NewAgreement) -> Done:
    """Add an agreement with researchers; it can't be changed."""
    with refusing(422):
        until = parse_time(asked.until, "until", api.zone.read())
        releases.add_agreement(api.database, asked.name, until, actor, int(api.clock.now()))
    return Done(person=actor.name)


def _release(kept: store.Kept) -> ReleaseAnswer:
    attacks = [f"{one['attack']} {float(str(one['success'])):.1%}" for one in kept.attacks]
    own = {name: getattr(kept, name) for name in ("id", "tier", "state", "asked_by", "decided_by", "why")}
    return ReleaseAnswer(**own, since=kept.since * QUARTER_S, until=kept.until * QUARTER_S, attacks=attacks)
