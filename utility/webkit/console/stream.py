"""Tells browsers which parts of their page have changed: a stream of server-sent events, which asks no database."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from utility.webkit.rights import ReadsTown

LOOK_S = 0.5  # seconds between two looks at what has changed
LASTS_S = 30.0  # seconds after which a stream ends and its browser opens the next: by then its session must be open
MOST, MOST_OF_PERSON = 100, 3  # streams at a time; one more is refused, and its page asks every five seconds


@dataclass
class Streams:
    """The streams of one utility: their events name what changed, and the page asks for it by itself."""

    # What may change: its name, and what returns another text when it has, from memory.
    marks: dict[str, Callable[[], str]] = field(default_factory=dict)
    lasts_s: float = LASTS_S  # seconds after which a stream ends
    _open: Counter[str] = field(default_factory=Counter)  # open streams, by person

    def take(self, person: str) -> bool:
        """Count a stream of a person; return whether there may be one more."""
        if self._open.total() >= MOST or self._open[person] >= MOST_OF_PERSON:
            return False
        self._open[person] += 1
        return True

    async def events(self, request: Request, person: str, names: Collection[str]) -> AsyncIterator[str]:
        """Yield an event for each change, until the browser leaves or the stream's time is over; give it back then."""
        ends, marks = time.monotonic() + self.lasts_s, {name: self.marks[name] for name in names if name in self.marks}
        shown = {name: mark() for name, mark in marks.items()}
        try:
            yield "retry: 200\n\n"
            while time.monotonic() < ends and not await request.is_disconnected():
                for name, mark in marks.items():
                    if (now := mark()) != shown[name]:
                        shown[name] = now
                        yield f"event: {name}\ndata: changed\n\n"
                await asyncio.sleep(LOOK_S)
        finally:
            self._open -= Counter([person])


async def _streams_of(request: Request) -> Streams:
    streams: Streams = request.app.state.console.streams
    return streams


router = APIRouter(include_in_schema=False)


@router.get("/console/events")
async def events(
    request: Request,
    streams: Annotated[Streams, Depends(_streams_of)],
    actor: ReadsTown,
    of: Annotated[frozenset[str], Query()],
) -> Response:
    """Tell which of some parts of pages change, as server-sent events."""
    if not streams.take(actor.name):
        return Response(status_code=204)  # browsers take it as the end, and no error
    headers = {"X-Accel-Buffering": "no"}  # a proxy passes each event on at once
    return StreamingResponse(streams.events(request, actor.name, of), headers=headers, media_type="text/event-stream")
