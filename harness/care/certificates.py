"""Authorities and certificates of any lifetime; a town's office, and its utility's answers to renewals."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from commonwatt.care.connection import CareRefused
from commonwatt.identity.authority import BROKER_DAYS, DEVICE_DAYS, Authority, WantedCertificate
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import Device, DeviceRole, load_devices, save_devices
from commonwatt.identity.renewing import CertificateFile
from commonwatt.model.units import MicrogridId
from utility.care.api.listener import CareRefusal, CareRequest
from utility.care.api.routes import Renewals
from utility.settings import UtilitySettings

DAY_S = 86_400


def authority(out: Path, *, name: str = "test", at: int | None = None) -> Authority:
    """Make an authority in ``out``, valid from now, or from another time."""
    return Authority.create(out, name, now() if at is None else at)


def certificate(
    made: Authority,
    kind: Purpose,
    name: str,
    *,
    lifetime_s: int = DAY_S,
    file: str | None = None,
    at: int | None = None,
) -> Path:
    """Issue one certificate; a broker's has the addresses of this machine."""
    addresses = ("127.0.0.1", "localhost") if kind is Purpose.BROKER else ()
    file = f"{kind}-{name}/certificate.pem" if file is None else file
    wanted = WantedCertificate(kind=kind, name=name, file=file, lifetime_s=lifetime_s, addresses=addresses)
    made.issue([wanted], now() if at is None else at)
    return made.out / file


def now() -> int:
    """Return the machine's time, which TLS compares with dates."""
    return int(time.time())


ADDRESSES = ("127.0.0.1", "localhost")  # of each controller's broker
DAYS = {Purpose.DEVICE: DEVICE_DAYS, Purpose.BROKER: BROKER_DAYS}


class CareTown:
    """A town in a folder, from ``now`` on."""

    def __init__(self, folder: Path, names: Sequence[str], now: int) -> None:
        self.now = now  # the utility's time
        self.trusted = True  # whether its clock is synchronized
        self.office = authority(folder / "site", at=now)
        self.folder = folder / "site"
        for name in names:
            (self.folder / name).mkdir()
        self.enrol(dict.fromkeys(names, ADDRESSES))
        self.devices = self.folder / "head-end" / "devices.json"
        self.devices.parent.mkdir()
        save_devices(
            self.devices,
            [*(_device(name, DeviceRole.GATEWAY, name) for name in names), _device("utility", DeviceRole.UTILITY, "")],
        )
        own = self.folder / "authority"
        settings = UtilitySettings.model_construct(
            head_end_ca=own / "ca.pem",
            head_end_revoked=own / "revoked.pem",
            tokens=own / "utility-tokens.json",
            care_certificate=self.devices.with_name("broker.pem"),
        )
        self.renewals = Renewals(settings, lambda: self.trusted, lambda: self.now)

    def enrol(self, addresses_of: Mapping[str, Sequence[str]]) -> None:
        """Make enrolment certificates at the office, as ``site init`` does, and carry them to the utility."""
        self.office.enrol(addresses_of, self.now)

    def file(self, name: str, kind: Purpose = Purpose.DEVICE, *, days: int | None = None) -> CertificateFile:
        """Return the file of a certificate that the office issues now, by itself."""
        lifetime_s = (DAYS[kind] if days is None else days) * DAY_S
        path = certificate(self.office, kind, name, lifetime_s=lifetime_s, file=f"{name}/{kind}.pem", at=self.now)
        return CertificateFile(path, path.with_name("ca.pem"), name)

    def revoke_device(self, name: str, reason: str = "stolen") -> None:
        """Mark a controller as revoked at the head-end; without a reason: no longer."""
        devices = [
            device if device.identity != name else Device(**(vars(device) | {"revoked": reason}))
            for device in load_devices(self.devices).values()
        ]
        save_devices(self.devices, devices)

    def post(self, path: str, content: dict[str, object]) -> dict[str, object]:
        """Answer as the care listener does."""
        assert path == "/renew"
        try:
            return self.renewals.renew(CareRequest(address="10.0.0.9", content=json.loads(json.dumps(content))))
        except CareRefusal as error:
            raise CareRefused(str(error)) from error


def _device(identity: str, role: DeviceRole, microgrid: str) -> Device:
    return Device(identity=identity, role=role, microgrid=MicrogridId(microgrid), token_sha256="0" * 64)
