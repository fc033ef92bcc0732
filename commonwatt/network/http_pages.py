"""A request to a part's pages, and its answer, independent of the server."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

MAX_BODY_BYTES = 4096  # most bytes of a request's body


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request whose host name was checked."""

    method: str  # GET or POST
    path: str  # the path without the query
    address: str  # the client's IP address
    headers: Mapping[str, str]  # the headers, by name in lower case
    body: bytes = b""  # the body of a POST


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
