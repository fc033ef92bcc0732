"""Secrets that a person or program shows to prove an identity: made at random; digests are stored, but of seeds."""

import hashlib
import secrets
from base64 import b32encode

TOKEN_PREFIX = "cwt_"  # noqa: S105 - public
"""The start of each API token, so that a token that leaked is recognised."""


def new_secret() -> str:
    """Return 256 random bits as text for links, cookies and forms."""
    return secrets.token_urlsafe(32)


def new_token() -> str:
    """Return a new API token."""
    return TOKEN_PREFIX + new_secret()


def new_seed() -> str:
    """Return a new secret of an authenticator app: 160 random bits in base32."""
    return b32encode(secrets.token_bytes(20)).decode()


def new_recovery_code() -> str:
    """Return a new recovery code: 120 random bits in base32, 24 letters and digits."""
    return b32encode(secrets.token_bytes(15)).decode()


def digest(secret: str) -> str:
    """Return what is stored of a secret: 64 hexadecimal digits. A secret of 112 random bits needs no slow hash."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
