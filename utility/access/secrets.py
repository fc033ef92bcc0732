"""Secrets that prove an identity: random ones, one-time codes of apps, and which passwords people may choose.

Of random secrets digests are stored, but of seeds. One-time codes are TOTP by RFC 6238 with SHA-1, 30 s and 6 digits.
"""

import gzip
import hashlib
import hmac
import secrets
from base64 import b32decode, b32encode
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

from commonwatt.identity.passwords import weakness
from commonwatt.model.units import EpochSeconds

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


STEP_S, DIGITS = 30, 6  # seconds of a step, each of which has a code, and the digits of a code
WINDOW = 1  # steps before and after the present one whose codes are right, too: clocks of phones differ
# Wrong codes of a person that are allowed at once, and seconds after which one more is: those who guess know the
# password, and a year of guesses finds a code with 10 %.
WRONG_AT_ONCE, WRONG_EACH_S = 10, 900
# Digits that base32 does not have, and the letters that a person who copies a recovery code by hand means by them.
MISREAD = str.maketrans("018", "OIB")

_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


def code_of(seed: str, step: int) -> str:
    """Return the code of a time step.

    Args:
        seed: The secret that the app and the utility share, in base32.
        step: The number of the step since the epoch.
    """
    mac = hmac.digest(b32decode(seed), step.to_bytes(8, "big"), "sha1")
    place = mac[-1] & 0x0F
    number = int.from_bytes(mac[place : place + 4], "big") & 0x7FFF_FFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


def step_of(code: str, seed: str, now: EpochSeconds, used: int) -> int | None:
    """Return the step of a code that is right now; ``None``: it is wrong, or was used.

    Args:
        code: The code, as ``read`` returns it.
        now: The machine's epoch seconds.
        used: The newest step of which a code was used; it and earlier ones are not accepted again.
    """
    present = now // STEP_S
    steps = range(max(present - WINDOW, used + 1), present + WINDOW + 1)
    return next((step for step in steps if hmac.compare_digest(code_of(seed, step), code)), None)


def step_of_pair(codes: str, seed: str, now: EpochSeconds, used: int) -> int | None:
    """Return the step of the second of two codes in a row; ``None``: they are wrong, or one was used.

    A guess at a pair is right once in 300 thousand million times, so that pairs need no limit of guesses.
    """
    step = step_of(codes[DIGITS:], seed, now, used + 1)
    is_right = step is not None and hmac.compare_digest(code_of(seed, step - 1), codes[:DIGITS])
    return step if is_right else None


def read(text: str) -> str:
    """Return what a person typed as a code, without blanks and hyphens, in capital letters."""
    return "".join(letter for letter in text.upper() if letter in _LETTERS)


def is_code(text: str) -> bool:
    """Return whether a text has the form of an app's code; otherwise it can only be a recovery code."""
    return len(text) == DIGITS and text.isdecimal()


def grouped(text: str, between: str = " ") -> str:
    """Return a secret for people, in groups of four."""
    return between.join(text[start : start + 4] for start in range(0, len(text), 4))


def uri_of(name: str, seed: str) -> str:
    """Return the address with which an app takes a secret, as a QR code or a link."""
    settings = f"algorithm=SHA1&digits={DIGITS}&period={STEP_S}"
    return f"otpauth://totp/Commonwatt:{quote(name)}?secret={seed}&issuer=Commonwatt&{settings}"


def after_wrong_code(until: EpochSeconds, now: EpochSeconds) -> tuple[int, EpochSeconds]:
    """Return the seconds to wait before a code is checked (0: none), and ``until`` after a wrong one.

    Args:
        until: When all wrong codes so far will be forgotten; one number keeps the allowance of wrong codes.
        now: The machine's epoch seconds.
    """
    each_s, longest_s = WRONG_EACH_S, WRONG_EACH_S * WRONG_AT_ONCE
    after = min(max(until, now), now + longest_s) + each_s  # A clock that was ahead must not lock anybody out.
    return max(0, after - now - longest_s), after


# A password of so many common ones needs at least this number of characters besides them.
MAX_COMMON_PARTS, MIN_REST = 2, 6
MIN_PERIOD = 8  # fewest characters of a part whose repetition is the password

_SHORTEST_PART = 4
_LIST = Path(__file__).parent / "vendor" / "django-5.2.19" / "common-passwords.txt.gz"
_CHANGED = str.maketrans("@401!3$57", "aaoiiesst")  # what people write in place of letters


def password_fault(password: str, *words: str) -> str | None:
    """Return why a password is not accepted, as the end of "the password is"; ``None``: it is accepted.

    Args:
        words: Words that guessers know of the person, such as the names.
    """
    if fault := weakness(password, [part for word in words for part in (word, *word.split()) if len(part) > 2]):
        return fault
    plain = "".join(password.lower().split())
    period = (plain + plain).find(plain, 1)
    if period < min(MIN_PERIOD, len(plain)):
        return "a short part, repeated"
    if any(_rest(text) < MIN_REST for text in {plain, plain.translate(_CHANGED)}):
        return "made of passwords that are guessed first; take three or four words that do not belong together"
    return None


@cache
def common_passwords() -> frozenset[str]:
    """Return about 20,000 passwords that are guessed first, in lower case."""
    return frozenset(gzip.decompress(_LIST.read_bytes()).decode().split())


@cache
def _longest() -> int:
    return max(map(len, common_passwords()))


def _rest(text: str) -> int:
    """Return the fewest characters of a text outside of two common passwords in it."""
    common, longest = common_passwords(), _longest()
    if len(text) > MAX_COMMON_PARTS * longest + MIN_REST:
        return len(text)
    before, after = [0] * (len(text) + 1), [0] * (len(text) + 1)
    for start, end in _ranges(len(text), longest):
        if text[start:end] in common:
            before[end] = max(before[end], end - start)
            after[start] = max(after[start], end - start)
    for place in range(1, len(text) + 1):
        before[place] = max(before[place], before[place - 1])
        after[-1 - place] = max(after[-1 - place], after[-place])
    return len(text) - max(map(sum, zip(before, after, strict=True)))


def _ranges(length: int, longest: int) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each part that may be a common password."""
    for start in range(length):
        for end in range(start + _SHORTEST_PART, min(length, start + longest) + 1):
            yield start, end
