"""The enrolment authority: at the utility, it signs the certificates of controllers that join and renew from afar.

It is one key with an enrolment certificate for each controller, signed by the town's authority. The enrolment
certificate has the controller's name and its broker's addresses; verifiers refuse all else that the key signs. The
office makes the file, and carries it to the utility alone.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from commonwatt.identity.certificates import UNREADABLE, Kind, Signer, key_pem, pem
from commonwatt.identity.chains import permitted, requested
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import write_private

ENROLMENT_FILE = "enrolment.pem"  # its key and certificates, in the authority's folder and in the utility's

LIFETIME_S = 3 * 365 * 86_400  # most seconds for which an enrolment certificate is valid: three years
DAYS = {Kind.BROKER: 365, Kind.DEVICE: 90}  # most days for which what it issues is valid
_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class EnrolmentAuthority:
    """The key and the enrolment certificates that are not revoked."""

    key: ec.EllipticCurvePrivateKey = field(repr=False)  # the key of all enrolment certificates
    certificates: Sequence[x509.Certificate] = ()  # oldest first

    @classmethod
    def new(cls) -> Self:
        """Make a key, without certificates."""
        return cls(key=ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def load(cls, folder: Path, revoked: Collection[int] = ()) -> Self:
        """Read the enrolment authority in a folder, without the certificates of revoked serial numbers.

        Raises:
            ConfigError: The file is missing, or not what ``save`` writes.
        """
        path = folder / ENROLMENT_FILE
        try:
            content = path.read_bytes()
            certificates = x509.load_pem_x509_certificates(content)
            key = Signer.load(pem(certificates[-1]).encode(), content).key
            return cls(key=key, certificates=[one for one in certificates if one.serial_number not in revoked])
        except (OSError, ConfigError, *UNREADABLE) as error:
            raise ConfigError(f"{path}: no enrolment authority ({error}); carry the utility's bundle again") from error

    def save(self, folder: Path) -> None:
        """Replace the file in a folder in one step; without a certificate remove it, so that the key ends, too."""
        path = folder / ENROLMENT_FILE
        if not self.certificates:
            path.unlink(missing_ok=True)
            return
        write_private(path, key_pem(self.key) + "".join(map(pem, self.certificates)))

    @property
    def newest(self) -> Mapping[str, x509.Certificate]:
        """The newest certificate of each controller; it alone signs, so that a name that it lacks gets nothing."""
        return {permitted(one)[0][0]: one for one in self.certificates}

    @property
    def ends(self) -> EpochSeconds:
        """When the first controller's newest certificate ends, epoch seconds."""
        return int(min(one.not_valid_after_utc for one in self.newest.values()).timestamp())

    def signer(self, name: str) -> Signer:
        """Return the enrolment certificate that can sign for a controller and its broker, with the key.

        Raises:
            ConfigError: None can.
        """
        found = self.newest.get(name)
        if found is None:
            raise ConfigError(f"{name}: the enrolment authority has no certificate to issue for this name")
        return Signer(found, self.key)

    def issue(
        self, request: bytes, kind: Kind, name: str, addresses: Sequence[str], now: EpochSeconds, days: int
    ) -> str:
        """Issue a certificate of a key that its owner made.

        Args:
            request: The request for it (PEM, PKCS #10); only its key counts.
            name: The controller.
            addresses: Host names and IP addresses of a broker.
            days: Days for which it is valid, within ``DAYS`` and the enrolment certificate's own end.

        Returns:
            The certificate and the enrolment certificate that signed it, as PEM.

        Raises:
            ConfigError: The request is none, the enrolment authority may not issue for this name or these addresses, or
                its certificate has ended.
        """
        (_, key), signer = requested(request), self.signer(name)
        if foreign := set(addresses) - set(permitted(signer.certificate)[1]):
            raise ConfigError(f"{name}: the enrolment authority can't issue for the address {min(foreign)}")
        left_s = int(signer.certificate.not_valid_after_utc.timestamp()) - now
        if left_s <= 0:
            raise ConfigError(f"{name}: the enrolment certificate has ended; at the office: commonwatt site init")
        lifetime_s = min(min(days, DAYS[kind]) * _DAY_S, left_s)
        return pem(signer.certify(key, kind, name, addresses, now, lifetime_s)) + pem(signer.certificate)

    def of(self, names: Collection[str] | None) -> list[x509.Certificate]:
        """Return the certificates of these controllers, or all."""
        return [one for one in self.certificates if names is None or permitted(one)[0][0] in names]

    def lists(self, names: Collection[str] | None) -> str:
        """Return the revocation lists of the enrolment certificates of these controllers, or all, as PEM.

        They are empty: an enrolment certificate is revoked as a whole, in the list of the town's authority, and its own
        list is left out from then on.
        """
        return "".join(self._lists[one.serial_number] for one in self.of(names))

    @cached_property
    def _lists(self) -> dict[int, str]:
        return {one.serial_number: Signer(one, self.key).revocations({}) for one in self.certificates}
