"""Passwords of people who log in: argon2id, with the parameters of OWASP's table (19 MiB, two passes)."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from commonwatt.identity.passwords import MAX_LENGTH

MEMORY_KIB, PASSES = 19 * 1024, 2  # memory and passes of a hash; about 30 ms of a core
MAX_AT_ONCE = 2  # hashes computed at a time; further logins wait, so that they can't take all memory
MAX_WAITING = 8  # most logins that wait for that; more are refused, so that they can't take all threads of the API


class BusyError(Exception):
    """Too many passwords are being checked; the same request may succeed in a second."""


_room = BoundedSemaphore(MAX_AT_ONCE + MAX_WAITING)

_hasher = PasswordHasher(time_cost=PASSES, memory_cost=MEMORY_KIB, parallelism=1)
_places = BoundedSemaphore(MAX_AT_ONCE)
_NOBODYS = "$argon2id$v=19$m=19456,t=2,p=1$Y29tbW9ud2F0dC1ub2JvZHk$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


def hash_password(password: str) -> str:
    """Return the hash of a password, as text with its parameters.

    Raises:
        BusyError: Too many others wait.
    """
    with _place():
        return _hasher.hash(_normal(password))


def is_password(password: str, stored: str | None) -> bool:
    """Return whether a password has the stored hash; without one, take the same time and return false.

    Raises:
        BusyError: Too many others wait.
    """
    with _place():
        try:
            # What is longer than any password takes the time of one, and is none.
            fits = len(password) <= MAX_LENGTH and stored is not None
            _hasher.verify(stored if fits and stored else _NOBODYS, _normal(password[:MAX_LENGTH]))
        except (VerificationError, InvalidHashError):
            return False
    return fits


@contextmanager
def _place() -> Iterator[None]:
    if not _room.acquire(blocking=False):
        raise BusyError("too many people are logging in at the moment; try again in a few seconds")
    try:
        with _places:
            yield
    finally:
        _room.release()


def _normal(password: str) -> bytes:
    return unicodedata.normalize("NFKC", password).encode(errors="surrogatepass")
