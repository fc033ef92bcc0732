"""By which names our pages may be asked for: against web pages that read ours under another name (DNS rebinding).

An attacker's DNS can resolve evil.example to 127.0.0.1; the page from there may then read what is served here, as of
its own origin. The request's Host names that origin, and the page can't forge it: a name that is not ours is refused.
An IP address can't be rebound.
"""

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

REFUSAL = "this server is not called so; ask by its address, or name it in http_hosts\n"
"""What a request with another's name is answered, with status 421."""


def is_ours(header: str | None, names: Collection[str]) -> bool:
    """Say whether a request with this Host may be answered.

    Args:
        header: As it was sent; ``None``: there was none, so it comes from no browser.
        names: Host names that are ours, lower case, besides ``localhost``.
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
