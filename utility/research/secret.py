"""What follows from the utility's secret: pseudonyms, groups, seeds and release ids, each only for its own purpose."""

import hashlib
import hmac

import numpy as np

from utility.research.homes import Homes

PSEUDONYM_CHARACTERS = 16  # length of a pseudonym: 64 bits


def keyed(secret: bytes, purpose: str, text: str | bytes) -> bytes:
    """Return 32 bytes that only the secret's holder can compute; another purpose gives others."""
    content = text.encode() if isinstance(text, str) else text
    return hmac.digest(secret, purpose.encode() + b"\0" + content, "sha256")


def pseudonym(secret: bytes, release: str, key: str) -> str:
    """Return the name of a home in a release; in another release it has another one."""
    return keyed(secret, f"pseudonym {release}", key).hex()[:PSEUDONYM_CHARACTERS]


def random_of(secret: bytes, purpose: str, text: str) -> np.random.Generator:
    """Return random numbers that repeat for the same secret, purpose and text."""
    return np.random.default_rng(int.from_bytes(keyed(secret, purpose, text)[:16], "big"))


def digest_of(secret: bytes, homes: Homes) -> str:
    """Return a digest of the input of a release: which homes, which readings."""
    digest = hashlib.sha256(f"{homes.start} {homes.step_s} {homes.known.shape[1]}".encode())
    for home in homes.homes:
        digest.update(home.key.encode() + b"\0")
    for measure, values in homes.values.items():
        digest.update(measure.encode() + np.ascontiguousarray(values, dtype="<i8").tobytes())
    digest.update(np.packbits(homes.known).tobytes())
    return keyed(secret, "input", digest.digest()).hex()
