"""Which witnesses a receipt carries, and the town's public list of their keys (pure; docs/billing.md)."""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from commonwatt.identity.certificates import check_signed
from commonwatt.identity.chains import check_issued
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, MicrogridId
from commonwatt.protocol.controller_commands import WITNESS_PURPOSE, witness_key_text
from utility.billing.proof.canonical import Json

_TOP = (1 << 255) - 1
# Points of low order, by which one signature fits every text: 0, 1, p - 1, p, p + 1 and the two of order 8.
_LOW_ORDER = {
    *(n.to_bytes(32, "little") for n in (0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18)),
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
}
OTHERS = 2  # signatures of other streets in a receipt
FORM = "commonwatt witnesses 1"  # the name of the public list's form


@dataclass(frozen=True, kw_only=True)
class Signed:
    """A controller's signature of a month's check code."""

    controller: ControllerId  # the controller
    month: str  # the month
    signed: str  # its public key and the signature, as in ``ControllerOutcome.signed``


@dataclass(frozen=True, kw_only=True)
class BoundKey:
    """A controller's public key, and the controller's certificate behind it."""

    controller: ControllerId  # the controller
    key: str  # its public key, hexadecimal
    bound: str  # the signature of the key by the certificate, hexadecimal
    certificate: str  # the certificate and, if one issued it, the enrolment certificate (PEM); it may have expired

    def is_good(self, authority: bytes) -> bool:
        """Return whether an authority (PEM) issued the certificate for the controller, and it signed the key."""
        chain, text = self.certificate.encode(), witness_key_text(self.controller, self.key)
        try:
            check_issued(chain, authority, None, self.controller)
            check_signed(chain, WITNESS_PURPOSE, text, bytes.fromhex(self.bound))
        except ConfigError:
            return False
        return True


def is_signed(signed: str, text: bytes) -> bool:
    """Return whether a key and its signature (``Signed.signed``) are good, and of a text."""
    try:
        raw = bytes.fromhex(signed)
        point = (int.from_bytes(raw[:32], "little") & _TOP).to_bytes(32, "little")
        Ed25519PublicKey.from_public_bytes(raw[:32]).verify(raw[32:], text)
    except (ValueError, InvalidSignature):
        return False
    return point not in _LOW_ORDER


def chosen(signed: Iterable[Signed], code: str, streets: Collection[MicrogridId]) -> list[Json]:
    """Return the signatures for a receipt: of its streets, and of others that the code chooses, not the utility."""
    drawn = sorted(signed, key=lambda each: hashlib.sha256(f"{code}{each.controller}".encode()).digest())
    own = [each for each in drawn if each.controller in streets]
    others = [each for each in drawn if each.controller not in streets]
    return [{"controller": each.controller, "signed": each.signed} for each in (*own, *others[:OTHERS])]


def public_list(signed: Sequence[Signed], bound: Sequence[BoundKey], revoked: Collection[ControllerId]) -> Json:
    """Return the public list of keys with their first and last months; those of revoked controllers count no more."""
    months: dict[tuple[ControllerId, str], list[str]] = {}
    for each in signed:
        months.setdefault((each.controller, each.signed[:64]), []).append(each.month)
    keys = [
        asdict(each) | {"first": min(of), "last": max(of), "revoked": each.controller in revoked}
        for each in bound
        if (of := months.get((each.controller, each.key)))
    ]
    return {"form": FORM, "keys": keys}
