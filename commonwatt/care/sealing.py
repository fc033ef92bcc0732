"""The secrets of a one-time code, and contents sealed by them or to a controller's key."""

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from commonwatt.care.words import Code
from commonwatt.model.exceptions import ConfigError

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
