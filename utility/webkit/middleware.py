"""What stands before all routes: security headers, bounds on requests and connections, the client behind a proxy."""

import asyncio
import logging
import re
from collections.abc import Callable, Collection
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from commonwatt.network.http_server import REFUSAL, is_ours

MAX_BODY_BYTES = 2 * 1024 * 1024  # bytes of a request's body; a longer one is refused with 413

CONTENT_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)
"""Content-Security-Policy: only our own scripts and styles, and no request to another server."""

SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_POLICY,
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


_CHARSET = re.compile("(?i)charset([^;]*)")
_UTF_8 = ("=utf-8", '="utf-8"')


def with_headers(app: ASGIApp) -> ASGIApp:
    """Return an application whose answers have the security headers that it does not set itself."""

    async def answered(scope: Scope, receive: Receive, send: Send) -> None:
        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await app(scope, receive, told)

    return answered


def bounded_body(app: ASGIApp) -> ASGIApp:
    """Return an application that refuses bodies longer than ``MAX_BODY_BYTES``, and bodies that are not UTF-8."""

    async def judged(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        if fault := _fault(Headers(scope=scope)):
            await fault(scope, receive, send)
            return
        left = MAX_BODY_BYTES

        async def counted() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            # A body without a stated length that goes on is taken as a connection that ended.
            return message if left >= 0 else {"type": "http.disconnect"}

        await app(scope, counted, send)

    return judged


def _fault(headers: Headers) -> PlainTextResponse | None:
    """Return the answer to a body that is not read; ``None``: it is read."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit() and len(length) < 12 and int(length) <= MAX_BODY_BYTES):
        return PlainTextResponse(f"a request has at most {MAX_BODY_BYTES:,} bytes\n", 413)
    # Python has encodings whose decoding of a megabyte takes minutes (punycode), and the parser of forms uses any.
    told = _CHARSET.findall(" ".join(headers.getlist("content-type")))
    if any(charset.lower() not in _UTF_8 for charset in told):
        return PlainTextResponse("send text as UTF-8\n", 415)
    return None


MAX_CONNECTIONS = 200  # connections at a time
REQUEST_WITHIN_S = 10.0  # time limit for a complete request, real seconds
ANSWER_WITHIN_S = 120.0  # time limit for making and sending a response, real seconds
_SECURE, _PLAIN = b"__Host-commonwatt", b"plain-commonwatt"  # how the names of our cookies begin
MAX_HEAD_BYTES = 32 * 1024  # bytes of a request's line and headers; uvicorn refuses more with 400


def only_ours(app: ASGIApp, names: Collection[str]) -> ASGIApp:
    """Return an application that refuses requests for unknown host names (``commonwatt.network.http_server``)."""

    async def judged(scope: Scope, receive: Receive, send: Send) -> None:
        # Two Host headers are joined, so that neither value is accepted.
        headers = [value for name, value in scope.get("headers", ()) if name == b"host"]
        host = b",".join(headers).decode("latin-1") if headers else None
        if scope["type"] == "http" and not is_ours(host, names):
            await PlainTextResponse(REFUSAL, 421)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return judged


def plain_cookies(app: ASGIApp) -> ASGIApp:
    """Return an application whose logins browsers of other machines keep over plain HTTP, which a person allowed.

    A browser keeps a secure cookie from no plain page of another machine. So there, and not where TLS ends before us,
    cookies have names and keys that it keeps; each listener in that network can take them, as all else.
    """

    async def renamed(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if scope.get("scheme") != "http" or headers.get("x-forwarded-proto", "http") != "http":
            await app(scope, receive, send)
            return
        given = [
            (name, value.replace(_PLAIN, _SECURE) if name == b"cookie" else value) for name, value in scope["headers"]
        ]

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    (name, re.sub(b"; secure", b"", value.replace(_SECURE, _PLAIN), flags=re.IGNORECASE))
                    if name.lower() == b"set-cookie"
                    else (name, value)
                    for name, value in message["headers"]
                ]
            await send(message)

        await app({**scope, "headers": given}, receive, sent)

    return renamed


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


log = logging.getLogger(__name__)


def behind(app: ASGIApp, proxies: Collection[str]) -> ASGIApp:
    """Return an application that takes a client's address and scheme from proxies, and from nobody else.

    The address is the last one in ``X-Forwarded-For`` that is not a proxy's: what stands before it, the client wrote.

    Args:
        proxies: IP addresses and networks of the proxies.
    """
    trusting = ProxyHeadersMiddleware(app, list(proxies))  # type: ignore[arg-type]
    is_told = False

    async def judged(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal is_told
        told = {name for name, _ in scope.get("headers", ())}
        client = str((scope.get("client") or [""])[0])
        if not is_told and b"x-forwarded-for" in told and client not in trusting.trusted_hosts:
            is_told = True
            log.warning(
                "a proxy at %s passes requests on for others: all of them count as one client, which a few wrong "
                "passwords lock out; if it is yours, name it in http_proxies",
                client,
            )
        await trusting(scope, receive, send)  # type: ignore[arg-type]

    return judged
