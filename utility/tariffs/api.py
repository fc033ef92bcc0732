"""The API of tariffs: their versions, proposed by one person and published by another one."""

from typing import Annotated

from fastapi import HTTPException, Path
from pydantic import BaseModel, Field

from commonwatt.model.exceptions import ConfigError
from utility.access.people import Right
from utility.tariffs import decisions as tariffs
from utility.tariffs.columns import Version
from utility.tariffs.store import versions
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import RequestBody
from utility.webkit.rights import ProposesPrices, ReadsTown
from utility.webkit.services import Api, RequestApi

VersionNumber = Annotated[int, Path(ge=0, lt=2**15)]


class Versions(BaseModel):
    """All versions of all tariffs."""

    tariffs: list[Version]


class Text(RequestBody):
    """A tariff's text (TOML)."""

    source: str = Field(max_length=tariffs.MAX_TARIFF_BYTES)
    replaces: int = Field(0, ge=0, lt=2**15, description="The version of a proposal in whose place it is; 0: none.")


ACTIONS = Actions()
router = ACTIONS.json


@router.get("/tariffs")
def listed(api: RequestApi, _: ReadsTown) -> Versions:
    """Return all versions of all tariffs."""
    return Versions(tariffs=api.database.read(versions))


@router.post("/tariffs", status_code=201)
def propose(api: RequestApi, actor: ProposesPrices, asked: Text) -> Version:
    """Propose a tariff, for another person to approve. A text with faults is refused with a line for each."""
    try:
        stored = tariffs.propose(api.database, asked.source, actor, int(api.clock.now()), asked.replaces)
    except ConfigError as error:
        raise HTTPException(422, str(error).splitlines()) from error
    return _stored(api, stored.name, stored.version)


@ACTIONS.add(
    "/tariffs/{name}/{version}/approve",
    Right.PUBLISH_PRICES,
    page="/console/rates/version/{name}/{version}/approve",
    back="/console/rates/version/{name}/{version}",
    said="{name} v{version} is published; the controllers receive it when the service looks next",
)
def approve(act: Act, name: str, version: VersionNumber) -> Version:
    """Publish a proposal, as another person than the one who proposed it; it never changes then."""
    tariffs.publish(act.database, name, version, act.second)
    return _stored(act.api, name, version)


def _stored(api: Api, name: str, version: int) -> Version:
    return next(one for one in api.database.read(versions) if (one.name, one.version) == (name, version))
