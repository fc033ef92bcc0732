"""Enrols every device of a town: writes the files for its brokers, gateways and meters (T8, docs/security.md).

A second enrolment, after entries were appended to the town file, adds the new devices and changes no token. Nothing is
deleted: the readings of a removed meter remain under its id.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from commonwatt.identity.devices import (
    AUTHORITY_FOLDER,
    Device,
    Role,
    digest,
    load_devices,
    load_tokens,
    mosquitto_digest,
    new_token,
    save_devices,
    save_tokens,
)
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.ids import MeterId
from commonwatt.model.units import AccountNumber, MicrogridId
from commonwatt.protocol.topics import PLANT, UTILITY
from commonwatt.runtime.service import only_one
from commonwatt.town.registry import load_registry, registry_of, save_registry
from commonwatt.town.town import Microgrid, Town
from utility.store.registration import refuse_change

HEAD_END = "head-end"
"""Folder of the head-end broker's devices file."""


def refuse_moved(town: Town, out: Path, *, accounts_are_dated: bool = False) -> None:
    """Refuse a town file that moves or changes a device that the files below ``out`` register.

    Args:
        town: The town.
        out: The folder.
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
            refuse_change(f"{path}: controller {microgrid.id}", "number", registered.number, microgrid.number)


def enrol(
    town: Town,
    out: Path,
    track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]] = iter,
    accounts: Mapping[MeterId, AccountNumber] | None = None,
) -> int:
    """Write every device's token and every broker's devices below ``out``; return how many tokens are new.

    Args:
        town: The town.
        out: The folder; tokens found in it stay as they are.
        track: Wraps the microgrids to show progress.
        accounts: The present account of each meter, for gateways; ``None``: those of the town file.

    Raises:
        ConfigError: An existing token file can't be read, the town file moves a registered device, or
            another command uses the folder.
    """
    if taken := {UTILITY, PLANT, HEAD_END, AUTHORITY_FOLDER} & town.microgrids.keys():
        raise ConfigError(f"microgrid {min(taken)} has the name of a folder of the utility; give it another id")
    # The lock also excludes a revocation meanwhile, which would be overwritten.
    with only_one(out / AUTHORITY_FOLDER, "another enrolment"):
        refuse_moved(town, out, accounts_are_dated=accounts is not None)
        return _enrol(town, out, track, accounts or {})


def _enrol(
    town: Town,
    out: Path,
    track: Callable[[Sequence[Microgrid]], Iterable[Microgrid]],
    accounts: Mapping[MeterId, AccountNumber],
) -> int:
    gateways: dict[str, str] = {}
    made = 0
    for microgrid in track(list(town.microgrids.values())):
        gateways[microgrid.id], new = _enrol_microgrid(_with_accounts(microgrid, accounts), _folder(out / microgrid.id))
        made += new
    own, new = _tokens(_folder(out / UTILITY) / "utility-tokens.json", [UTILITY])
    plant, new_plant = _tokens(_folder(out / PLANT) / "plant-tokens.json", [PLANT])
    devices = [_device(identity, Role.GATEWAY, identity, token) for identity, token in gateways.items()]
    devices.append(_device(UTILITY, Role.UTILITY, "", own[UTILITY]))
    devices.append(_device(PLANT, Role.PLANT, PLANT, plant[PLANT]))
    _save(_folder(out / HEAD_END) / "devices.json", devices)
    return made + new + new_plant


def _with_accounts(microgrid: Microgrid, accounts: Mapping[MeterId, AccountNumber]) -> Microgrid:
    meters = (replace(m, account=accounts.get(m.id, m.account)) for m in microgrid.meters)
    return replace(microgrid, meters=tuple(meters))


def _enrol_microgrid(microgrid: Microgrid, folder: Path) -> tuple[str, int]:
    """Write the files of one microgrid; return its gateway's token and how many tokens are new."""
    meters, new_meters = _tokens(folder / "meter-tokens.json", [str(m.id) for m in microgrid.meters])
    gateway, new_gateway = _tokens(folder / "gateway-tokens.json", [microgrid.id])
    # The tokens are on disk before a broker needs them.
    devices = [_device(str(m.id), Role.METER, microgrid.id, meters[str(m.id)]) for m in microgrid.meters]
    devices.append(_device(microgrid.id, Role.GATEWAY, microgrid.id, gateway[microgrid.id]))
    _save(folder / "devices.json", devices)
    save_registry(folder / "registry.json", registry_of(microgrid))
    return gateway[microgrid.id], new_meters + new_gateway


def _tokens(path: Path, identities: Sequence[str]) -> tuple[dict[str, str], int]:
    """Return the tokens in ``path`` and how many are new; make and write one for each identity without a token."""
    tokens = load_tokens(path) if path.exists() else {}
    new = [identity for identity in identities if identity not in tokens]
    if new:
        tokens |= {identity: new_token() for identity in new}
        save_tokens(path, tokens)
    return tokens, len(new)


def _device(identity: str, role: Role, microgrid: MicrogridId, token: str) -> Device:
    secret = token.encode()
    return Device(
        identity=identity,
        role=role,
        microgrid=microgrid,
        token_sha256=digest(secret),
        mosquitto=mosquitto_digest(secret),
    )


def _save(path: Path, devices: Sequence[Device]) -> None:
    """Write a devices file; revoked devices stay revoked (``commonwatt enroll readmit`` ends that)."""
    known = load_devices(path) if path.exists() else {}
    save_devices(path, [replace(d, revoked=known[d.identity].revoked if d.identity in known else "") for d in devices])


def _folder(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path
