"""The utility's releases for controllers: published, and served whole or as a difference to an installed one.

The folder has ``SHA256.release`` of each release and ``SHA256-BASE.patch`` of each difference that is smaller. A
difference is made once, when a release is published, by the program ``zstd``.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from commonwatt.care.connection import PIECE_BYTES
from commonwatt.care.release import WINDOW_LOG, Manifest, Release, assemble, check, read
from commonwatt.model.exceptions import ConfigError
from utility.care.api.listener import CareRequest, Handler, Refused

_SHA256 = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE = re.compile(r"[0-9a-f]{64}(-[0-9a-f]{64}\.patch|\.release)", re.ASCII)
MOST_ARCHITECTURES = 3  # most processors of a town's controllers
_LEVEL = "-9"  # zstd's level of a difference: seconds, within a tenth of the smallest


def publish(file: Path, folder: Path, authority: Path, say: Callable[[str], None]) -> Manifest:
    """Take a release into the folder, with its differences to each other release of its package.

    Args:
        authority: The town's authority (PEM).
        say: Takes lines for the person.

    Raises:
        ConfigError: The authority did not sign it, it is damaged, or ``zstd`` is not installed.
    """
    if shutil.which("zstd") is None:
        raise ConfigError("zstd is not installed; first: sudo apt-get install zstd")
    found = read(file)
    manifest = check(found.text, found.signature, authority.read_bytes())
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        new, old = Path(name) / "new.deb", Path(name) / "old.deb"
        assemble(manifest, file, None, new, found.begin)
        for other in published(folder):
            is_other = other.manifest.sha256 != manifest.sha256
            same = (other.manifest.package, other.manifest.architecture) == (manifest.package, manifest.architecture)
            if is_other and same:
                base = other.manifest
                assemble(base, _path(folder, base.sha256), None, old, other.begin)
                made = Path(name) / "patch"
                _difference(old, new, made)
                if made.stat().st_size < file.stat().st_size:
                    size_bytes = made.stat().st_size
                    made.replace(folder / f"{manifest.sha256}-{base.sha256}.patch")
                    say(f"from {base.version}: {size_bytes / 1e6:.2f} MB")
        shutil.copyfile(file, Path(name) / "release")
        (Path(name) / "release").replace(_path(folder, manifest.sha256))
    say(f"whole: {file.stat().st_size / 1e6:.2f} MB")
    return manifest


def _difference(old: Path, new: Path, made: Path) -> None:
    words = ["zstd", "-q", "-f", _LEVEL, f"--long={WINDOW_LOG - 1}", f"--patch-from={old}", str(new)]
    done = subprocess.run([*words, "-o", str(made)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"zstd failed: {done.stderr.strip()[-200:]}")


def published(folder: Path) -> list[Release]:
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
    """Return the file that leads a controller to a release: the smallest for what is installed there.

    Raises:
        Refused: There is no such release.
    """
    wanted = [
        sha256 for sha256 in str(asked.get("sha256")).split(",")[:MOST_ARCHITECTURES] if _SHA256.fullmatch(sha256)
    ]
    releases = [read(_path(folder, sha256)) for sha256 in wanted if _path(folder, sha256).exists()]
    found = next((each for each in releases if each.manifest.architecture == asked.get("architecture")), None)
    if found is None:
        raise Refused(f"there is no such release for {str(asked.get('architecture'))[:16]} at the utility")
    sha256, base = found.manifest.sha256, str(asked.get("base"))
    patch = folder / f"{sha256}-{base}.patch"
    has_patch = _SHA256.fullmatch(base) is not None and patch.exists()
    path = patch if has_patch else _path(folder, sha256)
    return {
        "manifest": found.text,
        "signature": found.signature,
        "path": f"/release/{path.name}",
        "size_bytes": path.stat().st_size - (0 if has_patch else found.begin),
        "base": base if has_patch else None,
    }


def piece(folder: Path, request: CareRequest) -> bytes:
    """Return the bytes of an offered file from a place on.

    Raises:
        Refused: There is no such file, or no such place.
    """
    name, begin = request.rest if len(request.rest) == 2 else ("", "")
    path = folder / name
    if not _FILE.fullmatch(name) or not re.fullmatch("[0-9]{1,12}", begin, re.ASCII) or not path.exists():
        raise Refused("there is no such file of a release")
    head = read(path).begin if name.endswith(".release") else 0
    with path.open("rb") as file:
        file.seek(head + int(begin))
        return file.read(PIECE_BYTES)


def _path(folder: Path, sha256: str) -> Path:
    return folder / f"{sha256}.release"
