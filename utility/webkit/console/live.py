"""What all browsers share: values computed once for all, and a stream of which parts of their page have changed."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import KW_ONLY, dataclass, field
from threading import Lock, Thread
from typing import Annotated, Generic, TypeVar

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse

from commonwatt.model.units import EpochSeconds
from utility.webkit.rights import ReadsTown

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(eq=False)
class SharedValue(Generic[_T]):
    """A value that is computed at most once in some seconds, and only while somebody asks for it.

    A request that finds it a little old gets it as it is, and has the next one computed beside; the first request, and
    one that finds it too old, wait.
    """

    compute: Callable[[], _T]  # computes it
    _: KW_ONLY
    every_s: int  # seconds for which a value is good
    at_most_s: int  # the age that a value may have while the next one is computed
    now: Callable[[], EpochSeconds]  # returns the machine's epoch seconds
    _lock: Lock = field(default_factory=Lock)
    _made: tuple[EpochSeconds, _T] | None = None

    def get(self) -> _T:
        """Return the value; computing it may take long."""
        made = self._made
        found = self.recent()
        return self._waited_for(made) if found is None else found

    def recent(self) -> _T | None:
        """Return the value without a wait; ``None``: it is too old, or was never computed."""
        made = self._made
        if made is None:
            return None
        age_s = self.now() - made[0]
        if 0 <= age_s < self.every_s:
            return made[1]
        if not 0 <= age_s <= self.at_most_s:
            return None
        if self._lock.acquire(blocking=False):
            Thread(target=self._beside, name="shared value", daemon=True).start()
        return made[1]

    def _waited_for(self, made: tuple[EpochSeconds, _T] | None) -> _T:
        with self._lock:
            # Another request may have computed it while this one waited.
            if self._made is None or self._made is made:
                self._made = (self.now(), self.compute())
            return self._made[1]

    def _beside(self) -> None:
        """Compute the next value; the lock is taken."""
        try:
            self._made = (self.now(), self.compute())
        except Exception:
            # The requests that then find the value too old meet the fault themselves.
            log.exception("a value of the pages could not be computed")
        finally:
            self._lock.release()


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
