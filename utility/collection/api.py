"""Which controller collects the data of a meter, by the API."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import HTTPException
from pydantic import Field

from commonwatt.model.units import MeterId, parse_id
from utility.access.people import Right
from utility.collection.balance import CollectedMeter
from utility.collection.decisions import pin
from utility.collection.jobs import BalanceJob
from utility.collection.store import collected
from utility.webkit.actions import Act, Actions
from utility.webkit.requests import RequestBody
from utility.webkit.rights import ReadsTown
from utility.webkit.services import Api, RequestApi


class Pinned(RequestBody):
    """The brokers to which a meter is to send."""

    brokers: list[Annotated[str, Field(max_length=16)]] = Field(
        max_length=8, description="Controllers, the first one first; empty: the service decides again."
    )
    why: Annotated[str, Field(max_length=200)] = ""


ACTIONS = Actions()
router = ACTIONS.json


@router.get("/assignments/meters/{meter}")
def one(api: RequestApi, _: ReadsTown, meter: str) -> CollectedMeter:
    """Return which controller collects the data of a meter, since when and why, and the orders before."""
    return _read(api, _id(meter))


@ACTIONS.add("/assignments/meters/{meter}", Right.PIN_METERS, refused=422)
def put(act: Act, meter: str, asked: Pinned) -> CollectedMeter:
    """Let a meter send to these brokers, whatever their load; without any the service decides again.

    If the first one is lost, the meter sends to the next one by itself. It holds until the service decides again.
    """
    with _finding():
        pin(act.database, act.actor, _id(meter), asked.brokers, asked.why, act.now)
    return _read(act.api, _id(meter))


@contextmanager
def _finding() -> Iterator[None]:
    """Answer 404 for a meter that is not there."""
    try:
        yield
    except LookupError as error:
        raise HTTPException(404, str(error)) from error


def _id(meter: str) -> MeterId:
    if (found := parse_id(meter)) is None:
        raise HTTPException(404, "no id of a meter: up to 20 digits, below 2^64")
    return found


def _read(api: Api, meter: MeterId) -> CollectedMeter:
    job: BalanceJob | None = api.parts.get(BalanceJob)
    alive = set[str]() if job is None else job.alive(int(api.clock.now()))
    with _finding():
        return api.database.read(collected, meter, alive)
