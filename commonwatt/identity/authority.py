"""The authority's folder: issue, renew and revoke certificates; and the utility's authority of enrolment (P8).

It is OUT/authority, where OUT is the folder that ``commonwatt utility register`` wrote: ``ca.pem`` (public),
``ca-key.pem`` (secret), ``issued.json`` (issued certificates) and ``revoked.pem`` (the revocation list).
``enrolment.pem`` (secret) is there where controllers join from afar.
Each certificate is recorded before it is written to its file, so that every certificate can be revoked.
If the program ends in between, the file lacks the recorded certificate, and the next renewal issues another.

The enrolment authority: at the utility, it signs the certificates of controllers that join and renew from afar.
It is one key with an enrolment certificate for each controller, signed by the town's authority. The enrolment
certificate has the controller's name and its broker's addresses; verifiers refuse all else that the key signs. The
office makes the file, and carries it to the utility alone.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from commonwatt.identity.certificates import (
    UNREADABLE,
    Purpose,
    Signer,
    details_of,
    key_pem,
    listed_issuers,
    pem,
    revoked_serials,
)
from commonwatt.identity.chains import permitted, requested
from commonwatt.identity.devices import AUTHORITY_FOLDER, DeviceRole
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import write_private

ENROLMENT_FILE = "enrolment.pem"  # its key and certificates, in the authority's folder and in the utility's

ENROLMENT_LIFETIME_S = 3 * 365 * 86_400  # most seconds for which an enrolment certificate is valid: three years
DAYS = {Purpose.BROKER: 365, Purpose.DEVICE: 90}  # most days for which what it issues is valid
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
        self, request: bytes, kind: Purpose, name: str, addresses: Sequence[str], now: EpochSeconds, days: int
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


FOLDER = AUTHORITY_FOLDER  # the authority's folder below OUT

CA_FILE, KEY_FILE, ISSUED_FILE, REVOKED_FILE = "ca.pem", "ca-key.pem", "issued.json", "revoked.pem"

BROKER_FILE = "broker.pem"  # a broker's certificate and key, in its folder
# The certificate and key of a gateway or the utility, in its folder.
DEVICE_FILE = {DeviceRole.GATEWAY: "gateway.pem", DeviceRole.UTILITY: "utility.pem", DeviceRole.PLANT: "plant.pem"}
BROKER_DAYS, DEVICE_DAYS = (
    DAYS[Purpose.BROKER],
    DAYS[Purpose.DEVICE],
)  # days for which certificates are valid by default
METER_DAYS = 3_650  # the same of a meter's, which is exchanged with the meter
ENDED_DAYS = 180  # days after its end for which a certificate can be renewed from afar
LIFETIME_S = 10 * 365 * 86_400  # lifetime of an authority's certificate, seconds: ten years


@dataclass(frozen=True, kw_only=True)
class WantedCertificate:
    """A certificate to be issued."""

    kind: Purpose  # its purpose
    name: str  # a device's identity, or a broker's name
    file: str  # its file, relative to OUT
    lifetime_s: int  # seconds for which it is valid
    addresses: tuple[str, ...] = ()  # host names and IP addresses of a broker


@dataclass(frozen=True, kw_only=True)
class Issued(WantedCertificate):
    """A certificate that was issued."""

    serial: int  # its number
    issued: EpochSeconds  # time of issue, epoch seconds
    revoked: EpochSeconds | None = None  # time of revocation, epoch seconds; ``None``: not revoked
    reason: str = ""  # the reason for the revocation

    @property
    def expires(self) -> EpochSeconds:
        """When it expires, epoch seconds."""
        return self.issued + self.lifetime_s

    def again(self) -> WantedCertificate:
        """Return the request for its replacement."""
        return WantedCertificate(
            kind=self.kind, name=self.name, file=self.file, lifetime_s=self.lifetime_s, addresses=self.addresses
        )


class Authority:
    """A certificate authority and its issued certificates."""

    def __init__(self, out: Path, signer: Signer, issued: Sequence[Issued] = ()) -> None:
        self.out = out  # the folder with the authority's folder and the folders of all parts
        self.issued = list(issued)  # its certificates, oldest first; replaced certificates that expired are dropped
        self._signer = signer

    @classmethod
    def create(cls, out: Path, name: str, now: EpochSeconds, lifetime_s: int = LIFETIME_S) -> Self:
        """Create an authority.

        Raises:
            ConfigError: An authority exists, or the folder belongs to a microgrid.
        """
        folder = out / FOLDER
        if (folder / KEY_FILE).exists():
            raise ConfigError(f"{folder}: there is an authority; everybody trusts that one")
        if (folder / "registry.json").exists():
            raise ConfigError(
                f"{folder}: is the folder of a microgrid, and would be carried to its controller with the authority's "
                "key; give that microgrid another id"
            )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = cls(out, Signer.new(name, now, lifetime_s))
        made._save(now)
        write_private(folder / CA_FILE, pem(made._signer.certificate))
        # The key last: an authority with a key is complete.
        write_private(folder / KEY_FILE, made._signer.key_pem())
        return made

    @classmethod
    def load(cls, out: Path) -> Self:
        """Read the authority of ``out``.

        Raises:
            ConfigError: There is no authority, or it can't be read.
        """
        folder = out / FOLDER
        try:
            signer = Signer.load((folder / CA_FILE).read_bytes(), (folder / KEY_FILE).read_bytes())
            issued = json.loads((folder / ISSUED_FILE).read_text())
            return cls(out, signer, [_issued(entry) for entry in issued])
        except FileNotFoundError as error:
            raise ConfigError(f"{folder}: no authority ({error}); make one with: commonwatt site init") from error
        except (ConfigError, OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{folder}: the authority can't be read: {error}") from error

    def issue(self, wanted: Sequence[WantedCertificate], now: EpochSeconds) -> list[Issued]:
        """Issue certificates; write each with its key to its file, and the authority's certificate beside it.

        Raises:
            ConfigError: A name or address can't stand in a certificate, or the authority has expired; nothing was
                issued.
        """
        made = [self._sign(one, now) for one in wanted]
        self.issued += [entry for entry, _ in made]
        self._save(now)
        for entry, text in made:
            path = self.out / entry.file
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path.with_name(CA_FILE), pem(self._signer.certificate))
            write_private(path, text)
        self._hand_out_revocations()
        return [entry for entry, _ in made]

    def issue_missing(self, wanted: Sequence[WantedCertificate], now: EpochSeconds) -> list[Issued]:
        """Issue certificates that were never issued, are not in their file, or whose addresses changed; return these.

        A device's revoked certificate is not replaced; a broker's is.

        Raises:
            ConfigError: As ``issue``.
        """
        current = {entry.file: entry for entry in self.current()}
        devices = [entry for entry in self.issued if entry.kind is Purpose.DEVICE]
        revoked = {entry.file for entry in devices} - current.keys()

        def is_missing(one: WantedCertificate) -> bool:
            known = current.get(one.file)
            return known is None or known.addresses != one.addresses or not self._is_in_its_file(known)

        return self.issue([one for one in wanted if one.file not in revoked and is_missing(one)], now)

    def _sign(self, wanted: WantedCertificate, now: EpochSeconds) -> tuple[Issued, str]:
        lifetime_s = min(wanted.lifetime_s, self.expires - now)
        if self.expires <= now:
            raise ConfigError(
                f"{self.out / FOLDER}: the authority has expired, and its certificates are refused; move it away and "
                "make another: commonwatt site init"
            )
        serial, text = self._signer.issue(wanted.kind, wanted.name, wanted.addresses, now, lifetime_s)
        fields = vars(wanted) | {"serial": serial, "issued": now, "lifetime_s": lifetime_s}
        return Issued(**fields), text

    @property
    def expires(self) -> EpochSeconds:
        """When the authority itself expires, epoch seconds."""
        return int(self._signer.certificate.not_valid_after_utc.timestamp())

    def signature(self, purpose: str, content: bytes) -> bytes:
        """Sign a content for one purpose."""
        return self._signer.signature(purpose, content)

    def current(self) -> list[Issued]:
        """Return the newest certificate of each file, without revoked ones."""
        newest = {entry.file: entry for entry in self.issued}
        return [entry for entry in newest.values() if entry.revoked is None]

    def renew(self, now: EpochSeconds, within_s: int, without: Collection[str] = ()) -> list[Issued]:
        """Renew certificates that expire within so many seconds, have expired, or are not in their file.

        Returns:
            The new ones.

        Raises:
            ConfigError: The authority has expired.
        """
        current = [e for e in self.current() if e.kind is not Purpose.ENROLMENT]
        current = [entry for entry in current if entry.kind is Purpose.BROKER or entry.name not in without]
        due = [e for e in current if e.expires - now <= within_s or not self._is_in_its_file(e)]
        return self.issue([entry.again() for entry in due], now)

    def _is_in_its_file(self, entry: Issued) -> bool:
        try:
            return entry.serial in {details.serial for details in details_of((self.out / entry.file).read_bytes())}
        except (OSError, ConfigError):
            return False

    def revoke(self, name: str, reason: str, now: EpochSeconds, kind: Purpose = Purpose.DEVICE) -> list[Issued]:
        """Revoke every unrevoked certificate of a device or broker; return these certificates."""
        # Expired certificates too: otherwise they would be renewed.
        return self.revoke_these({e.serial for e in self.issued if (e.kind, e.name) == (kind, name)}, reason, now)

    def revoke_these(self, serials: Collection[int], reason: str, now: EpochSeconds) -> list[Issued]:
        """Revoke the unrevoked ones of these certificates; return them."""
        revoked = [e for e in self.issued if e.serial in serials and e.revoked is None]
        self.issued = [replace(e, revoked=now, reason=reason) if e in revoked else e for e in self.issued]
        self._save(now)
        if any(entry.kind is Purpose.ENROLMENT for entry in revoked):
            self._enrolment(now).save(self.out / FOLDER)
        self._hand_out_revocations()
        return revoked

    def enrol(self, wanted: Mapping[str, Sequence[str]], now: EpochSeconds) -> list[Issued]:
        """Issue enrolment certificates of controllers without one, with changed addresses, or near their end.

        Args:
            wanted: By controller, its broker's addresses.

        Returns:
            The new ones. An earlier one of the same controller stays valid until its end.

        Raises:
            ConfigError: As ``issue``; or the authority can sign no enrolment authority.
        """
        enrolment, issued, made = self._enrolment(now), [], []
        newest = enrolment.newest
        lifetime_s = min(ENROLMENT_LIFETIME_S, self.expires - now)
        for name, addresses in wanted.items():
            if (one := newest.get(name)) is not None:
                left_s = int(one.not_valid_after_utc.timestamp()) - now
                if [set(each) for each in permitted(one)] == [{name}, set(addresses)] and left_s > lifetime_s // 3:
                    continue
            made.append(self._signer.delegate(enrolment.key.public_key(), name, addresses, now, lifetime_s))
            file, own = f"{FOLDER}/{ENROLMENT_FILE}", tuple(addresses)
            like = WantedCertificate(kind=Purpose.ENROLMENT, name=name, file=file, lifetime_s=lifetime_s, addresses=own)
            issued.append(Issued(**vars(like), serial=made[-1].serial_number, issued=now))
        if issued:
            self.issued += issued
            self._save(now)
            replace(enrolment, certificates=[*enrolment.certificates, *made]).save(self.out / FOLDER)
            for entry in issued:
                (self.out / entry.name).mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(self.out / entry.name / CA_FILE, pem(self._signer.certificate))
            self._hand_out_revocations()
        return issued

    def _enrolment(self, now: EpochSeconds) -> EnrolmentAuthority:
        """Return the enrolment authority with its certificates that are neither revoked nor expired; or a new one."""
        if not (self.out / FOLDER / ENROLMENT_FILE).exists():
            return EnrolmentAuthority.new()
        found = EnrolmentAuthority.load(self.out / FOLDER)
        valid = {entry.serial for entry in self.issued if entry.revoked is None and entry.expires > now}
        return replace(found, certificates=[one for one in found.certificates if one.serial_number in valid])

    def lists(self) -> list[Path]:
        """Return the path of every copy of the revocation list: one in the folder of each certificate or controller."""
        of = [f"{e.name}/{CA_FILE}" if e.kind is Purpose.ENROLMENT else e.file for e in self.issued]
        return sorted({(self.out / file).with_name(REVOKED_FILE) for file in of})

    def _save(self, now: EpochSeconds) -> None:
        newest = {entry.file: entry for entry in self.issued}
        # Revoked ones stay for good: none of these files gets another certificate by itself.
        self.issued = [e for e in self.issued if e.revoked or e.expires > now or newest[e.file] is e]
        folder = self.out / FOLDER
        entries = [asdict(entry) | {"serial": f"{entry.serial:x}"} for entry in self.issued]
        write_private(folder / ISSUED_FILE, json.dumps(entries, indent=1) + "\n")
        revoked = {e.serial: e.revoked for e in self.issued if e.revoked is not None}
        if revoked.keys() != self._listed():
            write_private(folder / REVOKED_FILE, self._signer.revocations(revoked))

    def _listed(self) -> frozenset[int] | None:
        """Return the revoked serial numbers in the last written list; ``None``: no usable list."""
        try:
            content = (self.out / FOLDER / REVOKED_FILE).read_bytes()
            return revoked_serials(content, pem(self._signer.certificate).encode())
        except (FileNotFoundError, ConfigError):
            return None

    def _hand_out_revocations(self) -> None:
        """Write the revocation lists beside every certificate, unless the copy there is up to date."""
        # A controller needs those of the enrolment certificates of its clique, other machines all.
        own = (self.out / FOLDER / REVOKED_FILE).read_text()
        enrols = (self.out / FOLDER / ENROLMENT_FILE).exists()
        enrolment = EnrolmentAuthority.load(self.out / FOLDER) if enrols else None
        said = cache(listed_issuers)  # Most copies are the same.
        for path in self.lists():
            text = own if enrolment is None else own + enrolment.lists(self._served_at(path))
            there = path.read_text() if path.exists() else ""
            # Each signature of a list differs, but what it says is the same.
            if not there.startswith(own) or said(there.encode()) != said(text.encode()):
                write_private(path, text)

    def _served_at(self, path: Path) -> list[str] | None:
        """Return the controllers of the clique of the folder's controller; ``None``: it is no controller's."""
        place = path.relative_to(self.out).parts[0]
        others = [one.stem.removeprefix("registry-") for one in (self.out / place).glob("registry-*.json")]
        return [place, *others] if (self.out / place / "registry.json").exists() else None


def _issued(entry: dict[str, object]) -> Issued:
    fields = entry | {
        "serial": int(str(entry["serial"]), 16),
        "kind": Purpose(str(entry["kind"])),
        "addresses": tuple(entry["addresses"]),  # type: ignore[arg-type]
    }
    return Issued(**fields)  # type: ignore[arg-type]
