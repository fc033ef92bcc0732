"""Releases for researchers by the API, and decisions on them. Rights are those of the pages."""

from typing import Annotated

from fastapi import Path
from pydantic import BaseModel, Field

from commonwatt.model.calendar import parse_time
from commonwatt.model.units import QUARTER_S
from utility.access.people import Right
from utility.research import decisions as releases
from utility.research import store
from utility.research.release import Tier
from utility.webkit.actions import Act, Actions
from utility.webkit.columns import Shown, Time, Written
from utility.webkit.console.rendering import MISSING, plain_bytes
from utility.webkit.requests import Limit, RequestBody, Why
from utility.webkit.rights import ReadsReleases
from utility.webkit.services import Api, RequestApi


class Approval(RequestBody):
    """Why a release above the limit is approved."""

    why: Why


class NewAgreement(RequestBody):
    """An agreement with researchers."""

    name: str = Field(max_length=releases.MAX_NAME)
    until: str = Field(max_length=40, description="When it ends.")


class Done(BaseModel):
    """A decision that was taken."""

    person: str = Field(description="Who decided.")


class Release(BaseModel):
    """A release in a list."""

    id: Annotated[str, Shown("Release", link="/console/research/{id}")]
    kind: Annotated[str, Shown("Kind", link="/console/research/kinds/{kind}")]
    tier: str
    since: Annotated[Time, Shown("From", Written.MOMENT)]
    until: Annotated[Time, Shown("Until", Written.MOMENT)]
    size: Annotated[str, Shown("Size")]
    licence: Annotated[str, Shown("Licence")]
    state: Annotated[
        str, Shown("State", Written.STATE, badges={"released": "good", "made": "good", "asked": "warning"})
    ]
    asked_by: Annotated[str, Shown("Asked for by")]
    decided_by: str | None
    why: str | None
    attacks: list[str] = Field(description="How often each attack succeeds.")


ACTIONS = Actions()
router = ACTIONS.json


@router.get("/releases")
def releases_(api: RequestApi, _: ReadsReleases, limit: Limit = 100) -> dict[str, list[Release]]:
    """Return the newest releases, with their state and how often each attack succeeds."""
    return {"releases": [release_row(api, one) for one in api.database.read(store.releases, limit)]}


@router.get("/agreements")
def agreements(api: RequestApi, _: ReadsReleases) -> dict[str, list[store.Agreement]]:
    """Return the agreements with researchers, by their ends."""
    return {"agreements": api.database.read(store.agreements)}


@ACTIONS.add(
    "/releases/{release}/approve",
    Right.APPROVE_RELEASES,
    page="/console/research/{release}/approve",
    back="/console/research/{release}",
    said="{release} is approved; a clerk makes its files on this page",
)
def approve(act: Act, release: Annotated[str, Path(max_length=64)], asked: Approval) -> Done:
    """Approve a release above the limit, as a second person."""
    releases.approve(act.database, release, asked.why, act.second)
    return Done(person=act.actor.name)


@ACTIONS.add(
    "/agreements",
    Right.PREPARE_RELEASES,
    page="/console/research/agreements",
    back="/console/research",
    said="agreement {asked.name} is added",
    status=201,
    refused=422,
)
def add(act: Act, asked: NewAgreement) -> Done:
    """Add an agreement with researchers; it can't be changed: a longer one has another name."""
    until = parse_time(asked.until, "until", act.api.zone.read())
    act.api.require_near("until", until, 0, 3_660)
    releases.add_agreement(act.database, asked.name, until, act.actor, act.now)
    return Done(person=act.actor.name)


def release_row(api: Api, kept: store.KeptRelease) -> Release:
    """Return a release as its row."""
    size = sum(path.stat().st_size for path in releases.files_of(api.settings.research.releases, kept.id))
    return Release(
        **{name: getattr(kept, name) for name in ("id", "tier", "state", "asked_by", "decided_by", "why")},
        kind=Tier.OPEN if kept.tier == Tier.OPEN else Tier.HOMES,
        since=kept.since * QUARTER_S,
        until=kept.until * QUARTER_S,
        size=plain_bytes(size) if size else MISSING,
        licence=licence(kept),
        attacks=[f"{one['attack']} {float(str(one['success'])):.1%}" for one in kept.attacks],
    )


def licence(kept: store.KeptRelease) -> str:
    """Return the licence of a release."""
    return "CC BY 4.0" if kept.tier == Tier.OPEN else f"agreement {kept.options.get('agreement', '')}"
