"""Enrols, revokes and readmits devices in the folder that ``commonwatt utility register --out`` wrote (P8).

Commands and the console's page of devices do the same by these functions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from commonwatt.identity.authority import (
    DEVICE_DAYS,
    DEVICE_FILE,
    FOLDER,
    ISSUED_FILE,
    METER_DAYS,
    Authority,
    Issued,
    WantedCertificate,
)
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import (
    Device,
    DeviceRole,
    broker_token,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.service import only_one

UTILITY_FOLDER = "utility"  # the folder of the devices without a microgrid
METERS_FOLDER = "meter-certificates"  # the folder of meters' certificates, in their microgrid's folder

DEVICES_FILE = "devices.json"

METER_SECRETS = "meter-secrets.json"  # what a microgrid's meters make their tokens at further brokers from


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Lock ``out``: a scheduled renewal and a person's command must not run at the same time.

    Raises:
        ConfigError: There is no such folder, or another enrolment uses it.
    """
    if not out.is_dir():
        raise ConfigError(f"{out}: no such folder; make it with: commonwatt utility register --out {out}")
    with only_one(out / FOLDER, "another enrolment"):
        yield


def all_devices(out: Path) -> dict[str, Device]:
    """Return every device of every broker in ``out``, by identity."""
    return devices_in(sorted(out.glob(f"*/{DEVICES_FILE}")))


def devices_in(paths: Iterable[Path]) -> dict[str, Device]:
    """Return the devices of some devices files."""
    return {identity: device for path in paths for identity, device in load_devices(path).items()}


def named(devices: dict[str, Device], identity: str, *, with_meters: bool) -> list[str]:
    """Return ``identity``, and with ``with_meters`` the meters of its microgrid.

    Raises:
        ConfigError: It is no device.
    """
    if identity not in devices:
        raise ConfigError(f"{identity} is no device; of a broker's certificate say so with --broker")
    meters = [d.identity for d in devices.values() if d.role is DeviceRole.METER and d.microgrid == identity]
    return [identity, *(meters if with_meters else ())]


def wanted(out: Path, devices: dict[str, Device], identity: str) -> WantedCertificate:
    """Return the certificate of a device that is to be issued: for 90 days, a meter's for ten years.

    Raises:
        ConfigError: It is not registered, or revoked.
    """
    device = devices.get(identity)
    if device is None:
        raise ConfigError(f"{identity} is not registered in {out}; see: commonwatt utility register")
    if device.revoked:
        raise ConfigError(f"{identity} was revoked ({device.revoked}); first: commonwatt enroll readmit {identity}")
    days = METER_DAYS if device.role is DeviceRole.METER else DEVICE_DAYS
    return WantedCertificate(kind=Purpose.DEVICE, name=identity, file=file_of(device), lifetime_s=days * 86_400)


def file_of(device: Device) -> str:
    """Return the file of a device's certificate, relative to the folder."""
    name = DEVICE_FILE.get(device.role) or f"{METERS_FOLDER}/{device.identity}.pem"
    return f"{device.microgrid or UTILITY_FOLDER}/{name}"


@dataclass(frozen=True, kw_only=True)
class Revocation:
    """What a revocation changed."""

    certificates: Sequence[Issued]  # the certificates that are invalid from now on
    devices_files: Sequence[Path]  # the devices files that mark the devices as revoked
    lists: Sequence[Path]  # the revocation lists to carry to the machines that read these files


def revoke_devices(out: Path, identity: str, reason: str, now: EpochSeconds, *, with_meters: bool) -> Revocation:
    """Revoke a device's certificates and its token, within ``alone``.

    Raises:
        ConfigError: It is no device, or a file can't be read.
    """
    authority = Authority.load(out) if (out / FOLDER / ISSUED_FILE).exists() else None
    names = named(all_devices(out), identity, with_meters=with_meters)
    changed = _mark(out, names, lambda device, _: replace(device, revoked=device.revoked or reason))
    # What was issued from afar ends with the controller's enrolment certificate, its broker's certificate included.
    ends = [(name, kind) for name in names for kind in (Purpose.DEVICE, Purpose.ENROLMENT)]
    gone = [entry for name, kind in ends if authority for entry in authority.revoke(name, reason, now, kind)]
    read_by = {path.parent for path in changed}
    lists = [path for path in authority.lists() if path.parent in read_by] if authority and gone else []
    return Revocation(certificates=gone, devices_files=changed, lists=lists)


def readmit_devices(out: Path, identity: str, *, with_meters: bool) -> tuple[dict[Path, int], list[Path]]:
    """Admit a revoked device again with a new token, within ``alone``.

    Returns:
        The token files with their counts of new tokens, and the devices files that changed.

    Raises:
        ConfigError: It is no device, it is not revoked, or it has no token.
    """
    devices = all_devices(out)
    names = [name for name in named(devices, identity, with_meters=with_meters) if devices[name].revoked]
    if not names:
        raise ConfigError(f"{identity} is not revoked")
    tokens, secrets = {name: new_token() for name in names}, {name: new_token() for name in names}
    files = {path: load_tokens(path) for path in sorted(out.glob("*/*-tokens.json"))}
    if lost := [name for name in names if not any(name in held for held in files.values())]:
        raise ConfigError(f"{lost[0]} has no token in {out}; first: commonwatt utility register")
    of_secrets = {path: load_tokens(path) for path in sorted(out.glob(f"*/{METER_SECRETS}"))}
    made = {}
    for path, held in (files | of_secrets).items():
        renewed = secrets if path in of_secrets else tokens
        if new := {name: token for name, token in renewed.items() if name in held}:
            save_tokens(path, held | new)
            made[path] = len(new)

    def taken_in(device: Device, broker: str) -> Device:
        is_foreign = device.role is DeviceRole.METER and device.microgrid != broker
        token = broker_token(secrets[device.identity], broker) if is_foreign else tokens[device.identity]
        held = token.encode()
        return replace(device, revoked="", token_sha256=digest(held), mosquitto=mosquitto_digest(held))

    return made, _mark(out, names, taken_in)


def _mark(out: Path, names: Sequence[str], change: Callable[[Device, str], Device]) -> list[Path]:
    """Change devices in every devices file that contains one of them; return the changed files."""
    changed = []
    for path in sorted(out.glob(f"*/{DEVICES_FILE}")):
        devices = load_devices(path)
        if here := devices.keys() & set(names):
            save_devices(path, [change(d, path.parent.name) if d.identity in here else d for d in devices.values()])
            changed.append(path)
    return changed
