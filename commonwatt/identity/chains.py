"""Checks of what enrolment certificates issue: requests for certificates, and chains of certificates."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from commonwatt.identity.certificates import (
    UNREADABLE,
    Purpose,
    common_name,
    enrolment_name,
    key_pem,
    listed_issuers,
    lists_of,
    pem,
    revoked_serials,
)
from commonwatt.model.exceptions import ConfigError


def chain_of(pair: bytes) -> str:
    """Return the certificates of a file without its key, as PEM."""
    return "".join(map(pem, x509.load_pem_x509_certificates(pair)))


def permitted(certificate: x509.Certificate) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names and the addresses that an enrolment certificate can sign for.

    Raises:
        ConfigError: It is no enrolment certificate.
    """
    try:
        found = certificate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or []
    except x509.ExtensionNotFound as error:
        raise ConfigError(f"{common_name(certificate.subject)}: is no enrolment certificate") from error
    names = tuple(common_name(each.value) for each in found if isinstance(each, x509.DirectoryName))
    hosts = [each.value for each in found if isinstance(each, x509.DNSName)]
    ips = [str(each.value.network_address) for each in found if isinstance(each, x509.IPAddress)]  # type: ignore[union-attr]
    return names, (*hosts, *ips)


def new_key_pem() -> str:
    """Make a key for a certificate, as PEM."""
    return key_pem(ec.generate_private_key(ec.SECP256R1()))


def request_of(key: str) -> str:
    """Return the request for a certificate of a key (both PEM); who it is of, its issuer decides.

    Raises:
        ConfigError: The text is no key of ours.
    """
    try:
        secret = serialization.load_pem_private_key(key.encode(), None)
    except UNREADABLE as error:
        raise ConfigError(f"no key: {error}") from error
    if not isinstance(secret, ec.EllipticCurvePrivateKey):
        raise ConfigError("no key of an elliptic curve")
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(secret, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM).decode()


def kind_of(chain: bytes) -> Purpose:
    """Return the purpose of a device's or broker's certificate (PEM).

    Raises:
        ConfigError: It is no such certificate.
    """
    try:
        usage = x509.load_pem_x509_certificate(chain).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (*UNREADABLE, x509.ExtensionNotFound) as error:
        raise ConfigError(f"no certificate of a device or broker: {error}") from error
    return Purpose.BROKER if ExtendedKeyUsageOID.SERVER_AUTH in usage else Purpose.DEVICE


def requested(request: bytes) -> tuple[str, ec.EllipticCurvePublicKey]:
    """Return the name (empty: none, as in those of controllers) and key of a request for a certificate (PEM, PKCS #10).

    Its sender proves to have the key. Nothing else in the request counts.

    Raises:
        ConfigError: It is no such request, or its key is not of the curve P-256.
    """
    try:
        found = x509.load_pem_x509_csr(request)
        name, key, signed = common_name(found.subject), found.public_key(), found.is_signature_valid
    except UNREADABLE as error:
        raise ConfigError(f"no request for a certificate: {error}") from error
    if not signed or not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigError("no request for a certificate, signed by a key of the curve P-256")
    return name, key


def check_issued(certificate: bytes, authority: bytes, revocations: bytes | None, name: str) -> None:
    """Check that an authority issued a certificate (PEM) for a name, and did not revoke it; it may have expired.

    The certificate may be followed by the enrolment certificate that issued it.

    Raises:
        ConfigError: It did not.
    """
    try:
        chain = x509.load_pem_x509_certificates(certificate)
        for found, issuer in zip(chain, [*chain[1:], x509.load_pem_x509_certificate(authority)], strict=True):
            found.verify_directly_issued_by(issuer)
    except (*UNREADABLE, InvalidSignature) as error:
        raise ConfigError(f"this machine's authority did not issue its certificate ({error})") from error
    if any(name not in permitted(enrolment)[0] for enrolment in chain[1:]) or common_name(chain[0].subject) != name:
        raise ConfigError(f"its certificate is not of {name}")
    serials = {found.serial_number for found in chain}
    if revocations is not None and serials & revoked_serials(revocations, authority):
        raise ConfigError("its certificate was revoked")


def enrolled(revocations: bytes) -> list[str]:
    """Return the controllers whose enrolment certificates have a list in a file of revocations (PEM)."""
    return sorted({name.split()[1] for name in listed_issuers(revocations) if name.startswith(f"{Purpose.ENROLMENT} ")})


def merged(revocations: bytes, issuers: bytes, authority: bytes, before: bytes) -> bytes:
    """Return lists of revocations (PEM) with those ``before`` that they lack; ``before`` itself if nothing is new.

    The authority signed the first, and it revokes what it revoked before. Each other list is of one of the enrolment
    certificates ``issuers`` (PEM), which the authority signed and did not revoke. A list before goes only when the
    authority revokes its issuer: a utility of an older backup takes no list away.

    Raises:
        ConfigError: They may not be taken.
    """
    revoked, known = revoked_serials(revocations, authority), revoked_serials(before, authority)
    if known - revoked:
        raise ConfigError("they are older than those that are here")
    try:
        root = x509.load_pem_x509_certificate(authority)
        keys = {}
        for one in x509.load_pem_x509_certificates(issuers) if issuers else ():
            one.verify_directly_issued_by(root)
            if one.serial_number not in revoked:
                keys[one.subject] = one.public_key()
        new, present = lists_of(revocations), lists_of(before)
        for found in new[1:]:
            key = keys.get(found.issuer)
            if not isinstance(key, ec.EllipticCurvePublicKey) or not found.is_signature_valid(key):
                raise ConfigError(f"the list of {common_name(found.issuer)} is of no enrolment certificate")
    except (*UNREADABLE, InvalidSignature) as error:
        raise ConfigError(f"not lists of revocations and their issuers: {error}") from error
    listed, had = ({found.issuer for found in lists} for lists in (new, present))
    if revoked == known and listed <= had:
        return before
    gone = {enrolment_name(controller, serial) for controller in enrolled(before) for serial in revoked}
    kept = [one for one in present if one.issuer not in listed and common_name(one.issuer) not in gone]
    return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (*new, *kept))
