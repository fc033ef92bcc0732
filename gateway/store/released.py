"""Release of a store: its controller is replaced, and no gateway runs on it (docs/guides/bundles.md).

If data waits in it, the new controller goes on with a copy of the whole. The mark of the old controller's store stays:
so no record is acknowledged that the copy lacks.
"""

import logging
import shutil
from contextlib import closing
from pathlib import Path

from commonwatt.device.released import mark
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import replacing
from commonwatt.sqlite import SqliteError
from gateway.store.changes import Setting
from gateway.store.recovery import Recovery, open_checked
from gateway.store.store import Store

RELEASED = "released"  # setting of a released store: when, epoch seconds; empty: no more
# What to do about a released store that is wanted again.
IF_UNUSED = "If no new controller started: commonwatt gateway release --undo --config FILE"

log = logging.getLogger(__name__)


def check_not_released(path: Path, store: Store) -> None:
    """Check that a store was not released."""
    if at := store.setting(RELEASED):
        raise ConfigError(f"{path}: was released {moment(int(at))}, and no gateway may run on it. {IF_UNUSED}")


def open_in_use(path: Path, now: EpochSeconds) -> tuple[Store, Recovery | None]:
    """Open a gateway's store like ``open_checked``, and upgrade it, unless it was released.

    Raises:
        ConfigError: It was released.
        StoreError: It can't be opened.
    """
    opened = open_checked(path, now)
    try:
        check_not_released(path, opened[0])
    except ConfigError:
        opened[0].close()
        raise
    if opened[0].version == 3:
        try:
            opened[0].become(4)
        except SqliteError as error:  # As on a full disk: the store is used as it is.
            log.warning("store %s keeps the form of version 0.3 until the next start: %s", path, error)
    return opened


def release(path: Path, now: EpochSeconds, also: Path | None = None) -> int:
    """Release a store; the caller has locked it. Its file alone is the whole store then.

    Args:
        also: The store of its adapter, locked too; it may be missing. ``None``: it has no adapter.

    Returns:
        How many parts, events and dead letters the utility does not have.

    Raises:
        ConfigError: The store is missing.
        StoreError: A store can't be opened.
    """
    if also is not None and also.exists():
        mark(also, released=True)
    with closing(_opened(path, now)) as store:
        store.commit([Setting(RELEASED, store.setting(RELEASED) or str(now))])
        store.complete()
        return sum(store.backlog())


def undo(path: Path, now: EpochSeconds, also: Path | None = None) -> None:
    """Let a gateway run on a released store, and an adapter on its own; the caller has locked the stores.

    Raises:
        ConfigError: It is missing, or was not released.
        StoreError: A store can't be opened.
    """
    with closing(_opened(path, now)) as store:
        if not store.setting(RELEASED):
            raise ConfigError(f"{path}: was not released")
        store.commit([Setting(RELEASED, "")])
        store.complete()
    if also is not None and also.exists():
        mark(also, released=False)


def copy(path: Path, folder: Path, now: EpochSeconds, also: Path | None = None) -> None:
    """Copy a released store and its adapter's store into a folder; the new controller may use the copies.

    Raises:
        ConfigError: The store is missing, was not released, or is in this folder.
        OSError: A copy can't be written.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stores = [path, *([also] if also is not None and also.exists() else [])]
    for one in stores:
        target = folder / one.name
        if target.exists() and target.samefile(one):
            raise ConfigError(f"{folder}: has the store itself; name another folder for the copy")
        with one.open("rb") as source, replacing(target) as file:
            shutil.copyfileobj(source, file)
    undo(folder / path.name, now, folder / also.name if also is not None else None)


def _opened(path: Path, now: EpochSeconds) -> Store:
    if not path.exists():
        raise ConfigError(f"{path}: no store there")
    return open_checked(path, now)[0]
