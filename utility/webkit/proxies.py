"""The client's address behind a reverse proxy, which the utility's settings name."""

import logging
from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

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
