"""Secrets that a person or program shows to prove an identity: made at random, and stored as digests only."""

import hashlib
import secrets

TOKEN_PREFIX = "cwt_"  # noqa: S105 - public
"""The start of each API token, so that a token that leaked is recognised."""


def new_secret() -> str:
    """Return 256 random bits as text for links, cookies and forms."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """Return a new API token."""
    return TOKEN_PREFIX + new_secret()


def digest(secret: str) -> str:
    """Return what is stored of a secret: 64 hexadecimal digits. A secret of 256 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
