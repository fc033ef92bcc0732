"""What the care of controllers keeps: used codes, what is placed for whom, releases that are served piece by piece."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from commonwatt.care.connection import PIECE_BYTES
from commonwatt.care.release import ReleaseFile, ReleaseManifest, check, read
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import ControllerId, EpochSeconds
from commonwatt.protocol.controller_commands import Action
from commonwatt.runtime.files import replace_file
from utility.care.api.listener import CareRefusal, CareRequest, Handler
from utility.care.tables import used_code
from utility.database.database import insert_or
from utility.outbox.store import SENT_S, Told, Wanted, told_of
from utility.registry.store.registry import controllers


@dataclass(frozen=True, kw_only=True)
class Use:
    """The use of a code."""

    lookup: str  # under which the utility finds the code
    place: str  # the controller that it is of
    keys: str  # digest of the public keys that asked
    address: str  # where the request came from
    used: EpochSeconds  # when, machine's epoch seconds


def use_code(connection: Connection, use: Use) -> Use:
    """Store the use of a code, unless it was used before; return its first use."""
    connection.execute(insert_or(connection, used_code).on_conflict_do_nothing(), vars(use))
    row = connection.execute(select(used_code).where(used_code.c.lookup == use.lookup)).one()
    return Use(lookup=row.lookup, place=row.place, keys=row.keys, address=row.address, used=row.used)


_UNPACK = "unpack"  # the topic of what controllers are told of their bundles


def wanted_bundles(connection: Connection, folder: Path, now: EpochSeconds) -> list[Wanted]:
    """Return which registered controllers are to unpack which of the bundles in the folder."""
    found = {path.stem: digest(path.read_bytes()) for path in sorted(folder.glob("*.bundle"))}
    return [
        Wanted(controller=name, topic=_UNPACK, fields={"cmd": Action.UNPACK, "sha256": sha256}, content=sha256,
               until=now + SENT_S)
        for name in controllers(connection)
        if (sha256 := found.get(name)) is not None
    ]  # fmt: skip


def told_bundle(connection: Connection, folder: Path, controller: ControllerId) -> Told | None:
    """Return what a controller was told of its newest bundle in the folder; ``None``: nothing yet."""
    newest = [one.content for one in wanted_bundles(connection, folder, 0) if one.controller == controller]
    told = (one for one in told_of(connection, _UNPACK) if one.controller == controller and [one.content] == newest)
    return next(told, None)


_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
MOST_ARCHITECTURES = 3  # most processors of a town's controllers


def publish(file: Path, folder: Path, authority: Path) -> ReleaseManifest:
    """Take a release into the folder.

    Args:
        authority: The town's authority (PEM).

    Raises:
        ConfigError: The authority did not sign it, or it is damaged.
    """
    found = read(file)
    manifest = check(found.text, found.signature, authority.read_bytes())
    content = file.read_bytes()
    if hashlib.sha256(content[found.begin :]).hexdigest() != manifest.sha256:
        raise ConfigError(f"{file}: is damaged: it has another checksum than its manifest says; copy it again")
    folder.mkdir(exist_ok=True)
    replace_file(_path(folder, manifest.sha256), content)
    return manifest


def withdraw(folder: Path, version: str) -> None:
    """Remove a controllers' release: a controller that lacks some of it is refused the rest.

    Raises:
        ConfigError: It is not published.
    """
    manifests = [each.manifest for each in published(folder) if each.manifest.package == "commonwatt-controller"]
    if not (found := [each.sha256 for each in manifests if each.version == version]):
        raise ConfigError(f"{version}: is not published")
    for sha256 in found:
        _path(folder, sha256).unlink()


def published(folder: Path) -> list[ReleaseFile]:
    """Return the releases in the folder."""
    return [read(path) for path in sorted(folder.glob("*.release"))]


def release_of(folder: Path, version: str) -> tuple[str, str]:
    """Return a controllers' release: its version, and the checksums of its packages, one for each processor.

    Raises:
        ConfigError: It was not published, or twice for a processor.
    """
    manifests = [each.manifest for each in published(folder) if each.manifest.package == "commonwatt-controller"]
    found = {each.architecture: each.sha256 for each in manifests if each.version == version}
    if not found:
        known = ", ".join(sorted({each.version for each in manifests})) or "none"
        raise ConfigError(f"{version}: is not published; there are: {known}", "first: commonwatt fleet publish")
    if len(found) < sum(each.version == version for each in manifests):
        raise ConfigError(f"{version}: two packages of it are published for one processor; remove one from {folder}")
    return version, ",".join(found.values())


def routes_of(folder: Path) -> Mapping[tuple[str, str], Handler]:
    """Return what serves releases at the care listener."""
    return {
        ("POST", "release"): lambda request: offer(folder, request.content),
        ("GET", "release"): lambda request: piece(folder, request),
    }


def offer(folder: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest of a release for a controller's processor, and its signature.

    Raises:
        Refused: There is no such release.
    """
    wanted = [
        sha256 for sha256 in str(asked.get("sha256")).split(",")[:MOST_ARCHITECTURES] if _SHA256.fullmatch(sha256)
    ]
    releases = [read(_path(folder, sha256)) for sha256 in wanted if _path(folder, sha256).exists()]
    found = next((each for each in releases if each.manifest.architecture == asked.get("architecture")), None)
    if found is None:
        raise CareRefusal(
            f"no such release for {str(asked.get('architecture'))[:16]} is at the utility, or not any more"
        )
    return {"manifest": found.text, "signature": found.signature}


def piece(folder: Path, request: CareRequest) -> bytes:
    """Return the bytes of a release's package from a place on.

    Raises:
        Refused: There is no such file, or no such place.
    """
    sha256, begin = request.rest if len(request.rest) == 2 else ("", "")
    path = _path(folder, sha256)
    if not _SHA256.fullmatch(sha256) or not re.fullmatch("[0-9]{1,12}", begin, re.ASCII) or not path.exists():
        raise CareRefusal("there is no such release, or not any more")
    head = read(path).begin
    with path.open("rb") as file:
        file.seek(head + int(begin))
        return file.read(PIECE_BYTES)


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}.release"
