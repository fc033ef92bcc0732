"""A street's backup: one encrypted file of everything in its folder, and a folder made from it.

Adapter, gateway and utility are stopped for milliseconds, while a snapshot of each store is opened: what is restored is
as after a power cut at that moment. The file is a tar archive, compressed by Zstandard, in chunks under AES-256-GCM.
Their key is derived from a passphrase by scrypt; the chunk's number is the nonce, and the last one is marked.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import BinaryIO

import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from commonwatt.config.files import read_toml
from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.network.addresses import split_address
from commonwatt.runtime.files import read_object, replacing, write_private
from commonwatt.runtime.supervisor import handled
from commonwatt.site.devices_broker import DEVICES
from commonwatt.site.places import FILE
from commonwatt.sqlite import copy_of, snapshot

KEY_FILE = "backup-key"  # the key and its salt; backups are made once it is there
BACKUPS = "backups"  # the folder of the backups
NOW_FILE = "backup-now"  # asks the street's supervisor for a backup at once
LAST_FILE = "last.json"  # there: the name of the last backup, or why there is none
KEPT = 7  # backups that are kept
LEAST_LETTERS = 12  # of a passphrase

_MAGIC = b"CWSTREET1\n"
_SALT_BYTES = 16
_CHUNK_BYTES = 1 << 20
_TAG_BYTES = 16  # by which AES-GCM makes a chunk longer
_STOPPED = ("street adapter", "street gateway", "utility")
_WITHOUT = {"logs", BACKUPS, "processes.json", "parts.json", "applied.json", NOW_FILE}
_WITHOUT_ENDS = (".lock", "-wal", "-shm", "-journal", ".new", ".starts")


def set_passphrase(folder: Path, passphrase: str) -> None:
    """Have backups of a street be made from now on, under this passphrase.

    Raises:
        ConfigError: The passphrase is too short.
    """
    if len(passphrase) < LEAST_LETTERS:
        raise ConfigError(f"the passphrase needs at least {LEAST_LETTERS} letters; several words are easy to keep")
    salt = secrets.token_bytes(_SALT_BYTES)
    keys = {"salt": base64.b64encode(salt).decode(), "key": base64.b64encode(_derived(passphrase, salt)).decode()}
    write_private(folder / KEY_FILE, json.dumps(keys))


def kept(folder: Path) -> list[Path]:
    """Return a street's backups, the newest first."""
    return sorted((folder / BACKUPS).glob("street-*.cwb"), reverse=True)


def _derived(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, n=1 << 15, r=8, p=1, dklen=32, maxmem=1 << 26)


def _seal(source: BinaryIO, target: BinaryIO, cipher: AESGCM) -> None:
    """Encrypt a file in chunks; the last one is shorter than the others, and may be empty."""
    for number in count():
        chunk = source.read(_CHUNK_BYTES)
        is_last = len(chunk) < _CHUNK_BYTES
        target.write(cipher.encrypt(number.to_bytes(12), chunk, bytes([is_last])))
        if is_last:
            return


def _open(source: BinaryIO, target: BinaryIO, cipher: AESGCM) -> None:
    for number in count():
        chunk = source.read(_CHUNK_BYTES + _TAG_BYTES)
        is_last = len(chunk) < _CHUNK_BYTES + _TAG_BYTES
        try:
            target.write(cipher.decrypt(number.to_bytes(12), chunk, bytes([is_last])))
        except (InvalidTag, ValueError) as error:
            why = "the backup is damaged" if number else "the passphrase is another one, or the backup is damaged"
            raise ConfigError(why) from error
        if is_last:
            return


def back_up(folder: Path, day: str) -> Path:
    """Write a street's backup, and delete the oldest; return its path.

    Raises:
        ConfigError: No passphrase was set.
        OSError: It can't be written; backups of before stay.
    """
    keys = read_object(folder / KEY_FILE, "a backup's key", "set a passphrase on the page of backups")
    salt, own = base64.b64decode(str(keys["salt"])), secrets.token_bytes(_SALT_BYTES)
    backups = folder / BACKUPS
    backups.mkdir(mode=0o700, exist_ok=True)
    for left in backups.glob(".*"):  # Of a backup that was killed: it is not encrypted.
        shutil.rmtree(left, ignore_errors=True)
    path = backups / f"street-{day}.cwb"
    with tempfile.TemporaryDirectory(dir=backups, prefix=".") as name:
        packed = Path(name) / "packed"
        with zstandard.open(packed, "wb") as file, tarfile.open(fileobj=file, mode="w|", dereference=True) as archive:
            for member, source in _members(folder, Path(name)):
                with suppress(FileNotFoundError):  # It was replaced just now.
                    archive.add(source, member, recursive=False)
        with packed.open("rb") as plain, replacing(path) as sealed:
            sealed.write(_MAGIC + salt + own)
            _seal(plain, sealed, AESGCM(hmac.digest(base64.b64decode(str(keys["key"])), own, "sha256")))
    for old in kept(folder)[KEPT:]:
        old.unlink()
    return path


def _members(folder: Path, spare: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file's name in the archive, and the file; of a store, a copy of its snapshot."""
    with ExitStack() as held:
        # Mosquitto's store is no SQLite; it is replaced whole.
        stores = [path for path in sorted(folder.glob("*/*.db")) if path.parent.name != DEVICES]
        with _stopped(folder):
            opened = {store: held.enter_context(closing(snapshot(store))) for store in stores}
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if name.parts[0] in _WITHOUT or name.name.endswith(_WITHOUT_ENDS) or not (path.is_file() or path.is_dir()):
                continue
            if path in opened:
                copy_of(opened[path], spare / "store")
                yield str(name), spare / "store"
                (spare / "store").unlink()
            else:
                yield str(name), path


@contextmanager
def _stopped(folder: Path) -> Iterator[None]:
    """Stop the parts that have stores, and let them go on."""
    path = folder / "processes.json"
    running = json.loads(path.read_text()) if path.exists() else {}
    pids = [running[name] for name in _STOPPED if name in running]
    try:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def check_backup(file: Path) -> None:
    """Refuse a file that does not begin as a backup of a street."""
    try:
        with file.open("rb") as source:
            if source.read(len(_MAGIC)) != _MAGIC:
                raise ConfigError(f"{file}: this is no backup of a street; nothing was restored")
    except OSError as error:
        raise ConfigError(f"{file}: can't be read: {error.strerror}; nothing was restored") from error


def restore(folder: Path, file: Path, passphrase: str) -> None:
    """Make a street's folder from a backup; the whole backup is read and checked before a file is put in place.

    Args:
        folder: A folder that is missing, or empty.

    Raises:
        ConfigError: The folder has files, the passphrase is another one, or the backup is damaged; nothing was made.
    """
    check_backup(file)
    folder.mkdir(parents=True, exist_ok=True)
    if there := [path.name for path in folder.iterdir() if path.suffix != ".lock"]:
        raise ConfigError(f"{folder}: has files already, such as {min(there)}; a backup needs an empty folder")
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".") as name, file.open("rb") as source:
            packed, new = Path(name) / "packed", Path(name) / "new"
            head = source.read(len(_MAGIC) + 2 * _SALT_BYTES)
            salt, own = head[len(_MAGIC) : -_SALT_BYTES], head[-_SALT_BYTES:]
            with packed.open("wb") as target:
                _open(source, target, AESGCM(hmac.digest(_derived(passphrase, salt), own, "sha256")))
            with zstandard.open(packed) as unpacked, tarfile.open(fileobj=unpacked, mode="r|") as archive:
                archive.extractall(new, filter="data")
            _check_port(new / FILE)
            for path in sorted(new.iterdir()):
                path.rename(folder / path.name)
    except (ConfigError, OSError, tarfile.TarError, zstandard.ZstdError) as error:
        raise ConfigError(f"{file}: {getattr(error, 'strerror', None) or error}; nothing was restored") from error


def _check_port(site: Path) -> None:
    """Refuse the site file of a street whose pages' port is in use, such as by the street that was backed up."""
    host, port = split_address(str(read_toml(site)["utility"]["http"]))
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise ConfigError(f"its pages are at {host}:{port}, which is in use: end the street that runs there") from error


def main() -> None:
    """Make the backup of a folder, and write down what became of it."""
    os.umask(0o077)
    folder, day = Path(sys.argv[1]), time.strftime("%Y-%m-%d")
    last: dict[str, str] = {"name": "", "fault": ""}
    try:
        # When it is ended the stopped parts go on, and nothing that is not encrypted stays.
        with handled(lambda *_: sys.exit(1), signal.SIGTERM):
            last["name"] = back_up(folder, day).name
    except (CommonwattError, OSError) as error:
        last["fault"] = str(error)
    with suppress(OSError):
        write_private(folder / BACKUPS / LAST_FILE, json.dumps(last))
    sys.exit(1 if last["fault"] else 0)


if __name__ == "__main__":
    main()
