"""The API's decisions on releases for researchers. Rights are those of the pages."""

from typing import Annotated

from fastapi import FastAPI, Path
from pydantic import BaseModel, Field

from commonwatt.model.time.times import parse_time
from utility.research import decisions as releases
from utility.webkit.rights import Approvers, Clerks
from utility.webkit.services import Api
from utility.webkit.shapes import Asked, Why, refusing


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


def add_research_decisions(app: FastAPI, api: Api) -> None:
    """Add the endpoints."""

    @app.post("/releases/{release}/approve")
    def approve(actor: Approvers, release: Annotated[str, Path(max_length=64)], asked: Approval) -> Done:
        """Approve a release above the limit, as a second person."""
        with refusing():
            releases.approve(api.database, release, asked.why, api.second(actor))
        return Done(person=actor.name)

    @app.post("/agreements", status_code=201)
    def add(actor: Clerks, asked: NewAgreement) -> Done:
        """Add an agreement with researchers; it can't be changed."""
        with refusing(422):
            until = parse_time(asked.until, "until", api.zone.read())
            releases.add_agreement(api.database, asked.name, until, actor, int(api.clock.now()))
        return Done(person=actor.name)
