"""Installs a bundle on its machine. Everything is checked before the first write; a second time changes nothing.

Stores and other data in the folders stay. ``installed.json`` has the last manifest; it is written when all is done,
so that an interrupted run is repeated whole, restarts included.
"""

import errno
import json
import os
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from commonwatt.config.files import check_file, check_model, check_named_files, parse_toml
from commonwatt.config.settings import Settings, command_of
from commonwatt.identity.authority import CA_FILE, REVOKED_FILE
from commonwatt.identity.certificates import details_of, listed_issuers
from commonwatt.identity.chains import check_issued
from commonwatt.identity.devices import digest
from commonwatt.identity.renewing import CertificateFile
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import counted, moment
from commonwatt.model.units import MADE, EpochSeconds
from commonwatt.protocol.topics import UTILITY
from commonwatt.runtime.files import replace_file
from commonwatt.runtime.service import only_one
from commonwatt.site.bundle import Bundle, BundleManifest
from commonwatt.site.machine import AUTHORITY, PROGRAM, STATE, USER, Machine, missing_program
from commonwatt.site.places import (
    ADAPTER_FILE,
    BACKUP_TIMER,
    HEADER,
    MADE_THERE,
    TOWN_FILE,
    folders_of,
    is_on_sqlite,
    services_of,
)

INSTALLED = "installed.json"  # what was unpacked last, in the folder of the services' data
_AHEAD_S = 86_400  # most seconds by which a bundle may be ahead of this machine's clock

_WANTS = ("/etc/systemd/system/multi-user.target.wants", "/etc/systemd/system/timers.target.wants")


class UnpackedLast(Settings):
    """What was unpacked last."""

    manifest: BundleManifest  # the bundle's manifest
    program: str  # the version of the program that unpacked it


@dataclass(frozen=True, kw_only=True)
class Unpacking:
    """A bundle that may be installed on a machine."""

    bundle: Bundle  # the bundle
    machine: Machine  # the machine
    before: UnpackedLast | None  # what was unpacked there last; ``None``: nothing
    program: str  # the version of this program

    @property
    def place(self) -> str:
        """A microgrid's id, or ``utility``."""
        return self.bundle.manifest.place

    @property
    def has_adapter(self) -> bool:
        """Whether the machine has an adapter by the site file."""
        return f"{self.place}/{ADAPTER_FILE}" in self.bundle.files

    def changed(self) -> list[str]:
        """Return the names of files that differ from those unpacked last, or from those that are there."""
        known = {} if self.before is None else self.before.manifest.files
        return [
            name
            for name, content in self.bundle.files.items()
            if _content(self.machine.state / name) != content
            # Own certificates stand in no manifest.
            or known.get(name) != digest(content) == self.bundle.manifest.files.get(name)
        ]

    def install(self, say: Callable[[str], None]) -> list[list[str]]:
        """Write the files; return the commands that start the services.

        Args:
            say: Takes lines for the technician.
        """
        changed, machine = self.changed(), self.machine
        machine.install_program()
        owner = machine.owner()
        units_changed = machine.install_units()
        with ExitStack() as held:
            held.enter_context(machine.folder(machine.state, owner))
            own = folders_of(self.place)
            folders = {name: held.enter_context(machine.folder(machine.state / name, owner)) for name in own}
            held.enter_context(only_one(machine.state / INSTALLED, "another unpack"))
            machine.install_authority(self.bundle.files[f"{own[0]}/{CA_FILE}"])
            for name in changed:
                path = folders[str(Path(name).parent)] / Path(name).name
                self._keep_edited(name, path, say, owner)
                if path.name in MADE_THERE:
                    CertificateFile(path, path.with_name(CA_FILE), self.place).forget()
                replace_file(path, self.bundle.files[name], owner=owner)
        count = counted(len(self.bundle.files), "file")
        say(f"{self.place}: {count} in {machine.state}, of them changed: {len(changed)}")
        return list(self._commands(changed, units_changed=units_changed))

    def by_hand(self) -> Iterator[str]:
        """Yield the commands that run its services where there is no systemd; Mosquitto is no command of ours."""
        wanted = ("broker", "gateway", "utility", "adapter")[self.bundle.manifest.mosquitto :]
        names = {Path(name).stem: name for name in self.bundle.files if name.endswith(".toml")}
        for part in wanted:
            if part in names:
                yield f"{command_of(part)} --config {shlex.quote(str(self.machine.state / names[part]))}"

    def finish(self) -> None:
        """Record that this bundle was unpacked."""
        installed = UnpackedLast(manifest=self.bundle.manifest, program=self.program)
        replace_file(self.machine.state / INSTALLED, installed.model_dump_json(indent=1).encode())

    def _keep_edited(self, name: str, path: Path, say: Callable[[str], None], owner: tuple[int, int] | None) -> None:
        """Keep a settings file that was written or changed here by a person."""
        there = _content(path)
        known = None if self.before is None else self.before.manifest.files.get(name)
        if there is None or not name.endswith(".toml") or there == self.bundle.files[name] or digest(there) == known:
            return
        kept = path.with_name(f"{path.name}.before")
        replace_file(kept, there, owner=owner)
        shown = self.machine.state / name
        say(f"{shown}: was changed on this machine; kept as {kept.name}. Put its own keys into the office's site.toml")

    def _commands(self, changed: list[str], *, units_changed: bool) -> Iterator[list[str]]:
        mosquitto = self.bundle.manifest.mosquitto
        # An adapter that a person set up on the machine is left alone.
        there = _content(self.machine.state / self.place / ADAPTER_FILE) or b""
        units = services_of(self.place, mosquitto=mosquitto, adapter=self.has_adapter)
        may_be = services_of(self.place, mosquitto=not mosquitto, adapter=there.startswith(HEADER.encode()))
        others = [unit for unit in may_be if unit not in units]
        if self.place == UTILITY:
            settings = f"{UTILITY}/utility.toml"
            on_sqlite = is_on_sqlite(parse_toml(settings, self.bundle.files[settings].decode()))
            (units if on_sqlite else others).append(BACKUP_TIMER)
        yield ["systemctl", "daemon-reload"]
        for other in others:
            if any(self.machine.path(f"{folder}/{other}").is_symlink() for folder in _WANTS):
                yield ["systemctl", "disable", "--now", other]
        if self.place == UTILITY:
            files = (f"{STATE}/{UTILITY}/{TOWN_FILE}", f"{STATE}/{UTILITY}/utility.toml")
            register = ["utility", "register", "--town", files[0], "--config", files[1]]
            yield ["runuser", "-u", USER, "--", PROGRAM, *register]
        yield ["systemctl", "enable", *units]
        program_changed = self.before is None or self.before.program != self.program
        restarted = units if units_changed or program_changed else [u for u in units if _needs_restart(u, changed)]
        if restarted:
            yield ["systemctl", "restart", *restarted]
        if started := [unit for unit in units if unit not in restarted]:
            yield ["systemctl", "start", *started]


def prepare(
    bundle: Bundle,
    machine: Machine,
    program: str,
    now: EpochSeconds,
    *,
    authority: str | None = None,
    own: Mapping[str, bytes] | None = None,
) -> Unpacking:
    """Check that a bundle may be installed on a machine; nothing is written.

    Args:
        program: The version of this program.
        authority: The fingerprint of the town's authority as the office stated it; ``None``: not stated, the
            authority that is installed counts.
        own: Certificates that this machine just got for its own keys, by file; ``None``: what is valid of those that it
            got before stays, in place of the bundle's.

    Raises:
        ConfigError: It is of another machine, town or authority, older than the last one, or of the future; or a file
            in it is wrong.
    """
    before = installed_on(machine)
    _refuse_other(bundle.manifest, machine.state)
    _check_authority(bundle.manifest, machine, authority)
    # A machine without a clock battery starts in the past, until it has the network's time.
    if now >= MADE and bundle.manifest.made > now + _AHEAD_S:
        raise ConfigError(
            f"the bundle was packed {moment(bundle.manifest.made)}, but this machine's clock says {moment(now)}; set "
            "the wrong clock; if it is the office's, pack the bundle again"
        )
    if before is not None and bundle.manifest.made < before.manifest.made:
        raise ConfigError(
            f"the bundle was packed {moment(bundle.manifest.made)}, before the one that is installed "
            f"({moment(before.manifest.made)}), and may admit revoked devices; pack it again at the office"
        )
    if machine.runs:
        machine.check_program()
        if bundle.manifest.mosquitto and missing_program("mosquitto"):
            raise ConfigError("Mosquitto is not installed; first: sudo apt-get install mosquitto")
    own = _own(bundle, machine, now) if own is None else own
    bundle = replace(bundle, files={**bundle.files, **own})
    with tempfile.TemporaryDirectory() as name:
        _check_files(bundle, Path(name))
    return Unpacking(bundle=bundle, machine=machine, before=before, program=program)


def _own(bundle: Bundle, machine: Machine, now: EpochSeconds) -> dict[str, bytes]:
    """Return the machine's certificates of the enrolment authority that are valid, with their keys, by file."""
    place, found, now = bundle.manifest.place, {}, max(now, bundle.manifest.made)
    for name in (f"{place}/{one}" for one in MADE_THERE):
        content = _content(machine.state / name) or b""
        try:
            own, issuer = details_of(content)
            ca, revocations = (bundle.files[f"{place}/{one}"] for one in (CA_FILE, REVOKED_FILE))
            check_issued(content, ca, revocations, place)
        except (ConfigError, ValueError, KeyError):
            continue  # There is none, or it is revoked: what the bundle has counts.
        # The bundle's broker may have another address.
        wanted = details_of(bundle.files[name])[0].names if name in bundle.files else ()
        if own.ends > now and issuer.names[0] in listed_issuers(revocations) and {*wanted} <= {*own.names}:
            found[name] = content
    return found


def installed_on(machine: Machine) -> UnpackedLast | None:
    """Return what was unpacked last on a machine; ``None``: nothing."""
    path = machine.state / INSTALLED
    if (content := _content(path)) is None:
        return None
    try:
        return check_model(path, UnpackedLast, json.loads(content))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not what was unpacked last; delete it") from error


def _refuse_other(manifest: BundleManifest, state: Path) -> None:
    """Refuse a bundle of another place or town than the installed one."""
    own = folders_of(manifest.place)
    found = {path.parent.name for part in ("gateway", "utility") for path in state.glob(f"*/{part}.toml")}
    if others := found - set(own):
        other = min(others)
        raise ConfigError(
            f"the bundle is of {manifest.place}, but this machine is of {other}; to make it the machine of "
            f"{manifest.place}, stop its services and move {state / other} away, with the data in it"
        )


def _check_authority(manifest: BundleManifest, machine: Machine, stated: str | None) -> None:
    """Check that the installed authority signed the bundle; before the first installation, the stated one."""
    files = [machine.path(AUTHORITY), *(machine.state / name / CA_FILE for name in folders_of(manifest.place))]
    installed = {path: content for path in files if (content := _content(path)) is not None}
    for path, content in installed.items():
        if digest(content) != manifest.authority:
            raise ConfigError(
                f"the bundle is of another town or authority ({manifest.town}) than {path}; if this is right, delete "
                "that file"
            )
    if stated is None and not installed:
        raise ConfigError(
            "this machine has no authority yet. The bundle was signed by the authority of "
            f"{manifest.town}, fingerprint {manifest.authority}. Compare it with the one that the office's `site pack` "
            "printed; if they are the same, repeat the command with --authority and the fingerprint"
        )
    if stated is not None and stated.strip().lower() != manifest.authority:
        raise ConfigError(f"refused: the bundle was signed by another authority, fingerprint {manifest.authority}")


def _check_files(bundle: Bundle, folder: Path) -> None:
    for name, content in bundle.files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    for name in bundle.files:
        if name.endswith(".toml") and not name.endswith(f"/{TOWN_FILE}"):
            check_named_files(folder / name, check_file(folder / name))


def _needs_restart(unit: str, changed: list[str]) -> bool:
    """Return whether a unit only loads these files at its start: settings, tokens, and all that Mosquitto reads."""
    kind, _, folder = unit.removesuffix(".service").removeprefix("commonwatt-").partition("@")
    if kind == "mosquitto":
        return any(name.startswith(f"{folder}/") for name in changed)
    if kind == "adapter" and any(name.endswith(".password") for name in changed):
        return True
    return any(f"{folder or kind}/{kind}{end}" in changed for end in (".toml", "-tokens.json"))


def _content(path: Path) -> bytes | None:
    """Return a file's content; ``None``: there is no plain file.

    A link is not followed: root reads here what the services' user can write, and its copy must not be of another file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
            return None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read()
