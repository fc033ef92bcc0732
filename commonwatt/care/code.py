"""The one-time code with which a controller joins: eight words of the BIP-39 English list, and its secrets.

64 bits are random, 16 are the first of the authority's fingerprint, and 8 are a checksum, so that a mistyped word is
found before anything is sent. QR code and ``commonwatt-join.txt`` have the whole fingerprint and the utility's address.
"""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from mnemonic import Mnemonic

from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import split_address

TEXT_BEGIN = "commonwatt-join"  # first word of the text form
WORDS = 8  # words of a code
_BITS = 11  # bits of a word
_RANDOM_BYTES, _OF_AUTHORITY = 8, 2  # bytes of its parts; the last byte is the checksum


@dataclass(frozen=True)
class Code:
    """A one-time code."""

    content: bytes = field(repr=False)  # its 11 bytes: random ones, the fingerprint's first two, a checksum

    @classmethod
    def new(cls, fingerprint: str) -> Self:
        """Make a code of the town whose authority has this fingerprint (hexadecimal)."""
        own = secrets.token_bytes(_RANDOM_BYTES) + bytes.fromhex(fingerprint)[:_OF_AUTHORITY]
        return cls(own + _checksum(own))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read eight words.

        Raises:
            ConfigError: They are not eight, one is not in the list, or one is another than the label's.
        """
        words, known = text.lower().split(), _known()
        if len(words) != WORDS:
            raise ConfigError(f"a code has {WORDS} words, but here are {len(words)}; copy all words of the label")
        for at, word in enumerate(words, 1):
            if word not in known:
                near = " or ".join(get_close_matches(word, known, 3, 0.5)) or "another word"
                raise ConfigError(f"word {at}, {word!r}, is in no code; is it {near}?")
        number = 0
        for word in words:
            number = number << _BITS | known[word]
        content = number.to_bytes(WORDS * _BITS // 8, "big")
        if _checksum(content[:-1]) != content[-1:]:
            raise ConfigError("these are words of the list, but not those of a label: one is wrong, or two are swapped")
        return cls(content)

    @property
    def words(self) -> str:
        """Its words, with spaces."""
        number, known = int.from_bytes(self.content, "big"), list(_known())
        return " ".join(known[number >> _BITS * at & 2**_BITS - 1] for at in reversed(range(WORDS)))

    def is_of(self, fingerprint: str) -> bool:
        """Return whether it is of the town whose authority has this fingerprint (hexadecimal)."""
        return self.content[_RANDOM_BYTES:-1] == bytes.fromhex(fingerprint)[:_OF_AUTHORITY]


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What a label says to a controller."""

    code: Code  # the one-time code
    addresses: tuple[str, ...] = ()  # where the utility is, HOST:PORT; empty: not stated
    fingerprint: str = ""  # the whole fingerprint of the town's authority; empty: not stated

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read eight words, or the text form of a QR code or of ``commonwatt-join.txt``.

        Raises:
            ConfigError: It is neither.
        """
        parts = text.split()
        if parts[:1] != [TEXT_BEGIN]:
            return cls(code=Code.parse(text))
        if len(parts) != WORDS + 3:
            raise ConfigError(f"{TEXT_BEGIN} is followed by an address, a fingerprint and {WORDS} words; copy the line")
        made = cls(code=Code.parse(" ".join(parts[3:])), addresses=(*parts[1].split(","),), fingerprint=parts[2])
        try:
            for address in made.addresses:
                split_address(address)
            is_whole = len(bytes.fromhex(made.fingerprint)) == hashlib.sha256().digest_size
        except ValueError as error:
            raise ConfigError(f"{TEXT_BEGIN}: {error}") from error
        if not is_whole or not made.code.is_of(made.fingerprint):
            raise ConfigError("the words are of another town than the fingerprint before them; copy the whole line")
        return made

    @property
    def text(self) -> str:
        """Its text form, one line."""
        return f"{TEXT_BEGIN} {','.join(self.addresses)} {self.fingerprint} {self.code.words}"


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(TEXT_BEGIN.encode() + content).digest()[:1]


@cache
def _known() -> dict[str, int]:
    return {word: number for number, word in enumerate(Mnemonic("english").wordlist)}


_COST_N, _COST_R = 1 << 14, 8  # of scrypt: 16 MiB; 64 random bits can't be guessed, this makes it dearer still
_KEY_BYTES, _NONCE_BYTES, _POINT_BYTES = 32, 12, 65


@dataclass(frozen=True, kw_only=True)
class CodeSecrets:
    """What office and controller derive from a code; the utility gets the name and the public key alone."""

    lookup: str  # under which the utility finds the code, hexadecimal
    signer: Ed25519PrivateKey = field(repr=False)  # signs the request; the utility has its public half
    bundle_key: bytes = field(repr=False)  # the key that encrypts the bundle

    @classmethod
    def of(cls, code: Code, fingerprint: str) -> "CodeSecrets":
        """Derive them; the fingerprint (hexadecimal) is the town's authority's."""
        salt = bytes.fromhex(fingerprint)
        root = hashlib.scrypt(code.content, salt=salt, n=_COST_N, r=_COST_R, p=1, dklen=_KEY_BYTES)
        lookup, seed, bundle_key = (_expanded(root, purpose) for purpose in (b"lookup", b"signer", b"bundle"))
        return cls(lookup=lookup.hex(), signer=Ed25519PrivateKey.from_private_bytes(seed), bundle_key=bundle_key)


def signed_text(request: Mapping[str, object]) -> bytes:
    """Return what the code's key signs of a request to join: all but its ``signature``."""
    own = {key: value for key, value in request.items() if key != "signature"}
    return f"commonwatt join request\n{json.dumps(own, sort_keys=True)}".encode()


def encrypt(key: bytes, content: bytes) -> bytes:
    """Encrypt a content under a symmetric key."""
    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, content, None)


def decrypt(key: bytes, content: bytes) -> bytes:
    """Return what ``encrypt`` encrypted.

    Raises:
        ConfigError: It was changed, or has another key.
    """
    try:
        return AESGCM(key).decrypt(content[:_NONCE_BYTES], content[_NONCE_BYTES:], None)
    except (InvalidTag, ValueError) as error:
        raise ConfigError("it was changed on its way, or is encrypted for another code or key") from error


def seal(key: ec.EllipticCurvePublicKey, content: bytes) -> bytes:
    """Encrypt a content so that the holder of a private key alone can read it (ECDH on P-256, HKDF, AES-GCM)."""
    once = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PublicFormat.UncompressedPoint
    point = once.public_key().public_bytes(serialization.Encoding.X962, form)
    return point + encrypt(_agreed(once.exchange(ec.ECDH(), key), point), content)


def unseal(key: ec.EllipticCurvePrivateKey, content: bytes) -> bytes:
    """Return what ``seal`` sealed to a key.

    Raises:
        ConfigError: It was changed, or is sealed to another key.
    """
    point = content[:_POINT_BYTES]
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    except ValueError as error:
        raise ConfigError("it is sealed to no key") from error
    return decrypt(_agreed(key.exchange(ec.ECDH(), public), point), content[_POINT_BYTES:])


def _agreed(shared: bytes, point: bytes) -> bytes:
    return HKDF(hashes.SHA256(), _KEY_BYTES, salt=point, info=b"commonwatt join answer").derive(shared)


def _expanded(root: bytes, purpose: bytes) -> bytes:
    return HKDFExpand(hashes.SHA256(), _KEY_BYTES, info=b"commonwatt join " + purpose).derive(root)
