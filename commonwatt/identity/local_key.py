"""The key with which a program that can read a service's token file proves it to the service's API."""

import hmac

_PURPOSE = b"commonwatt local key"


def local_key(token: str) -> str:
    """Return the key of a service's token, as 64 hexadecimal digits; the token can't be derived from it."""
    return hmac.digest(token.encode(), _PURPOSE, "sha256").hex()
