"""A controller joins its town: it proves its code, and gets certificates of its own keys and what a bundle holds.

The keys are made here and stored before anything is sent, so that a repeated command asks with the same keys. The
utility is trusted by the fingerprint in the code, and its answer by the bundle encrypted for the code: a machine that
has stolen the utility's name, address or certificate, but not its file of codes, can't answer.
"""

import base64
import binascii
import json
import ssl
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from commonwatt.care.code import CodeSecrets, Invitation, decrypt, signed_text, unseal
from commonwatt.care.connection import CareConnection, CareUnreachable, request
from commonwatt.identity.authority import BROKER_FILE, DEVICE_FILE
from commonwatt.identity.certificates import Signer
from commonwatt.identity.chains import check_issued, new_key_pem, request_of
from commonwatt.identity.devices import DeviceRole, digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import read_object, replace_file
from commonwatt.site.bundle import Bundle, read_bundle
from commonwatt.site.machine import Machine
from commonwatt.site.unpack import Unpacking, prepare

PATH = "join"  # of the request at the care listener
KEYS_FILE = "joining.json"  # the keys of a controller that is joining, in the folder of the services' data
_FILES = {"gateway": DEVICE_FILE[DeviceRole.GATEWAY], "broker": BROKER_FILE}  # the file of each certificate


def join(invitation: Invitation, machine: Machine, program: str, now: EpochSeconds) -> Unpacking:
    """Ask the utility for certificates and the bundle; return the bundle, checked and ready to be installed.

    Args:
        program: The version of this program.

    Raises:
        ConfigError: It has joined by this code; the utility is another town's or answers wrongly, or the bundle does
            not fit to this machine.
        CareRefused: The utility refused.
        CareUnreachable: It can't be reached.
    """
    keys = _keys(invitation, machine)
    ca = _root(invitation)
    own = CodeSecrets.of(invitation.code, digest(ca))
    asked: dict[str, object] = {name: request_of(key) for name, key in keys.items()}
    asked["code"] = own.lookup
    asked["signature"] = own.signer.sign(signed_text(asked)).hex()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ca.pem"
        path.write_bytes(ca)
        answer = CareConnection(invitation.addresses, path).post(f"/{PATH}", asked)
        try:
            key = serialization.load_pem_private_key(keys["gateway"].encode(), None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            got = json.loads(unseal(key, base64.b64decode(str(answer["sealed"]), validate=True)))
            content = decrypt(own.bundle_key, base64.b64decode(got["bundle"], validate=True))
            chains = {one: str(got[one]) for one in _FILES}
        except ConfigError as error:
            raise ConfigError(f"refused: the answer is not of your town's utility: {error}; tell the office") from error
        except (binascii.Error, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"the utility's answer can't be read ({error}); is it of another version?") from error
        bundle = _bundle(content, Path(name))
    place = bundle.manifest.place
    pairs = {f"{place}/{file}": (keys[one], chains[one]) for one, file in _FILES.items()}
    for secret, chain in pairs.values():
        Signer.load(chain.encode(), secret.encode())  # Refuses another key.
        check_issued(chain.encode(), ca, None, place)
    files = {file: "".join(pair).encode() for file, pair in pairs.items()}
    return prepare(bundle, machine, program, now, authority=digest(ca), own=files)


def _keys(invitation: Invitation, machine: Machine) -> dict[str, str]:
    """Return the keys with which this machine asks by this code, as PEM; make and store them the first time."""
    path, code = machine.state / KEYS_FILE, digest(invitation.code.content)
    if path.exists():
        kept = read_object(path, "a file of keys", "delete it, and get a new label")
        if kept == {"code": code}:
            raise ConfigError("already joined here, by this label; nothing was changed")
        if kept.get("code") == code:
            return {name: str(kept[name]) for name in _FILES}
    keys = {name: new_key_pem() for name in _FILES}
    keep(invitation, machine, keys)
    return keys


def keep(invitation: Invitation, machine: Machine, keys: Mapping[str, str]) -> None:
    """Store the keys with which this machine asks by a code; none: it has joined by it."""
    with machine.folder(machine.state, machine.owner()) as folder:
        content = {"code": digest(invitation.code.content), **keys}
        replace_file(folder / KEYS_FILE, json.dumps(content, indent=1).encode())


def _root(invitation: Invitation) -> bytes:
    """Fetch the certificate of the town's authority, from a server that is not verified yet, and check it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    faults = []
    for address in invitation.addresses:
        try:
            ca = request(address, context, "GET", "/ca")
        except CareUnreachable as error:
            faults.append(f"{address}: {error}")
            continue
        if not invitation.code.is_of(digest(ca)) or invitation.fingerprint not in ("", digest(ca)):
            raise ConfigError(
                f"refused: at {address} is not your town's utility, its fingerprint is {digest(ca)}; check the "
                "address, and tell the office"
            )
        return ca
    raise CareUnreachable("; ".join(faults))


def _bundle(content: bytes, folder: Path) -> Bundle:
    path = folder / "bundle"
    path.write_bytes(content)
    return read_bundle(path)
