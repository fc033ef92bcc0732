"""Who an account is, for printing, mail and clerks alone: encrypted at rest, and in no export, log or metric."""

import hashlib
import json
import secrets
from dataclasses import asdict, dataclass, field
from typing import Literal

from commonwatt.care.sealing import decrypt, encrypt


@dataclass(frozen=True, kw_only=True)
class Contact:
    """A person or a household that has an account, from a day on."""

    name: str = field(repr=False)  # as letters have it
    street: str = field(default="", repr=False)  # with the number
    postcode: str = field(default="", repr=False)
    city: str = field(default="", repr=False)
    country: str = field(default="", repr=False)  # two letters, ISO 3166
    mail: str = field(default="", repr=False)  # mail address; empty: none
    language: Literal["", "en", "de", "es"] = ""  # empty: that of the tariff
    paper: bool = False  # the household wants its bills on paper, although a mail address is known
    iban: str = field(default="", repr=False)  # the bank account for direct debits and refunds; empty: none
    mandate: str = field(default="", repr=False)  # the reference of the mandate for direct debits; empty: none
    mandate_day: str = ""  # the day it was signed, such as 2026-11-03
    salt: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)  # makes the digest unguessable

    def digest(self) -> str:
        """Return what a bill's proof has of it: SHA-256 of salt, name and address, hexadecimal."""
        said = [self.salt, self.name, self.street, self.postcode, self.city, self.country]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()

    def sealed(self, key: bytes) -> bytes:
        """Return it encrypted by the office's key."""
        return encrypt(key, json.dumps(asdict(self)).encode())


def opened(key: bytes, content: bytes) -> Contact:
    """Return what ``Contact.sealed`` made.

    Raises:
        ConfigError: It was changed, or has another key.
    """
    return Contact(**json.loads(decrypt(key, content)))
