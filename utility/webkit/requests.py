"""What routes share: parameters, bodies, reasons, who acts when, refusals as answers, addresses of links."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, HTTPException, Query, Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from starlette.concurrency import run_in_threadpool

from commonwatt.model.calendar import LOCAL_FORMS, parse_time
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.access.people import Actor
from utility.access.store.audit_log import By, Link
from utility.webkit.rights import gate_of
from utility.webkit.services import Api, api_of

_ZONE: ContextVar[ZoneInfo] = ContextVar("zone")
_LOST_PLUS = re.compile(r"(T[\d:]+) (?=\d\d:?\d\d$)")


def _moment(text: object) -> object:
    """Return the time of a parameter; a plus sign that was not encoded arrives as a space."""
    try:
        return parse_time(_LOST_PLUS.sub(r"\1+", str(text)), "", _ZONE.get())
    except ConfigError as error:
        raise PydanticCustomError("time", "{words}", {"words": str(error)}) from error


async def _read_zone(request: Request) -> None:
    _ZONE.set(await run_in_threadpool((await api_of(request)).zone.read))


# A dependency of each route that takes a ``Time`` or a ``Moment``: a time without an offset is of the town's zone.
LOCAL_TIMES = Depends(_read_zone)
# A time in a body: as in a parameter, in epoch seconds.
Time = Annotated[int, BeforeValidator(_moment), WithJsonSchema({"type": "string"})]

Moment = Annotated[
    int,
    BeforeValidator(_moment),
    WithJsonSchema({"type": "string"}),
    Query(description=f"A time: {LOCAL_FORMS}."),
]
"""A time as a parameter, in epoch seconds."""

Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
LongLimit = Annotated[int, Query(ge=1, le=10_000, description="How many at most.")]  # of short rows
MeterText = Annotated[str, Query(pattern="^[0-9]{1,20}$", description="A meter's id.")]
MicrogridName = Annotated[str, Query(pattern=f"^{MICROGRID_PATTERN}$", description="A microgrid's id.")]

Why = Annotated[str, Field(max_length=200, description="The reason, kept with the decision.")]


class RequestBody(BaseModel):
    """The body of a request; an unknown key is an error."""

    model_config = ConfigDict(extra="forbid")


@contextmanager
def refusing(status: int = 409, words: Callable[[Exception], str] = str) -> Iterator[None]:
    """Answer with the reason, if a decision is refused; nothing was changed then.

    Raises:
        HTTPException: The decision was refused.
    """
    try:
        yield
    except (ConfigError, StoreError) as error:
        raise HTTPException(status, words(error)) from error


@contextmanager
def changing(api: Api, request: Request, actor: Actor) -> Iterator[By]:
    """Open the transaction of a change; a refusal of it becomes an answer, and nothing is changed.

    Raises:
        HTTPException: The change is refused, with the reason.
    """
    machine_s = gate_of(request).now()
    try:
        with api.database.writes.begin() as connection:
            yield By(connection=connection, actor=actor, now=int(api.clock.now()), machine_s=machine_s)
    except ConfigError as error:
        raise HTTPException(422, str(error)) from error


def address_of_link(request: Request, link: Link) -> str:
    """Return the whole address of a link, at the host by which the request came."""
    return f"{request.url.scheme}://{request.url.netloc}{link.path}"
