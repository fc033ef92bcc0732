"""The API of tariffs: their versions, proposed by one person and published by another one."""

from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Path
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import QUARTER_S
from utility.tariffs import decisions as tariffs
from utility.tariffs.store.tariffs import find_version, versions
from utility.webkit.columns import Time
from utility.webkit.rights import Approvers, Clerks, Staff
from utility.webkit.services import Api
from utility.webkit.shapes import Asked, refusing

VersionNumber = Annotated[int, Path(ge=0, lt=2**15)]


class Version(BaseModel):
    """A version of a tariff."""

    name: str
    version: int
    state: str
    effective: Time
    proposed_by: str
    proposed: Time
    approved_by: str | None
    approved: Time | None


class Versions(BaseModel):
    """All versions of all tariffs."""

    tariffs: list[Version]


class Text(Asked):
    """A tariff's text (TOML)."""

    source: str = Field(max_length=tariffs.MAX_TARIFF_BYTES)


def add_tariffs(app: FastAPI, api: Api) -> None:
    """Add the endpoints."""

    @app.get("/tariffs")
    def listed(_: Staff) -> Versions:
        """Return all versions of all tariffs."""
        with api.database.reads.begin() as connection:
            rows = versions(connection)
        return Versions(tariffs=[_version(row) for row in rows])

    @app.post("/tariffs", status_code=201)
    def propose(actor: Clerks, asked: Text) -> Version:
        """Propose a tariff, for another person to approve. A text with faults is refused with a line for each."""
        try:
            stored = tariffs.propose(api.database, asked.source, actor, int(api.clock.now()))
        except ConfigError as error:
            raise HTTPException(422, str(error).splitlines()) from error
        return _stored(api, stored.name, stored.version)

    @app.post("/tariffs/{name}/{version}/approve")
    def approve(actor: Approvers, name: str, version: VersionNumber) -> Version:
        """Publish a proposal, as another person than the one who proposed it."""
        with refusing():
            tariffs.publish(api.database, name, version, api.second(actor))
        return _stored(api, name, version)


def _version(row: dict[str, Any]) -> Version:
    return Version(**{**row, "effective": int(row["effective"]) * QUARTER_S})


def _stored(api: Api, name: str, version: int) -> Version:
    with api.database.reads.begin() as connection:
        found = find_version(connection, name, version)
    return Version(
        name=name,
        version=version,
        state=found.state,
        effective=found.tariff.effective * QUARTER_S,
        proposed_by=found.proposed_by,
        proposed=found.proposed,
        approved_by=found.approved_by,
        approved=found.approved,
    )
