"""Check of the Host header, against DNS rebinding.

An attacker's DNS can resolve evil.example to 127.0.0.1; a page from there may then read this server's pages as its
own origin. The request's Host names that origin, and the page can't forge it: any other host name is refused.
An IP address can't be rebound.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

REFUSAL = "this server is not called so; ask by its address, or name it in http_hosts\n"
"""The body of the answer to a request with another host name; its status is 421."""


def is_ours(header: str | None, names: Collection[str]) -> bool:
    """Return whether a request with this Host may be answered.

    Args:
        header: The Host header; ``None``: no header, so the client is no browser.
        names: The server's host names, lower case, besides ``localhost``.
    """
    if header is None:
        return True
    try:
        host = urlsplit(f"//{header}").hostname or ""
        if host in names or host == "localhost":
            return True
        ip_address(host)
    except ValueError:
        return False
    return True
