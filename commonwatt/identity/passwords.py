"""Passwords of people: their hash (scrypt), the file that keeps one, and the key of programs on the same machine.

A hash stands as text with its parameters, so that later releases can raise them and still check old hashes.
"""

import base64
import binascii
import hashlib
import hmac
import secrets
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import read_object, replace_file

MIN_LENGTH, MAX_LENGTH = 12, 256  # characters that a password must and may have
MIN_DISTINCT = 6  # fewest different characters in a password
MAX_MEMORY_BYTES = 128 * 1024 * 1024  # most memory that a stored hash may ask for
# Parts of passwords that are guessed first; they do not count towards the length.
_COMMON = ("password", "passwort", "admin", "welcome", "letmein", "qwerty", "commonwatt", "1234567890", "abcdefghij")

_NAME = "scrypt"
_SALT_BYTES, _HASH_BYTES = 16, 32
_KEY_PURPOSE = b"commonwatt status"
_REMEDY = "make one with: commonwatt gateway password"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The parameters of scrypt: 16 MiB of memory and five rounds, a choice of OWASP's table for small machines."""

    log_n: int = 14  # binary logarithm of the number of blocks
    r: int = 8  # size of a block, in units of 128 bytes
    p: int = 5  # rounds, one after the other

    def derive(self, password: str, salt: bytes) -> bytes:
        """Return the hash of a password; composed and decomposed letters are the same."""
        text = unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
        n, most = 1 << self.log_n, 2 * MAX_MEMORY_BYTES
        return hashlib.scrypt(text, salt=salt, n=n, r=self.r, p=self.p, maxmem=most, dklen=_HASH_BYTES)


_COST = Cost()


@dataclass(frozen=True, kw_only=True)
class PasswordHash:
    """A password's hash."""

    cost: Cost  # the parameters
    salt: bytes  # random bytes, so that the same password has another hash
    hash: bytes  # the result

    @classmethod
    def of(cls, password: str, cost: Cost = _COST) -> Self:
        """Hash a password with a new salt."""
        salt = secrets.token_bytes(_SALT_BYTES)
        return cls(cost=cost, salt=salt, hash=cost.derive(password, salt))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text of a hash.

        Raises:
            ValueError: It is no hash, or its parameters would take too much memory or time.
        """
        parts = text.split("$")
        if len(parts) != 6 or parts[0] != _NAME:
            raise ValueError("not a hash of scrypt")
        cost = Cost(log_n=int(parts[1]), r=int(parts[2]), p=int(parts[3]))
        try:
            salt, hash_ = (base64.b64decode(part, validate=True) for part in parts[4:])
        except binascii.Error as error:
            raise ValueError("not a hash of scrypt") from error
        sound = 10 <= cost.log_n <= 20 and 1 <= cost.r <= 32 and 1 <= cost.p <= 16
        if not sound or cost.r << cost.log_n + 7 > MAX_MEMORY_BYTES or len(salt) < 8 or len(hash_) != _HASH_BYTES:
            raise ValueError("a hash of scrypt with parameters that are not allowed")
        return cls(cost=cost, salt=salt, hash=hash_)

    def text(self) -> str:
        """Return the hash as text."""
        salt, hash_ = (base64.b64encode(part).decode() for part in (self.salt, self.hash))
        return f"{_NAME}${self.cost.log_n}${self.cost.r}${self.cost.p}${salt}${hash_}"

    def fits(self, password: str) -> bool:
        """Return whether this is the password, in the same time for each password."""
        return hmac.compare_digest(self.hash, self.cost.derive(password[:MAX_LENGTH], self.salt))

    def local_key(self) -> str:
        """Return the key with which a program that can read the password's file proves it, as 64 hexadecimal digits."""
        return hmac.digest(self.hash, _KEY_PURPOSE, "sha256").hex()


def weakness(password: str, words: Collection[str] = ()) -> str | None:
    """Return why a password is too easy to guess; ``None``: it is accepted.

    Args:
        words: Words that are known beforehand, such as the microgrid's name; they do not count towards the length.
    """
    if len(password) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    if len(password) < MIN_LENGTH:
        return f"shorter than {MIN_LENGTH} characters"
    if len(set(password)) < MIN_DISTINCT:
        return f"made of fewer than {MIN_DISTINCT} different characters"
    rest = password.lower()
    for word in (*_COMMON, *(word.lower() for word in words if word)):
        rest = rest.replace(word, "")
    if len(rest) < MIN_LENGTH // 2:
        return "made of words that are guessed first"
    return None


def save_password(path: Path, password: str, owner: tuple[int, int] | None = None) -> None:
    """Write a password's hash to its file, readable by one user.

    Args:
        owner: Numbers of the file's user and group; ``None``: this process's.
    """
    content = f'{{"password": "{PasswordHash.of(password).text()}"}}\n'
    replace_file(path, content.encode(), owner=owner)


def load_password(path: Path) -> PasswordHash:
    """Read a password's file.

    Raises:
        ConfigError: It is missing, or not what ``save_password`` writes.
    """
    text = read_object(path, "a password file", _REMEDY).get("password")
    try:
        return PasswordHash.parse(text if isinstance(text, str) else "")
    except ValueError as error:
        raise ConfigError(f"{path}: not a password file ({error}); {_REMEDY}") from error
