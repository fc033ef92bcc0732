"""Certificates and tokens of devices, from the enrolment's folder when the service may read it (P8)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commonwatt.identity.authority import FOLDER, ISSUED_FILE, Authority, Issued
from commonwatt.identity.certificates import Kind
from commonwatt.identity.devices import Device
from commonwatt.identity.enrolment import (
    DEVICES_FILE,
    Revoked,
    all_devices,
    alone,
    devices_in,
    readmit_devices,
    revoke_devices,
    wanted,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds, MicrogridId
from commonwatt.town.revocation import write_revoked_list
from utility.registry.store.enrolment import HEAD_END

DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """A device in the enrolment's folder."""

    device: Device  # its entry, with the digest of its token
    certificate: Issued | None  # its newest certificate that is not revoked; ``None``: none

    def ends_in_days(self, now: EpochSeconds) -> int | None:
        """Return in how many days its certificate ends, negative if it has; ``None``: it has none."""
        return None if self.certificate is None else (self.certificate.expires - now) // DAY_S


class Enrolment:
    """The enrolment's folder."""

    def __init__(self, out: Path) -> None:
        self.out = out

    def head_end(self) -> dict[str, Enrolled]:
        """Return the devices of the head-end broker, by identity.

        Raises:
            ConfigError: A file can't be read.
        """
        return self._enrolled([self.out / HEAD_END / DEVICES_FILE])

    def of(self, microgrid: MicrogridId) -> dict[str, Enrolled]:
        """Return the devices of a microgrid's broker, by identity.

        Raises:
            ConfigError: A file can't be read.
        """
        path = self.out / microgrid / DEVICES_FILE
        return self._enrolled([path] if path.exists() else [])

    def _enrolled(self, paths: Sequence[Path]) -> dict[str, Enrolled]:
        current = {}
        if (self.out / FOLDER / ISSUED_FILE).exists():
            certificates = Authority.load(self.out).current()
            current = {entry.name: entry for entry in certificates if entry.kind is Kind.DEVICE}
        found = devices_in(paths)
        return {i: Enrolled(device=device, certificate=current.get(i)) for i, device in sorted(found.items())}

    def enrol(self, identity: str, now: EpochSeconds) -> list[Path]:
        """Issue a certificate of a device; return the files to carry to its machine.

        Raises:
            ConfigError: It is not registered, revoked, or there is no authority.
        """
        with alone(self.out):
            new = wanted(self.out, all_devices(self.out), identity)
            (made,) = Authority.load(self.out).issue([new], now)
        path = self.out / made.file
        return [path, path.with_name("ca.pem"), path.with_name("revoked.pem")]

    def revoke(self, identity: str, reason: str, now: EpochSeconds, *, with_meters: bool) -> Revoked:
        """Revoke a device's certificates and its token; return what changed.

        Raises:
            ConfigError: It is no device, or no reason is given.
        """
        if not reason.strip() or len(reason) > 200 or not reason.isprintable():
            raise ConfigError("reason: say why, in at most 200 characters, such as: stolen on 3 November")
        with alone(self.out):
            done = revoke_devices(self.out, identity, reason.strip(), now, with_meters=with_meters)
            return replace(done, lists=[*done.lists, *write_revoked_list(self.out, now)])

    def readmit(self, identity: str, now: EpochSeconds, *, with_meters: bool) -> list[Path]:
        """Admit a revoked device again with a new token; return the files to carry to machines.

        Raises:
            ConfigError: It is no device, or it is not revoked.
        """
        with alone(self.out):
            tokens, changed = readmit_devices(self.out, identity, with_meters=with_meters)
            return [*tokens, *changed, *write_revoked_list(self.out, now)]
