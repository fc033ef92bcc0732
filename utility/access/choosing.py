"""Which passwords people may choose."""

import gzip
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from commonwatt.identity.passwords import weakness

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
