"""Bounds on the API's connections: slow or surplus ones are closed, requests for other host names refused."""

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from commonwatt.network.hosts import REFUSAL, is_ours

MAX_CONNECTIONS = 200  # connections at a time
REQUEST_WITHIN_S = 10.0  # time limit for a complete request, real seconds
ANSWER_WITHIN_S = 120.0  # time limit for making and sending a response, real seconds
MAX_HEAD_BYTES = 32 * 1024  # bytes of a request's line and headers; uvicorn refuses more with 400


def only_ours(app: ASGIApp, names: Collection[str]) -> ASGIApp:
    """Return an application that refuses requests for unknown host names (``commonwatt.network.hosts``)."""

    async def judged(scope: Scope, receive: Receive, send: Send) -> None:
        # Two Host headers are joined, so that neither value is accepted.
        headers = [value for name, value in scope.get("headers", ()) if name == b"host"]
        host = b",".join(headers).decode("latin-1") if headers else None
        if scope["type"] == "http" and not is_ours(host, names):
            await PlainTextResponse(REFUSAL, 421)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return judged


def bounded(count_cut: Callable[[], object]) -> type[H11Protocol]:
    """Return uvicorn's HTTP protocol class with the limits of this module; one that is cut calls ``count_cut``."""

    class Bounded(H11Protocol):
        """One connection. At ``MAX_CONNECTIONS`` the oldest one without a complete request is closed for a new one."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self._request: RequestResponseCycle | None = None  # uvicorn's request at the last check
            self.since = 0.0
            self._look_again: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.since = self.loop.time()
            self._arm()
            # Aborted connections leave the set later.
            others = [other for other in self.connections if other is not self and not other.transport.is_closing()]
            if len(others) >= MAX_CONNECTIONS:
                waiting = (other for other in others if isinstance(other, Bounded) and not other.answers())
                min(waiting, key=lambda other: other.since, default=self).cut()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._look_again is not None:
                self._look_again.cancel()
            super().connection_lost(exc)

        def _arm(self) -> None:
            self._look_again = self.loop.call_later(REQUEST_WITHIN_S / 2, self._look)

        def _look(self) -> None:
            """Abort the connection when its time limit has passed; a new request restarts the time."""
            if self.cycle is not self._request:
                self._request, self.since = self.cycle, self.loop.time()
            if self.loop.time() - self.since >= (ANSWER_WITHIN_S if self.answers() else REQUEST_WITHIN_S):
                self.cut()
            else:
                self._arm()

        def answers(self) -> bool:
            """Return whether the request is complete and the response is not."""
            return not getattr(self.cycle, "response_complete", True)

        def cut(self) -> None:
            """Abort the connection, and count it."""
            count_cut()
            self.transport.abort()

    return Bounded
