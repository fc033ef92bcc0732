"""A bundle: one file with everything that one machine needs, its manifest first; it contains secrets.

It is a gzip-compressed tar archive: ``manifest.json``, its signature by the town's authority, then the files that the
manifest names, each ``FOLDER/NAME``. Reading checks all of it before any use: a bundle is refused whole, or its content
is exactly what an authority signed. Which authority that may be, ``unpack`` decides.
"""

import gzip
import io
import json
import re
import tarfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from commonwatt.config.files import check_file, check_named_files, load_settings, named_files, place_of
from commonwatt.config.settings import MicrogridName, Settings, settings_of
from commonwatt.identity.authority import CA_FILE, ENROLMENT_FILE, FOLDER, Authority
from commonwatt.identity.certificates import check_signed
from commonwatt.identity.devices import digest
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.topics import MICROGRID_PATTERN, UTILITY
from commonwatt.runtime.files import replace_file
from commonwatt.site.places import (
    ADAPTER_FILE,
    FILE,
    SECOND,
    TOWN_FILE,
    folders_of,
    load_site,
    part_files,
    places_of,
    runs_mosquitto,
    sources_of,
)

MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"

JOINS_FILE = "joins.json"  # what the utility needs of the open codes with which controllers join
BUNDLES = "bundles"  # of the utility of a street, which serves each controller its own: PLACE.bundle
OF_CARE = (ENROLMENT_FILE, JOINS_FILE)  # of the authority's folder, for the utility in a town with care

_PURPOSE = "bundle"

MAX_BYTES = 64 * 1024 * 1024  # most bytes of a bundle's content; the largest town's utility has less than one MiB

_OF_SOURCE = r"source(?:-[a-z0-9-]+)?\.password"  # the password at an adapter's source
_FILE_NAME = re.compile(rf"{MICROGRID_PATTERN}/(?:[a-z0-9][a-z0-9_-]*\.(?:json|pem|toml)|{_OF_SOURCE})", re.ASCII)
_OF_ADAPTER = re.compile(rf"adapter(?:-tokens\.json|\.toml)|{_OF_SOURCE}", re.ASCII)
_NUMBERS = re.compile(r"\d+")


class BundleManifest(Settings):
    """The description in a bundle."""

    format: Literal[1] = 1  # the bundle's format
    version: str  # the version of the program that packed it
    place: MicrogridName  # a microgrid's id, or ``utility``
    town: str  # the town's name
    authority: str  # the fingerprint of the authority that signed it (SHA-256 of ``ca.pem``): which town it is of
    made: EpochSeconds  # when it was packed, epoch seconds
    mosquitto: bool  # whether Mosquitto is the machine's broker
    files: dict[str, str]  # the checksum of each file (SHA-256)

    def says_as(self, other: "BundleManifest") -> bool:
        """Return whether another one says the same, packed at another time."""
        return self.model_copy(update={"made": other.made}) == other


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was read and checked."""

    manifest: BundleManifest  # its description
    files: Mapping[str, bytes]  # the content of each file, by its name ``FOLDER/NAME``


def pack(folder: Path, place: str, now: EpochSeconds, without: Collection[str] = ()) -> Bundle:
    """Return the bundle of a place from the office's folder, without the meters' secrets.

    Args:
        without: Names of files that the machine makes by itself.

    Raises:
        ConfigError: The place is unknown, or one of its files is missing or wrong.
    """
    site, town = load_site(folder / FILE)
    if place not in places_of(site, town):
        known = ", ".join(places_of(site, town)[:11])
        raise ConfigError(f"{folder / FILE}: has no {place}; there are {known}")
    if not all((folder / source / CA_FILE).exists() for source in sources_of(place).values()):
        raise ConfigError(f"{folder}: has no files of {place} yet; first: commonwatt site init")
    carried = {name: path for name, path in _carried(folder, place).items() if path.name not in without}
    if site.site.care is not None and UTILITY in sources_of(place):
        cared = (folder / FOLDER / name for name in OF_CARE)
        carried |= {f"{UTILITY}/{path.name}": path for path in cared if path.exists()}
    if f"{place}/{ADAPTER_FILE}" not in {part.name for part in part_files(site, town)}:
        # What is left of an adapter that the site file has no more.
        carried = {name: path for name, path in carried.items() if not _OF_ADAPTER.fullmatch(path.name)}
    files = {name: path.read_bytes() for name, path in carried.items()}
    for name, path in carried.items():
        if name.endswith(".toml") and name != f"{UTILITY}/{TOWN_FILE}":
            check_named_files(path, part := check_file(path), without)
            _check_carried(path, part, {*carried.values(), *(path.with_name(name) for name in without)})
    manifest_place = UTILITY if place == SECOND else place  # A second machine is one of the utility, too.
    manifest = BundleManifest(
        version=version("commonwatt"),
        place=manifest_place,
        town=site.town.name,
        authority=digest(files[f"{folders_of(manifest_place)[0]}/{CA_FILE}"]),
        made=now,
        mosquitto=runs_mosquitto(site, place),
        files={name: digest(content) for name, content in files.items()},
    )
    return Bundle(manifest=manifest, files=files)


def _carried(folder: Path, place: str) -> dict[str, Path]:
    sources = sources_of(place).items()
    found = {f"{own}/{path.name}": path for own, source in sources for path in (folder / source).iterdir()}
    carried = {name: found[name] for name in sorted(found) if _FILE_NAME.fullmatch(name) and "/meter" not in name}
    return carried | ({f"{UTILITY}/{TOWN_FILE}": folder / TOWN_FILE} if place in (UTILITY, SECOND) else {})


def _check_carried(path: Path, part: str, carried: set[Path]) -> None:
    for keys, file, _ in named_files(load_settings(path, part, settings_of(part))):
        if file.parent == path.parent.resolve() and path.with_name(file.name) not in carried:
            why = f"a bundle has no {file.name}; name a password's file source-NAME.password, another NAME.pem"
            raise ConfigError(f"{place_of(path, part, *keys)}: {why}")


def write_bundle(bundle: Bundle, path: Path, authority: Authority) -> None:
    """Sign a bundle, and write it in one step; only this user can read it."""
    replace_file(path, signed(bundle, authority))


def signed(bundle: Bundle, authority: Authority) -> bytes:
    """Return the content of a bundle's file, signed by the town's authority."""
    manifest = bundle.manifest.model_dump_json(indent=1).encode()
    own = {MANIFEST: manifest, SIGNATURE: authority.signature(_PURPOSE, manifest)}
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, content in {**own, **bundle.files}.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o600, bundle.manifest.made
            archive.addfile(member, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=bundle.manifest.made)


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and check all of it.

    Raises:
        ConfigError: It is missing, damaged, incomplete, unsigned or of a newer version, or contains something else
            than files of its place.
    """
    try:
        contents = _contents(path)
        text, signature = contents.pop(MANIFEST), contents.pop(SIGNATURE, None)
        manifest = _manifest(path, text)
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, TypeError, ValueError, RecursionError) as error:
        what = (isinstance(error, OSError) and error.strerror) or "damaged, incomplete or no bundle; copy it again"
        raise ConfigError(f"{path}: {what}") from error
    folders = folders_of(manifest.place)
    foreign = [n for n in contents if not _FILE_NAME.fullmatch(n) or n.partition("/")[0] not in folders]
    if foreign:
        raise ConfigError(f"{path}: refused: it has the file {foreign[0]!r}, which no {manifest.place} needs")
    if manifest.files != {name: digest(content) for name, content in contents.items()}:
        raise ConfigError(f"{path}: damaged: its files differ from its manifest; copy it again, or pack it again")
    _check_signature(path, manifest, text, signature, contents.get(f"{folders[0]}/{CA_FILE}", b""))
    return Bundle(manifest=manifest, files=contents)


def _check_signature(
    path: Path, manifest: BundleManifest, text: bytes, signature: bytes | None, authority: bytes
) -> None:
    if signature is None:
        raise ConfigError(f"{path}: refused: it is not signed; pack it again at the office")
    if digest(authority) != manifest.authority:
        raise ConfigError(f"{path}: refused: it names another authority than its {CA_FILE}")
    try:
        check_signed(authority, _PURPOSE, text, signature)
    except ConfigError as error:
        raise ConfigError(f"{path}: refused: its authority did not sign it ({error}); get it from the office") from None


def _contents(path: Path) -> dict[str, bytes]:
    """Return each file of the archive, in memory: nothing is extracted by a name that the archive states."""
    with gzip.open(path) as stream:
        # To the end, so that the checksum of the whole is checked.
        text = stream.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise ConfigError(f"{path}: refused: it has more than {MAX_BYTES} bytes")
    contents: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(text), mode="r:") as archive:
        for member in archive:
            # A sparse file has few bytes in the archive, and any number when it is read.
            file = archive.extractfile(member) if member.isreg() and not member.issparse() else None
            if file is None or member.name in contents:
                raise ConfigError(f"{path}: refused: {member.name!r} is no plain file, or is there twice")
            contents[member.name] = file.read()
    return contents


def _manifest(path: Path, text: bytes) -> BundleManifest:
    """Check the version first: a newer version may have another manifest."""
    found = json.loads(text)
    packed, own = str(found["version"]), version("commonwatt")
    if _ordered(packed) > _ordered(own):
        raise ConfigError(
            f"{path}: was packed by version {packed}, newer than this program's {own}; install version {packed} first"
        )
    try:
        return BundleManifest.model_validate(found)
    except ValidationError as error:
        # Without the cause: pydantic's error quotes the value found.
        raise ConfigError(f"{path}: damaged: no valid manifest ({error.error_count()} faults)") from None


def _ordered(text: str) -> list[int]:
    return [int(number) for number in _NUMBERS.findall(text)[:3]]
