"""A request to a part's pages, and its answer, independent of the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qs, urlsplit

MAX_BODY_BYTES = 4096  # most bytes of a request's body: a login form


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose host name was checked."""

    method: str  # GET or POST
    path: str  # the path without the query
    address: str  # the client's IP address
    headers: Mapping[str, str]  # the headers, by name in lower case
    body: bytes = b""  # the body of a POST

    def field(self, name: str) -> str:
        """Return a field of the form in the body; empty if there is none."""
        try:
            fields = parse_qs(self.body.decode(), max_num_fields=8)
        except ValueError:  # UnicodeDecodeError is one
            return ""
        return fields.get(name, [""])[0]

    def cookie(self, name: str) -> str | None:
        """Return a cookie's value; ``None``: there is none."""
        pairs = (pair.partition("=") for pair in self.headers.get("cookie", "").split(";"))
        return next((value.strip() for key, _, value in pairs if key.strip() == name), None)

    def is_from_own_page(self) -> bool:
        """Return whether a browser sent it from a page of this server; a client that is no browser counts too.

        A browser names the page's origin, and the page can't forge it. Without TLS many send only ``Origin``.
        """
        site = self.headers.get("sec-fetch-site")
        if site is not None:
            return site in ("same-origin", "none")
        origin = self.headers.get("origin")
        return origin is None or urlsplit(origin).netloc == self.headers.get("host")


@dataclass(frozen=True, kw_only=True)
class Response:
    """An answer."""

    status: int = 200  # the HTTP status
    body: str = ""  # the text
    content_type: str = "text/plain; charset=utf-8"  # its type
    headers: tuple[tuple[str, str], ...] = ()  # further headers
    raw: bytes | None = None  # bytes in place of the text


Pages: TypeAlias = Callable[[Request], Response | None]
"""Answers a request, on the server's threads; ``None``: the server answers it."""
