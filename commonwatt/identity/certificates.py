"""X.509 certificates of authorities, brokers and devices, and certificate revocation lists.

No files and no clock here. Keys are P-256. A broker's certificate names its addresses, a device's its identity. Neither
can be used for the other purpose, or sign certificates. An enrolment certificate can sign those of a few names only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from ipaddress import ip_address, ip_network
from typing import Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds

# Seconds by which a certificate's validity starts early, since the verifying machine's clock may be behind.
BACKDATED_S = 3_600
# Errors from reading a damaged file: one flipped bit can change the version or the algorithm.
UNREADABLE = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UnsupportedAlgorithm,
)

_ECDSA = ec.ECDSA(hashes.SHA256())

MAX_NAME = 64  # most characters of a certificate's name (X.520)


class Purpose(StrEnum):
    """The purpose of a certificate."""

    BROKER = "broker"
    DEVICE = "device"
    ENROLMENT = "enrolment"  # signs the certificates of one controller and its meters, at the utility


@dataclass(frozen=True)
class Signer:
    """An authority's certificate and signing key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str, now: EpochSeconds, lifetime_s: int) -> Self:
        """Make a self-signed authority, valid from ``now`` on."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        builder = (
            _builder(subject, subject, key.public_key(), now, lifetime_s)
            # 1: it may sign enrolment certificates.
            .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Self:
        """Read an authority from its two PEM files.

        Raises:
            ConfigError: The texts are not one authority's certificate and key.
        """
        try:
            read = x509.load_pem_x509_certificate(certificate)
            public = read.public_key()
            secret = serialization.load_pem_private_key(key, None)
        except UNREADABLE as error:
            raise ConfigError(f"not an authority's certificate and key: {error}") from error
        if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != public:
            raise ConfigError("the key does not belong to the certificate")
        return cls(read, secret)

    def issue(
        self, kind: Purpose, name: str, addresses: Sequence[str], now: EpochSeconds, lifetime_s: int
    ) -> tuple[int, str]:
        """Make a certificate and its key.

        Args:
            name: A device's identity, or a broker's name.
            addresses: Host names and IP addresses of a broker.
            now: Start of its validity, less ``BACKDATED_S``.
            lifetime_s: Seconds for which it is valid from ``now``.

        Returns:
            Its serial number, and its key and certificate as one PEM text.

        Raises:
            ConfigError: A name or address can't stand in a certificate.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.certify(key.public_key(), kind, name, addresses, now, lifetime_s)
        return certificate.serial_number, key_pem(key) + pem(certificate)

    def certify(
        self,
        key: ec.EllipticCurvePublicKey,
        kind: Purpose,
        name: str,
        addresses: Sequence[str],
        now: EpochSeconds,
        lifetime_s: int,
    ) -> x509.Certificate:
        """Make the certificate of a key that its owner made; the rest as ``issue``."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH if kind is Purpose.BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _builder(_name(name), self.certificate.subject, key, now, lifetime_s)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(authority, critical=False)
        )
        if addresses:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_address(address) for address in addresses]), critical=False
            )
        return builder.sign(self.key, hashes.SHA256())

    def delegate(
        self,
        key: ec.EllipticCurvePublicKey,
        name: str,
        addresses: Sequence[str],
        now: EpochSeconds,
        lifetime_s: int,
    ) -> x509.Certificate:
        """Make an enrolment certificate: its key can sign certificates of this name and these addresses alone.

        Each verifier enforces this by the certificate's name constraints. Its own name is never used twice: a
        certificate that it signed does not fit to the next enrolment certificate of the same key.

        Args:
            key: The public key of the enrolment authority.
            name: The controller.
            addresses: Host names and IP addresses of its broker; 1 at least.
        """
        own = self.certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        if own.path_length == 0:
            raise ConfigError(
                "the authority was made by a release before 0.4 and can sign no enrolment authority: leave out `care` "
                "and work with bundles, or make another authority (docs/security.md)"
            )
        serial = x509.random_serial_number()
        unique = _name(enrolment_name(name, serial))
        builder = (
            _builder(unique, self.certificate.subject, key, now, lifetime_s, serial)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(_constraints(name, addresses), critical=True)
        )
        return builder.sign(self.key, hashes.SHA256())

    def revocations(self, revoked: Mapping[int, EpochSeconds]) -> str:
        """Return the signed list of revoked serial numbers with their revocation times, as PEM."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            # The list is replaced at each revocation. A next-update date would only lock out all devices,
            # and so would a recent start of validity on a machine whose clock is behind.
            .last_update(self.certificate.not_valid_before_utc)
            .next_update(self.certificate.not_valid_after_utc)
        )
        for serial, time in sorted(revoked.items()):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_moment(time)).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()

    def signature(self, purpose: str, content: bytes) -> bytes:
        """Sign a content for one purpose; no signature for another purpose, such as a certificate's, can replace it."""
        return self.key.sign(_purposed(purpose, content), _ECDSA)

    def key_pem(self) -> str:
        """Return the authority's key as PEM."""
        return key_pem(self.key)


def enrolment_name(controller: str, serial: int) -> str:
    """Return the name of an enrolment certificate, which tells a list of its issuer's serial number."""
    return f"{Purpose.ENROLMENT} {controller} {serial:x}"[:MAX_NAME]


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a key as PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def pem(certificate: x509.Certificate) -> str:
    """Return a certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def check_signed(certificate: bytes, purpose: str, content: bytes, signature: bytes) -> None:
    """Check that the key of a certificate (PEM) signed a content for a purpose.

    Raises:
        ConfigError: It did not.
    """
    try:
        key = x509.load_pem_x509_certificate(certificate).public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise ConfigError("the certificate's key is not of an elliptic curve")
        key.verify(signature, _purposed(purpose, content), _ECDSA)
    except UNREADABLE as error:
        raise ConfigError(f"no certificate: {error}") from error
    except InvalidSignature:
        raise ConfigError("the signature does not fit") from None


def _purposed(purpose: str, content: bytes) -> bytes:
    return f"commonwatt {purpose}\n".encode() + content


_LIST_END = b"-----END X509 CRL-----"


def lists_of(revocations: bytes) -> list[x509.CertificateRevocationList]:
    """Return the lists (PEM) in a file of revocations; may raise one of ``UNREADABLE``."""
    return [x509.load_pem_x509_crl(part + _LIST_END) for part in revocations.split(_LIST_END)[:-1]]


def listed_issuers(revocations: bytes) -> dict[str, EpochSeconds]:
    """Return the issuers of the lists (PEM) in a file: the ends of authority and enrolment certificates, by name.

    The certificates of an issuer without a list are refused: the list of a revoked enrolment certificate is left out.

    Raises:
        ConfigError: The text contains something else.
    """
    try:
        ends = {common_name(one.issuer): one.next_update_utc for one in lists_of(revocations)}
        return {name: int(end.timestamp()) for name, end in ends.items() if end is not None}
    except UNREADABLE as error:
        raise ConfigError(f"not lists of revocations: {error}") from error


def authoritys_list(revocations: bytes) -> str:
    """Return the first list (PEM) in a file of revocations: the authority's own."""
    first, end, _ = revocations.partition(_LIST_END)
    return (first + end).decode() + "\n"


def revoked_serials(revocations: bytes, authority: bytes) -> frozenset[int]:
    """Return the serial numbers in the first list of a file of revocations (PEM), which ``authority`` (PEM) signed.

    Further lists are those of enrolment certificates, and empty.

    Raises:
        ConfigError: The text is no revocation list, or another authority signed it.
    """
    try:
        found = x509.load_pem_x509_crl(revocations)
        signer = x509.load_pem_x509_certificate(authority).public_key()
        signed = isinstance(signer, ec.EllipticCurvePublicKey) and found.is_signature_valid(signer)
        serials = frozenset(entry.serial_number for entry in found)
    except UNREADABLE as error:
        raise ConfigError(f"not a list of revocations and its authority: {error}") from error
    if not signed:
        raise ConfigError("the list of revocations is not signed by this authority")
    return serials


@dataclass(frozen=True, kw_only=True)
class Details:
    """What a certificate states."""

    names: tuple[str, ...]  # the name of its subject, and the host names and IP addresses it is for
    serial: int  # its serial number
    begins: EpochSeconds  # start of its validity, epoch seconds
    ends: EpochSeconds  # end of its validity


def details_of(content: bytes) -> list[Details]:
    """Return the details of the certificates in a PEM file.

    Raises:
        ConfigError: The file contains no certificate.
    """
    try:
        return [_details(certificate) for certificate in x509.load_pem_x509_certificates(content)]
    except UNREADABLE as error:
        raise ConfigError(f"no certificate: {error}") from error


def _details(certificate: x509.Certificate) -> Details:
    names = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    try:
        addresses = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names += [str(address.value) for address in addresses]
    except x509.ExtensionNotFound:
        pass  # a device's certificate
    return Details(
        names=tuple(names),
        serial=certificate.serial_number,
        begins=int(certificate.not_valid_before_utc.timestamp()),
        ends=int(certificate.not_valid_after_utc.timestamp()),
    )


def expires_at(content: bytes) -> EpochSeconds:
    """Return the earliest expiry of the certificates in a PEM file, epoch seconds.

    Raises:
        ConfigError: The file contains no certificate.
    """
    return min(one.ends for one in details_of(content))


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    now: EpochSeconds,
    lifetime_s: int,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number() if serial is None else serial)
        .not_valid_before(_moment(now - BACKDATED_S))
        .not_valid_after(_moment(now + lifetime_s))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _constraints(name: str, addresses: Sequence[str]) -> x509.NameConstraints:
    """Return the constraints to a name and addresses; of a kind of address without any, each is excluded."""
    at = [_address(address) for address in addresses]
    hosts: list[x509.GeneralName] = [one for one in at if isinstance(one, x509.DNSName)]
    ips: list[x509.GeneralName] = [x509.IPAddress(ip_network(one.value)) for one in at if one not in hosts]
    excluded: list[x509.GeneralName] = [] if hosts else [x509.DNSName("")]
    excluded += [] if ips else [x509.IPAddress(ip_network(net)) for net in ("0.0.0.0/0", "::/0")]
    named = x509.DirectoryName(_name(name))
    return x509.NameConstraints(permitted_subtrees=[named, *hosts, *ips], excluded_subtrees=excluded or None)


def common_name(name: x509.Name) -> str:
    """Return the text of a certificate's name."""
    return " ".join(str(part.value) for part in name.get_attributes_for_oid(NameOID.COMMON_NAME))


def _name(text: str) -> x509.Name:
    if not 0 < len(text) <= MAX_NAME or not text.isprintable():
        raise ConfigError(f"{text!r} can't be the name in a certificate: 1 to {MAX_NAME} printable characters can")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _address(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(text))
    except ValueError:
        pass
    try:
        return x509.DNSName(text)
    except ValueError as error:
        raise ConfigError(f"{text!r} is no host name (ASCII) or IP address") from error


def _moment(time: EpochSeconds) -> datetime:
    return datetime.fromtimestamp(time, UTC)
