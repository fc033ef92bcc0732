"""One-time codes of authenticator apps: TOTP by RFC 6238 with SHA-1, 30 s and 6 digits, as all apps do (pure)."""

import hmac
from base64 import b32decode
from urllib.parse import quote

from commonwatt.model.units import EpochSeconds

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
