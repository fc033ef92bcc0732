"""A release file: a package that the town's offline authority signed, and differences between two releases.

``NAME.release`` is a line of JSON, the manifest; a line with its signature, hexadecimal; and the package, compressed by
zstd. The package is the same Debian package with uncompressed members, so that two releases differ in few bytes. A
difference is what ``zstd --patch-from`` makes of two such packages.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard
from pydantic import Field, ValidationError

from commonwatt.config.settings import Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import replacing
from commonwatt.runtime.packages import dpkg_deb, fields_of

if TYPE_CHECKING:
    from commonwatt.identity.authority import Authority

PURPOSE = "release"
LEVEL = 19  # zstd's level: a minute for a package, once
WINDOW_LOG = 28  # of zstd: a difference reaches over packages of up to 256 MiB
MOST_BYTES = 1 << WINDOW_LOG  # most bytes of an uncompressed package
_HEADER_BYTES = 8 * 1024  # most bytes of the two lines

_AR = b"!<arch>\n"


class Manifest(Settings):
    """What the authority signs of a release."""

    package: str = Field(pattern="^commonwatt-(controller|utility)$")  # the package's name
    version: str = Field(pattern=r"^[0-9][0-9A-Za-z.+~-]{0,23}$")  # its version, as Debian writes it
    architecture: str = Field(pattern="^[a-z0-9]{1,16}$")  # the processor that it is for
    sha256: str = Field(pattern="^[0-9a-f]{64}$")  # the checksum of the package with uncompressed members
    size_bytes: int = Field(gt=0, le=MOST_BYTES)  # its bytes


@dataclass(frozen=True, kw_only=True)
class Release:
    """A release file that was read; its signature is not checked yet."""

    text: str  # the manifest's line
    signature: str  # its signature, hexadecimal
    manifest: Manifest  # the manifest
    begin: int  # where the compressed package begins in the file, bytes


def sign(package: Path, authority: "Authority") -> Path:
    """Write the release file of a package into this folder; return its path.

    Raises:
        ConfigError: It is no package of ours, or too large.
    """
    (name, number, architecture), content = fields_of(package), uncompressed(package)
    try:
        manifest = Manifest(
            package=name,
            version=number,
            architecture=architecture,
            sha256=hashlib.sha256(content).hexdigest(),
            size_bytes=len(content),
        )
    except ValidationError as error:
        raise ConfigError(f"{package}: is no package of Commonwatt: {error.errors()[0]['msg']}") from error
    text = manifest.model_dump_json()
    path = Path(f"{package.name.removesuffix('.deb')}.release")
    with replacing(path, mode=0o644) as file:
        file.write(f"{text}\n{authority.signature(PURPOSE, text.encode()).hex()}\n".encode())
        parameters = zstandard.ZstdCompressionParameters.from_level(LEVEL, window_log=27, enable_ldm=True)
        file.write(zstandard.ZstdCompressor(compression_params=parameters).compress(content))
    return path


def read(path: Path) -> Release:
    """Read the head of a release file.

    Raises:
        ConfigError: It is missing or none.
    """
    try:
        with path.open("rb") as file:
            text, signature, _ = file.read(_HEADER_BYTES).split(b"\n", 2)
        manifest = Manifest.model_validate_json(text)
        begin = len(text) + len(signature) + 2
        return Release(text=text.decode(), signature=signature.decode("ascii"), manifest=manifest, begin=begin)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no release file; make it at the office with: commonwatt site sign") from error


def check(text: str, signature: str, authority: bytes) -> Manifest:
    """Return a manifest after a check that the authority (PEM) signed it.

    Raises:
        ConfigError: It did not, or the text is none.
    """
    try:
        # Loaded with the first release: the library takes 15 MiB.
        from commonwatt.identity.certificates import check_signed

        check_signed(authority, PURPOSE, text.encode(), bytes.fromhex(signature))
        return Manifest.model_validate_json(text)
    except ValueError as error:
        raise ConfigError("the release has no readable manifest or signature") from error


def assemble(manifest: Manifest, fetched: Path, base: Path | None, target: Path, begin: int = 0) -> None:
    """Write the package of a fetched file durably, and check it.

    Args:
        fetched: The compressed package, or a difference.
        base: The package to which it is a difference; ``None``: it is whole.
        begin: Where it begins in its file, bytes.

    Raises:
        ConfigError: What it gives is another package than the manifest's.
    """
    words = None if base is None else zstandard.ZstdCompressionDict(base.read_bytes(), zstandard.DICT_TYPE_RAWCONTENT)
    reader = zstandard.ZstdDecompressor(dict_data=words, max_window_size=1 << WINDOW_LOG)
    digest, size_bytes = hashlib.sha256(), 0
    try:
        with fetched.open("rb") as file, replacing(target) as package:
            file.seek(begin)
            for block in reader.read_to_iter(file):
                digest.update(block)
                size_bytes += len(block)
                if size_bytes > manifest.size_bytes:
                    raise ConfigError(f"{fetched}: is longer than its manifest says")
                package.write(block)
            if digest.hexdigest() != manifest.sha256:
                raise ConfigError(f"{fetched}: has another checksum than its manifest says")
    except zstandard.ZstdError as error:
        raise ConfigError(f"{fetched}: is damaged: {error}") from error


def uncompressed(package: Path) -> bytes:
    """Return a Debian package with uncompressed members.

    Raises:
        ConfigError: It is none, or ``dpkg-deb`` is not installed.
    """
    with package.open("rb") as file:
        owner = file.read(56)[24:]  # of the first member: time, user, group, mode
    made = [_AR]
    for name, content in (
        ("debian-binary", b"2.0\n"),
        ("control.tar", dpkg_deb("--ctrl-tarfile", package)),
        ("data.tar", dpkg_deb("--fsys-tarfile", package)),
    ):
        made += [f"{name:16}".encode(), owner, f"{len(content):<10}`\n".encode(), content, b"\n" * (len(content) % 2)]
    return b"".join(made)
