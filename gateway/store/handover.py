"""Handover: a controller's whole store in one file, for the controller that replaces it (docs/guides/bundles.md).

The store moves with its microgrid. It is marked as released before it is copied, and no gateway runs on a released
store: so no record is acknowledged that is not in the copy. The file is gzip-compressed: a line of JSON, which states
what it is, a line with the signature of the first by the old controller's certificate (hexadecimal; empty: it has
none), then the database, then the store of an adapter on the same machine, if there is one.
"""

import gzip
import json
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from pydantic import ValidationError

from commonwatt.config.settings import Settings
from commonwatt.device.released import mark
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.runtime.files import replacing, sha256_of, sync_folder
from commonwatt.sqlite.damage import DamagedError, delete_database, make_ready, put_in_place
from gateway.changes import DONE, OFFERED, UNSENT, AddDeadLetters, AppendEvents, AppendParts, Change, Cover, Setting
from gateway.store.recovery import Recovery, in_commits, open_checked
from gateway.store.store import Store

if TYPE_CHECKING:
    from commonwatt.identity.certificates import Signer

RELEASED = "released"  # setting of a store that was handed over: when, epoch seconds; empty: no more
TAKEN_OVER = "taken_over"  # setting: the id of the handover that this store took over last
# What to do about a released store that is wanted again.
IF_UNUSED = "If the new controller never started with it: commonwatt gateway release --undo --config FILE"
REPLACED = "replaced"  # state, in its name, of a store that a handover replaced

_PURPOSE = "handover"

_MAX_HEADER_BYTES = 10_000


class Handover(Settings):
    """What a handover says of itself."""

    format: Literal[1] = 1  # the file's format
    microgrid: str  # the microgrid of its controller
    version: str  # the version of the program that wrote it
    released: EpochSeconds  # when the store was released, epoch seconds
    store: int  # the store's id
    store_bytes: int  # the size of the database that follows, bytes
    sha256: str = ""  # the database's checksum; empty: an earlier version wrote it, without a signature
    certificate: str = ""  # the old controller's certificate (PEM), by which it is signed; empty: not signed
    adapter_bytes: int = 0  # the size of the adapter's store that follows the database, bytes; 0: there is none
    adapter_sha256: str = ""  # that store's checksum

    @property
    def id(self) -> str:
        """Its id: it is taken over once."""
        return f"{self.store}-{self.released}"


@dataclass(frozen=True, kw_only=True)
class Trusted:
    """The authority whose controllers' handovers are taken over."""

    authority: bytes  # its certificate (PEM)
    revocations: bytes | None  # its revocation list (PEM); ``None``: none is kept


@dataclass(frozen=True, kw_only=True)
class TakenOver:
    """The result of taking a handover over."""

    handover: Handover  # the handover
    again: bool = False  # whether it had been taken over before; then nothing was changed
    moved: bool = False  # whether its store became this controller's store
    added: int = 0  # otherwise: how many parts, events and dead letters were added to the store that was there
    adapter: bool = False  # whether it has an adapter's store, which this controller's adapter now uses


def check_not_released(path: Path, store: Store) -> None:
    """Check that a store was not handed over to another controller.

    Raises:
        ConfigError: It was.
    """
    if at := store.setting(RELEASED):
        raise ConfigError(
            f"{path}: was handed over to a new controller {moment(int(at))}, and no gateway may run on it. {IF_UNUSED}"
        )


def open_in_use(path: Path, now: EpochSeconds) -> tuple[Store, Recovery | None]:
    """Open a gateway's store like ``open_checked``, unless it was handed over to another controller.

    Raises:
        ConfigError: It was handed over.
        StoreError: It can't be opened.
    """
    opened = open_checked(path, now)
    try:
        check_not_released(path, opened[0])
    except ConfigError:
        opened[0].close()
        raise
    return opened


def release(
    path: Path, microgrid: str, out: Path, now: EpochSeconds, certificate: bytes | None = None, also: Path | None = None
) -> Handover:
    """Release a store and write its handover; the caller has locked the store. Again, it writes the same content.

    Args:
        certificate: The controller's certificate and key (PEM), which sign it; ``None``: it has none.
        also: The store of its adapter, locked too; it may be missing. ``None``: it has no adapter.

    Raises:
        ConfigError: The store is missing, or the certificate can't be read.
        OSError: The file can't be written; the store is released, call this again.
        StoreError: The store can't be opened.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no store there; nothing can be handed over")
    # Not at the top: a running gateway needs no library for certificates.
    from commonwatt.identity.certificates import Signer
    from commonwatt.identity.chains import chain_of

    signer = None if certificate is None else Signer.load(certificate, certificate)
    stores = [path, *([also] if also is not None and also.exists() else [])]
    for other in stores[1:]:
        mark(other, released=True)
    store, _ = open_checked(path, now)
    with closing(store):
        at = int(store.setting(RELEASED) or now)
        store.commit([Setting(RELEASED, str(at))])
        store.complete()
        made = Handover(
            microgrid=microgrid,
            version=version("commonwatt"),
            released=at,
            store=store.store_id,
            store_bytes=path.stat().st_size,
            sha256=sha256_of(path),
            certificate="" if certificate is None else chain_of(certificate),
            adapter_bytes=sum(other.stat().st_size for other in stores[1:]),
            adapter_sha256="".join(map(sha256_of, stores[1:])),
        )
    _write(made, stores, out, signer)
    return made


def undo(path: Path, now: EpochSeconds, also: Path | None = None) -> None:
    """Let a gateway run on a released store again, and an adapter on its own; the caller has locked the stores.

    Raises:
        ConfigError: It is missing, or was not released.
    """
    if not path.exists():
        raise ConfigError(f"{path}: no store there")
    store, _ = open_checked(path, now)
    with closing(store):
        if not store.setting(RELEASED):
            raise ConfigError(f"{path}: was not released")
        store.commit([Setting(RELEASED, "")])
    if also is not None and also.exists():
        mark(also, released=False)


def _write(made: Handover, paths: list[Path], out: Path, signer: "Signer | None") -> None:
    # An earlier version reads it if there is no adapter.
    header = made.model_dump_json(exclude_defaults=True).encode() + b"\n"
    signature = b"" if signer is None else signer.signature(_PURPOSE, header)
    # A fast level: the parts in it are compressed already.
    with replacing(out) as file, gzip.GzipFile("", "wb", 1, file, made.released) as packed:
        packed.write(header + signature.hex().encode() + b"\n")
        for path in paths:
            with path.open("rb") as database:
                shutil.copyfileobj(database, packed, 1 << 20)


def take_over(
    path: Path, microgrid: str, file: Path, now: EpochSeconds, trusted: Trusted | None = None, also: Path | None = None
) -> TakenOver:
    """Take a handover over; the caller has locked the store. A kill at any moment is repaired by calling this again.

    A store without records is replaced. To a store that has records already, those of the handover are added: what
    both have is joined later, as any part that a meter sent twice.

    Args:
        path: The new controller's store; it may be missing.
        trusted: The authority; ``None``: controllers have no certificates, and no signature is checked.
        also: The store of the new controller's adapter, locked too: missing, it becomes the one in the handover;
            one that is there stays. ``None``: it has no adapter.

    Raises:
        ConfigError: The file is missing, damaged, no handover, of another microgrid, or not signed by a controller of
            the authority.
        StoreError: A store can't be opened.
    """
    received = path.with_name(f"{path.name}.handover")
    theirs = (also or path).with_name("adapter.handover")
    try:
        handover = _unpack(file, microgrid, (received, theirs), trusted)
        with closing(_opened(received)) as source:
            taken = _take(path, handover, source, now)
        if also is None or also.exists() or not handover.adapter_bytes:
            return taken
        mark(theirs, released=False)
        delete_database(also)  # A log without its file.
        theirs.rename(also)
        sync_folder(also.parent)
        return replace(taken, adapter=True)
    finally:
        delete_database(received)
        delete_database(theirs)


def _take(path: Path, handover: Handover, source: Store, now: EpochSeconds) -> TakenOver:
    if not path.exists():
        return _moved(path, handover, source, now)
    store, _ = open_checked(path, now)
    with closing(store):
        if store.setting(TAKEN_OVER) == handover.id:
            return TakenOver(handover=handover, again=True)
        check_not_released(path, store)
        if store.newest_part() or any(store.all_events(unsent_only=False)):
            return TakenOver(handover=handover, added=_add(store, source, handover))
    return _moved(path, handover, source, now)


def _unpack(file: Path, microgrid: str, received: tuple[Path, Path], trusted: Trusted | None) -> Handover:
    """Write the database of a handover and the adapter's store to ``received``, and check all of the file."""
    try:
        with gzip.open(file) as packed:
            line = packed.readline(_MAX_HEADER_BYTES)
            handover = _header(file, line)
            signature = bytes.fromhex(packed.readline(_MAX_HEADER_BYTES).decode()) if handover.sha256 else b""
            if handover.microgrid != microgrid:
                raise ConfigError(f"{file}: is of {handover.microgrid}, but this controller is of {microgrid}")
            if trusted is not None:
                _check_signed(file, handover, line, signature, trusted)
            for one, size in zip(received, (handover.store_bytes, handover.adapter_bytes), strict=True):
                with one.open("wb") as database:
                    _copy(packed, database, size)
            # To the end, so that the checksum of the whole is checked.
            if packed.read(1):
                raise ValueError("more than it states")
        sums = (handover.sha256, handover.adapter_sha256)
        if any(sha256 not in ("", sha256_of(one)) for one, sha256 in zip(received, sums, strict=True)):
            raise ValueError("not the database that it states")
    except (gzip.BadGzipFile, EOFError, zlib.error, ValueError) as error:
        raise ConfigError(f"{file}: damaged, incomplete or no handover ({error}); copy it again") from error
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: no such file") from error
    return handover


def _header(file: Path, line: bytes) -> Handover:
    try:
        return Handover.model_validate(json.loads(line))
    except ValidationError as error:
        raise ConfigError(f"{file}: is no handover that this version reads ({error.error_count()} faults)") from error


def _check_signed(file: Path, handover: Handover, header: bytes, signature: bytes, trusted: Trusted) -> None:
    from commonwatt.identity.certificates import check_signed
    from commonwatt.identity.chains import check_issued

    if not handover.certificate or not handover.sha256:
        raise ConfigError(f"{file}: refused: it is not signed; release the old controller again with this version")
    certificate = handover.certificate.encode()
    try:
        # An expired certificate counts: that of a controller that lay in a drawer.
        check_issued(certificate, trusted.authority, trusted.revocations, handover.microgrid)
        check_signed(certificate, _PURPOSE, header, signature)
    except ConfigError as error:
        raise ConfigError(f"{file}: refused: {error}") from error


def _copy(packed: gzip.GzipFile, database: BinaryIO, size: int) -> None:
    """Copy exactly ``size`` bytes."""
    left = size
    while chunk := packed.read(min(left, 1 << 20)):
        left -= len(chunk)
        database.write(chunk)
    if left:
        raise ValueError(f"not the {size} bytes that it states")


def _opened(received: Path) -> Store:
    try:
        store = Store.open(received)
        store.check(received.stat().st_size)
    except (DamagedError, sqlite3.Error) as error:
        raise StoreError(f"the store in the handover is damaged: {error}") from error
    return store


def _moved(path: Path, handover: Handover, source: Store, now: EpochSeconds) -> TakenOver:
    """Let the handover's store become the controller's."""
    source.commit([Setting(RELEASED, ""), Setting(TAKEN_OVER, handover.id)])
    source.complete()
    make_ready(path.with_name(f"{path.name}.handover"), path)
    put_in_place(path, now, REPLACED)
    return TakenOver(handover=handover, moved=True)


def _add(store: Store, source: Store, handover: Handover) -> int:
    """Add what the handover's store has; its settings and desired states are older than those that are there."""
    # An acknowledgement counts at the store of the utility that gave it. While the source still forgets those of a
    # store that the utility lost, none counts.
    same = source.setting("utility_store") == store.setting("utility_store")
    acknowledged = same and not any(source.forgetting().values())
    added = 0
    for group in in_commits(_content(source, acknowledged=acknowledged)):
        store.commit(group)
        added += sum(not isinstance(change, Cover) for change in group)
    store.commit([Setting(TAKEN_OVER, handover.id)])
    return added


def _content(source: Store, *, acknowledged: bool) -> Iterator[Change]:
    for part in source.all_parts(unsent_only=False):
        kept = part.relayed in ((DONE, UNSENT) if acknowledged else (UNSENT,))
        yield AppendParts((replace(part, relayed=part.relayed if kept else OFFERED, joined=False),))
    for event in source.all_events(unsent_only=acknowledged):
        yield AppendEvents((event,))
    for dead_letter in source.dead_letters(unsent_only=acknowledged):
        yield AddDeadLetters((dead_letter,))
    # Last: an id is covered when its record is there.
    yield from source.all_coverage()
