"""The devices that may connect to a broker: identities and the digests of their tokens (docs/security.md).

A token is 32 random bytes in base64url. The broker keeps only its SHA-256: a random 256-bit secret needs no slow
hash. ``commonwatt utility register`` writes both files; the broker reads ``devices.json``, a device its own token.
The same tokens are kept in Mosquitto's form too, so that its password file needs no plain tokens.
"""

import base64
import hashlib
import hmac
import json
import re
import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import MicrogridId
from commonwatt.runtime.files import read_object, write_private

AUTHORITY_FOLDER = "authority"
"""The authority's folder, beside the microgrids' folders; commands that change these files lock it."""

FIRST_LOGIN = "first-login"  # name of the file, beside the utility's tokens, with the link of the first administrator

_REMEDY = "make one with: commonwatt utility register"

_MOSQUITTO_SALT_BYTES = 12

_DIGEST = re.compile("[0-9a-f]{64}")


class DeviceRole(StrEnum):
    """The role of a device, which decides its topics."""

    METER = "meter"
    GATEWAY = "gateway"
    UTILITY = "utility"
    PLANT = "plant"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device in a broker's devices file."""

    identity: str  # MQTT client id
    role: DeviceRole  # its role
    microgrid: MicrogridId  # the microgrid of its topics; empty for the utility, ``plant`` for the plant
    token_sha256: str  # hexadecimal digest of its token
    revoked: str = ""  # the reason for its revocation; empty: not revoked
    # Its token's digest in Mosquitto's password format; empty: registered without this digest.
    mosquitto: str = field(default="", compare=False)
    serves: tuple[MicrogridId, ...] = ()  # of a gateway: other microgrids that it may manage

    def owns(self, token: bytes) -> bool:
        """Return whether ``token`` is this device's token, in constant time."""
        return hmac.compare_digest(self.token_sha256, digest(token))


def new_token() -> str:
    """Make a random 256-bit token as text."""
    return secrets.token_urlsafe(32)


def broker_token(secret: str, broker: str) -> str:
    """Return a meter's token for one of its further brokers: what one broker sees opens no other (R5).

    Args:
        secret: The meter's secret of brokers, which no broker sees; its own broker has its token.
        broker: The broker's name: its controller's.
    """
    token = hmac.digest(secret.encode(), broker.encode(), "sha256")
    return base64.urlsafe_b64encode(token).rstrip(b"=").decode()


def digest(token: bytes) -> str:
    """Return the digest of ``token`` in a devices file."""
    return hashlib.sha256(token).hexdigest()


def local_key(token: str) -> str:
    """Return the key with which a program that can read a service's token file proves it to the service's API.

    It has 64 hexadecimal digits; the token can't be derived from it.
    """
    return hmac.digest(token.encode(), b"commonwatt local key", "sha256").hex()


def mosquitto_digest(token: bytes) -> str:
    """Return the digest of ``token`` in Mosquitto's (2.0) format: PBKDF2-SHA-512 with a salt.

    Salt and iterations protect secrets that can be guessed; 256 random bits can't be guessed. One
    iteration is enough, and the salt is derived from the token, so that the same token has the same digest.
    """
    salt = hashlib.sha256(b"mosquitto" + token).digest()[:_MOSQUITTO_SALT_BYTES]
    key = hashlib.pbkdf2_hmac("sha512", token, salt, 1)
    return f"$7$1${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}"


def save_devices(path: Path, devices: list[Device]) -> None:
    """Replace a broker's devices file in one step."""
    content = {
        d.identity: {"role": d.role, "microgrid": d.microgrid, "token_sha256": d.token_sha256}
        | {key: value for key in ("mosquitto", "revoked", "serves") if (value := getattr(d, key))}
        for d in devices
    }
    write_private(path, json.dumps(content, indent=1) + "\n")


def load_devices(path: Path) -> dict[str, Device]:
    """Read the devices a broker admits, by identity.

    Raises:
        ConfigError: The file is missing or not what ``save_devices`` writes.
    """
    content = read_object(path, "a devices file", _REMEDY)
    try:
        return {identity: _device(identity, fields) for identity, fields in content.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a devices file ({error}); {_REMEDY}") from error


def _device(identity: str, fields: object) -> Device:
    if not isinstance(fields, dict):
        raise TypeError(f"{identity}: no object")
    texts = {key: fields[key] for key in ("role", "microgrid", "token_sha256")}
    texts |= {key: fields.get(key, "") for key in ("revoked", "mosquitto")}
    if wrong := [key for key, text in texts.items() if not isinstance(text, str)]:
        raise TypeError(f"{identity}: {wrong[0]} is no text")
    role = DeviceRole(texts["role"])
    if not _DIGEST.fullmatch(texts["token_sha256"]):
        raise ValueError(f"{identity}: token_sha256 is no digest")
    return Device(
        identity=identity,
        role=role,
        microgrid=texts["microgrid"],
        token_sha256=texts["token_sha256"],
        revoked=texts["revoked"],
        mosquitto=texts["mosquitto"],
        serves=tuple(map(str, fields.get("serves", ()))),
    )


def save_tokens(path: Path, tokens: dict[str, str]) -> None:
    """Write tokens by identity, readable by this user alone."""
    write_private(path, json.dumps(tokens, indent=1) + "\n")


def load_tokens(path: Path) -> dict[str, str]:
    """Read tokens by identity.

    Raises:
        ConfigError: The file is missing or malformed.
    """
    content = read_object(path, "a token file", _REMEDY)
    tokens = {identity: token for identity, token in content.items() if isinstance(token, str) and token.isascii()}
    if wrong := content.keys() - tokens.keys():
        raise ConfigError(f"{path}: not a token file (that of {min(wrong)} is no token); {_REMEDY}")
    return tokens
