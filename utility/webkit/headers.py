"""What every answer of the application has: security headers; and the bounds on what a request may send."""

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

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
