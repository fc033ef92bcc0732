"""Parameters that several of the API's endpoints have."""

import re
from contextvars import ContextVar
from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, Query, Request
from pydantic import BeforeValidator, WithJsonSchema
from starlette.concurrency import run_in_threadpool

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import LOCAL_FORMS, parse_time
from commonwatt.protocol.topics import MICROGRID_PATTERN
from utility.webkit.services import api_of

_ZONE: ContextVar[ZoneInfo] = ContextVar("zone")
_LOST_PLUS = re.compile(r"(T[\d:]+) (?=\d\d:?\d\d$)")


def _moment(text: object) -> object:
    """Return the time of a parameter; a plus sign that was not encoded arrives as a space."""
    try:
        return parse_time(_LOST_PLUS.sub(r"\1+", str(text)), "", _ZONE.get())
    except ConfigError as error:
        raise ValueError(str(error)) from error


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
