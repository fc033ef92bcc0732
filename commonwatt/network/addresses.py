"""Addresses in settings: HOST:PORT, and whether they are on this machine."""

import re
from ipaddress import ip_address
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

_LABEL = r"(?!-)[a-z0-9-]{1,63}(?<!-)"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*", re.ASCII | re.IGNORECASE)


def _check_address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:1883")
    return text


Address = Annotated[str, AfterValidator(_check_address), WithJsonSchema({"type": "string", "format": "address"})]
"""HOST:PORT."""


def _check_addresses(addresses: tuple[str, ...]) -> tuple[str, ...]:
    if not 1 <= len(set(addresses)) == len(addresses) <= 2:
        raise ValueError("must be one address, or a list of two different ones")
    return addresses


Addresses = Annotated[
    tuple[Address, ...],
    AfterValidator(_check_addresses),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "address"},
                {"type": "array", "items": {"format": "address", "type": "string"}},
            ]
        }
    ),
]
"""One HOST:PORT, or a list of two in their order."""


def split_address(address: str) -> tuple[str, int]:
    """Split a checked HOST:PORT."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def is_loopback(address: str) -> bool:
    """Return whether a checked HOST:PORT is on this machine; only the name ``localhost`` is assumed to be."""
    host, _ = split_address(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def host_fault(text: str) -> str | None:
    """Return the fault of a host name or IP address for a broker's certificate; ``None``: no fault."""
    if _is_ip(text):
        return None
    host, _, port = text.rpartition(":")
    if not text:
        return "is empty"
    if "/" in text:
        return "is a URL, or a path; give its host name alone"
    if "*" in text:
        return "has a wildcard; name every address by itself"
    if port.isdigit() and (_is_ip(host.strip("[]")) or _HOST_NAME.fullmatch(host)):
        return "give it without its port"
    if _is_ip(text.strip("[]")):
        return "give it without brackets"
    if text.rpartition(".")[2].isdecimal():
        return "is no IP address, and no host name ends in a number"
    if not _HOST_NAME.fullmatch(text):
        return "is no host name (letters, digits and hyphens, with dots between) and no IP address"
    return None


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text  # a zone is local to one machine
