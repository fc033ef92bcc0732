"""Requests for the renewal of a certificate: the new key's request, signed by the old key. No files, no clock.

A repeated request is answered by another certificate of the same new key, which only the key's owner can use. So a
request needs no time and no number of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from commonwatt.identity.certificates import UNREADABLE, Kind, Signer, check_signed, common_name, pem
from commonwatt.identity.chains import check_issued
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds

ENDED_DAYS = 180  # days after its end for which a certificate can be renewed
PURPOSE = "renewal"  # of the old key's signature
MAX_PEM = 8_192  # most characters of a chain or a request

_USAGES = {ExtendedKeyUsageOID.CLIENT_AUTH: Kind.DEVICE, ExtendedKeyUsageOID.SERVER_AUTH: Kind.BROKER}


@dataclass(frozen=True, kw_only=True)
class Known:
    """A certificate that the town's authority, or an enrolment authority signed by it, issued; it may have ended."""

    name: str  # the identity of a device, or a broker's name
    kind: Kind  # its purpose
    begins: EpochSeconds  # start of its validity, epoch seconds
    ends: EpochSeconds  # end of its validity, epoch seconds
    serials: frozenset[int]  # its number, and that of the enrolment authority's certificate
    key: bytes  # its public key, DER

    @classmethod
    def read(cls, chain: bytes, authority: bytes) -> Self:
        """Read a certificate, followed by that of the enrolment authority if there is one (PEM).

        Args:
            authority: The town's authority (PEM).

        Raises:
            ConfigError: It is no certificate of this town.
        """
        try:
            found = x509.load_pem_x509_certificates(chain)
            own, name = found[0], common_name(found[0].subject)
            check_issued(chain, authority, None, name)
            (usage,) = own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
            return cls(
                name=name,
                kind=_USAGES[usage],
                begins=int(own.not_valid_before_utc.timestamp()),
                ends=int(own.not_valid_after_utc.timestamp()),
                serials=frozenset(each.serial_number for each in found),
                key=_public(own.public_key()),
            )
        except (*UNREADABLE, x509.ExtensionNotFound, KeyError) as error:
            raise ConfigError(f"no certificate of this town ({type(error).__name__}: {error})") from error


@dataclass(frozen=True, kw_only=True)
class RenewalRequest:
    """A request for the renewal of a certificate."""

    name: str  # the identity of a device, or a broker's name
    kind: Kind  # the certificate's purpose
    request: str  # the new key's request for a certificate (PEM, PKCS #10)
    certificate: str  # the old certificate with that of its enrolment authority, if there is one (PEM)
    signature: str  # the old key's, of the three first, hexadecimal

    @classmethod
    def make(cls, name: str, kind: Kind, pair: bytes, new_key: bytes) -> Self:
        """Make a request.

        Args:
            pair: The old key with its chain (PEM).
            new_key: The new key (PEM).

        Raises:
            ConfigError: A file has another content.
        """
        try:
            chain = "".join(pem(each) for each in x509.load_pem_x509_certificates(pair))
            key = serialization.load_pem_private_key(new_key, None)
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
            built = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        except UNREADABLE as error:
            raise ConfigError(f"no key and certificate: {error}") from error
        request = built.public_bytes(serialization.Encoding.PEM).decode()
        signature = Signer.load(pair, pair).signature(PURPOSE, _signed(name, kind, request)).hex()
        return cls(name=name, kind=kind, request=request, certificate=chain, signature=signature)

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Read a request, and check that the key of its certificate signed it.

        Raises:
            ConfigError: It is none.
        """
        texts = [content.get(key) for key in ("name", "kind", "request", "certificate", "signature")]
        if not all(isinstance(text, str) and len(text) <= MAX_PEM for text in texts):
            raise ConfigError(
                f"name, kind, request, certificate and signature are texts of at most {MAX_PEM} characters"
            )
        name, kind, request, certificate, signature = map(str, texts)
        try:
            read = cls(name=name, kind=Kind(kind), request=request, certificate=certificate, signature=signature)
            signed = bytes.fromhex(signature)
        except ValueError as error:
            raise ConfigError(f"no request for a renewal: {error}") from error
        check_signed(certificate.encode(), PURPOSE, _signed(name, read.kind, request), signed)
        return read


def new_key() -> bytes:
    """Return a new key (PEM)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def public_key(key: bytes) -> bytes:
    """Return the public key (DER) of a key (PEM).

    Raises:
        ConfigError: It is no key.
    """
    try:
        return _public(serialization.load_pem_private_key(key, None).public_key())
    except UNREADABLE as error:
        raise ConfigError(f"no key: {error}") from error


def _public(key: Any) -> bytes:
    found: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return found


def _signed(name: str, kind: Kind, request: str) -> bytes:
    return f"{kind} {name}\n{request}".encode()
