"""Which controller collects the data of a meter, by the API."""

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import Field

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MeterId, parse_id
from utility.collection.balance import CollectedMeter
from utility.collection.decisions import pin
from utility.collection.jobs import BalanceJob
from utility.collection.store import collected
from utility.webkit.requests import Asked
from utility.webkit.rights import PinsMeters, ReadsTown
from utility.webkit.services import Api, RequestApi


class Pinned(Asked):
    """The brokers to which a meter is to send."""

    brokers: list[Annotated[str, Field(max_length=16)]] = Field(
        max_length=8, description="Controllers, the first one first; empty: the service decides again."
    )
    why: Annotated[str, Field(max_length=200)] = ""


router = APIRouter()


@router.get("/assignments/meters/{meter}")
def one(api: RequestApi, _: ReadsTown, meter: str) -> CollectedMeter:
    """Return which controller collects the data of a meter, since when and why, and the orders before."""
    return _read(api, _id(meter))


@router.post("/assignments/meters/{meter}")
def put(api: RequestApi, actor: PinsMeters, meter: str, asked: Pinned) -> CollectedMeter:
    """Let a meter send to these brokers, whatever their load; without any the service decides again."""
    try:
        pin(api.database, actor, _id(meter), asked.brokers, asked.why, int(api.clock.now()))
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
    except ConfigError as error:
        raise HTTPException(422, str(error)) from error
    return _read(api, _id(meter))


def _id(meter: str) -> MeterId:
    if (found := parse_id(meter)) is None:
        raise HTTPException(404, "no id of a meter: up to 20 digits, below 2^64")
    return found


def _read(api: Api, meter: MeterId) -> CollectedMeter:
    job: BalanceJob | None = api.parts.get(BalanceJob)
    alive = set[str]() if job is None else job.alive(int(api.clock.now()))
    try:
        return api.database.read(collected, meter, alive)
    except LookupError as error:
        raise HTTPException(404, str(error)) from error
