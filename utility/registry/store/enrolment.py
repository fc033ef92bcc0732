"""Enrols every device of a town: files for brokers, gateways and meters; and reads them (T8, P8, docs/security.md).

A second enrolment, after entries were appended to the town file, adds the new devices and changes no token. Nothing is
deleted: the readings of a removed meter remain under its id, and a revoked device that leaves the town stays revoked.
A devices file is written before its token files: tokens without it mean that it was lost, and the revocations with it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from commonwatt.clique.cliques import beside, orders_of, served
from commonwatt.clique.revocation import write_revoked_list
from commonwatt.identity.authority import FOLDER, ISSUED_FILE, Authority, Issued
from commonwatt.identity.certificates import Purpose
from commonwatt.identity.devices import (
    AUTHORITY_FOLDER,
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
from commonwatt.identity.enrolment import (
    DEVICES_FILE,
    METER_SECRETS,
    Revocation,
    all_devices,
    alone,
    devices_in,
    readmit_devices,
    revoke_devices,
    wanted,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import AccountNumber, EpochSeconds, MeterId, MicrogridId
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.runtime.service import only_one
from commonwatt.town.registry import load_registry, registry_of, save_registry
from commonwatt.town.town import Microgrid, Town
from utility.registry.store.registration import refuse_change

HEAD_END = "head-end"  # folder of the head-end broker's devices file
_SECOND = "head-end-2"  # the same of a second head-end, with the same devices
_METER_TOKENS, _GATEWAY_TOKENS = "meter-tokens.json", "gateway-tokens.json"  # token files in the folder of a microgrid
# Token files of the devices without a microgrid, by identity.
_OWN_TOKENS = {UTILITY: f"{UTILITY}/utility-tokens.json", PLANT: f"{PLANT}/plant-tokens.json"}


def refuse_moved(town: Town, out: Path, *, accounts_are_dated: bool = False) -> None:
    """Refuse a town file that moves or changes a device that the files below ``out`` register.

    Args:
        accounts_are_dated: Whether the database, with its dates, has judged the accounts; without it, only an account
            that the town file states may change.

    Raises:
        ConfigError: The town file changes a registered device; or a file below ``out`` can't be read.
    """
    meters = {entry.id: entry for entry in town.meters}
    for path in sorted(out.glob("*/registry.json")):
        try:
            registered = load_registry(path)
        except ConfigError as error:
            text = f"{error}\n{path}: put a good one there from your copy, or delete it, and register again"
            raise ConfigError(text) from error
        for known in registered.meters:
            if (entry := meters.get(known.id)) is not None:
                what = f"{path}: meter {entry.id}"
                refuse_change(what, "microgrid", registered.microgrid, entry.microgrid)
                refuse_change(what, "function", known.function.value, entry.function.value)
                refuse_change(what, "direction", known.direction.value, entry.direction.value)
                if not accounts_are_dated and not entry.stated:
                    refuse_change(what, "account", known.account, entry.account)
        if (microgrid := town.microgrids.get(registered.microgrid)) is not None:
            refuse_change(
                f"{path}: controller {microgrid.id}", "number", registered.controller.number, microgrid.number
            )


def refuse_lost(town: Town, out: Path) -> None:
    """Refuse to make a lost devices file anew: it alone has the revocations of its devices.

    Raises:
        ConfigError: There are tokens, but not the devices file with their digests.
    """
    for name in (HEAD_END, *town.microgrids):
        path = out / name / DEVICES_FILE
        own = _OWN_TOKENS.values() if name == HEAD_END else (f"{name}/{_METER_TOKENS}", f"{name}/{_GATEWAY_TOKENS}")
        tokens = [str(out / file) for file in own if (out / file).exists()]
        if tokens and not path.exists():
            raise ConfigError(
                f"{path}: is lost, and with it which devices are revoked: put it there from your copy of {out}. "
                f"Without a copy delete {' and '.join(tokens)}, and register again: these devices then need new tokens"
            )


def enrol(
    town: Town,
    out: Path,
    track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]] = iter,
    accounts: Mapping[MeterId, AccountNumber] | None = None,
    *,
    two_head_ends: bool = False,
) -> int:
    """Write every device's token and every broker's devices below ``out``; return how many tokens are new.

    Args:
        out: The folder; tokens found in it stay as they are.
        track: Wraps the microgrids to show progress.
        accounts: The present account of each meter, for gateways; ``None``: those of the town file.
        two_head_ends: Whether to make the folder of a second head-end; one that is there is kept up to date anyway.

    Raises:
        ConfigError: An existing token file can't be read, a devices file is lost, the town file moves a registered
            device, or another command uses the folder.
    """
    # The lock also excludes a revocation meanwhile, which would be overwritten.
    with only_one(out / AUTHORITY_FOLDER, "another enrolment"):
        refuse_moved(town, out, accounts_are_dated=accounts is not None)
        refuse_lost(town, out)
        if two_head_ends:
            _folder(out / _SECOND)
        return _enrol(town, out, track, accounts or {})


def _enrol(
    town: Town,
    out: Path,
    track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]],
    accounts: Mapping[MeterId, AccountNumber],
) -> int:
    gateways: dict[str, str] = {}
    made = 0
    orders = orders_of(town, out)
    shared = (name for name, order in orders.items() if len(order) > 1 or name in town.collectors)
    meters_of = {name: _secrets(town, out, name) for name in shared}
    revoked = {name: _revoked(out / name / DEVICES_FILE) for name in meters_of}
    registries = {name: registry_of(_with_accounts(one, accounts)) for name, one in town.microgrids.items()}
    for microgrid in track(list(town.microgrids.values())):
        mates = list(dict.fromkeys((*served(orders, microgrid.id), *town.collected_by(microgrid.id))))
        foreign = [
            replace(
                _device(meter, DeviceRole.METER, mate, broker_token(secret, microgrid.id)),
                revoked=revoked[mate].get(meter, ""),
            )
            for mate in mates
            for meter, secret in meters_of[mate].of.items()
        ]
        folder = _folder(out / microgrid.id)
        gateways[microgrid.id], new = _enrol_microgrid(microgrid, folder, foreign, mates)
        own = folder / "registry.json"
        save_registry(own, registries[microgrid.id])
        for mate in mates:
            save_registry(beside(own, mate), registries[mate])
        made += new
    for secrets in meters_of.values():
        secrets.save()
    utility, plant = (_Tokens(out / file, [identity]) for identity, file in _OWN_TOKENS.items())
    devices = [_device(identity, DeviceRole.GATEWAY, identity, token) for identity, token in gateways.items()]
    devices.append(_device(UTILITY, DeviceRole.UTILITY, "", utility.of[UTILITY]))
    devices.append(_device(PLANT, DeviceRole.PLANT, PLANT, plant.of[PLANT]))
    path = _folder(out / HEAD_END) / DEVICES_FILE
    # Gateways are in two devices files: the revocations of a lost one are in the other.
    known = load_devices(path) if path.exists() else all_devices(out)
    for file in (path, out / _SECOND / DEVICES_FILE):
        if file.parent.exists():
            _save(file, devices, [device for device in known.values() if device.role is not DeviceRole.METER])
    return made + utility.save() + plant.save()


def _with_accounts(microgrid: Microgrid, accounts: Mapping[MeterId, AccountNumber]) -> Microgrid:
    meters = (replace(m, account=accounts.get(m.id, m.account)) for m in microgrid.meters)
    return replace(microgrid, meters=tuple(meters))


def _secrets(town: Town, out: Path, microgrid: MicrogridId) -> "_Tokens":
    """Return the secrets from which the tokens of a microgrid's meters at further brokers are made."""
    meters = [str(meter.id) for meter in town.microgrids[microgrid].meters]
    return _Tokens(out / microgrid / METER_SECRETS, meters)


def _revoked(path: Path) -> dict[str, str]:
    """Return why devices of a devices file are revoked: a broker that gets such a meter later does not admit it."""
    devices = load_devices(path).values() if path.exists() else ()
    return {device.identity: device.revoked for device in devices if device.revoked}


def _enrol_microgrid(
    microgrid: Microgrid, folder: Path, foreign: Sequence[Device], serves: Sequence[MicrogridId]
) -> tuple[str, int]:
    """Write the files of one microgrid; return its gateway's token and how many tokens are new."""
    meters = _Tokens(folder / _METER_TOKENS, [str(m.id) for m in microgrid.meters])
    gateway = _Tokens(folder / _GATEWAY_TOKENS, [microgrid.id])
    devices = [_device(str(m.id), DeviceRole.METER, microgrid.id, meters.of[str(m.id)]) for m in microgrid.meters]
    owner = _device(microgrid.id, DeviceRole.GATEWAY, microgrid.id, gateway.of[microgrid.id])
    devices += [replace(owner, serves=tuple(serves)), *foreign]
    path = folder / DEVICES_FILE
    _save(path, devices, load_devices(path).values() if path.exists() else ())
    made = meters.save() + gateway.save()
    return gateway.of[microgrid.id], made


class _Tokens:
    """The tokens of a file, with a new one for each of the identities that had none."""

    def __init__(self, path: Path, identities: Sequence[str]) -> None:
        self._path = path
        self.of = load_tokens(path) if path.exists() else {}
        self._new = {identity: new_token() for identity in identities if identity not in self.of}
        self.of |= self._new

    def save(self) -> int:
        """Write the file if there are new tokens; return how many."""
        if self._new:
            save_tokens(_folder(self._path.parent) / self._path.name, self.of)
        return len(self._new)


def _device(identity: str, role: DeviceRole, microgrid: MicrogridId, token: str) -> Device:
    secret = token.encode()
    return Device(
        identity=identity,
        role=role,
        microgrid=microgrid,
        token_sha256=digest(secret),
        mosquitto=mosquitto_digest(secret),
    )


def _save(path: Path, devices: Sequence[Device], known: Iterable[Device]) -> None:
    """Write a devices file; known devices that are revoked stay so (``commonwatt enroll readmit`` ends that)."""
    revoked = {device.identity: device for device in known if device.revoked}
    kept = [replace(d, revoked=revoked.pop(d.identity).revoked) if d.identity in revoked else d for d in devices]
    save_devices(path, [*kept, *revoked.values()])


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


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
            current = {entry.name: entry for entry in certificates if entry.kind is Purpose.DEVICE}
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

    def revoke(self, identity: str, reason: str, now: EpochSeconds, *, with_meters: bool) -> Revocation:
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
