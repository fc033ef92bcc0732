"""Recovery of a damaged store: quarantine it, and copy its sound rows to a new store (docs/stores.md).

The new store has a new id, so that no number of the old store, such as a batch's, is treated as its own. Rows that are
marked as acknowledged stay so, if the mark is sound: if the utility does not have them after all, its gap finder
requests them.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import EpochSeconds
from commonwatt.sqlite import (
    DamagedError,
    delete_database,
    fails_check,
    image_of,
    is_full,
    make_disk_space,
    make_ready,
    put_in_place,
    read_log,
    readable,
    readable_rows,
    ready_of,
)
from gateway.store.changes import DONE, AddDeadLetters, DamagedRow, ForgetRelayed, Setting, dead_letter_about
from gateway.store.store import Store
from gateway.store.tables import (
    COLUMNS,
    PART_COLUMNS,
    check_schema,
    empty_database,
    is_sound,
    part_is_sound,
    state_of,
)

BACKUP_PARTS = 1_000_000  # most acknowledged parts copied from a damaged store, the newest: about 150 MB
MAX_DEAD_LETTERS = 1000  # most damaged rows of one store kept as dead letters; the others are in the quarantined file

ROWS_A_COMMIT = 1000

log = logging.getLogger(__name__)

_Row = TypeVar("_Row")


@dataclass
class Recovery:
    """The result of a recovery."""

    why: str  # the damage
    quarantined: Path | None = None  # the path of the damaged store now; ``None``: its file was gone
    taken: Counter[str] = field(default_factory=Counter)  # rows copied, by table
    # Rows that could be read but were not what was written, by table.
    damaged: Counter[str] = field(default_factory=Counter)
    unreadable: list[str] = field(default_factory=list)  # descriptions of the rows that could not be read, for the log


def open_checked(path: Path, now: EpochSeconds) -> tuple[Store, Recovery | None]:
    """Open a store; quarantine and replace a damaged one, with the rows that can be recovered.

    Raises:
        StoreError: It can't be opened for another reason.
    """
    finished = None
    if ready_of(path).exists():
        finished = Recovery("its replacement was ready when the gateway stopped", put_in_place(path, now))
        _tell(path, finished)
    for unfinished in (_beside(path, "new"), image_of(path)):
        delete_database(unfinished)
    found = read_log(path)
    if found is not None and (damage := found.damage):
        _refuse_others(path)
        # Before the store is opened: SQLite shortens the log when it opens it.
        return replace(path, now, damage, None)
    try:
        store = Store.open(path)
    except DamagedError as error:
        return replace(path, now, str(error), None)
    try:
        store.check(path.stat().st_size)
    except sqlite3.Error as error:
        store.close()
        if not fails_check(error):
            raise
        return replace(path, now, str(error), None)
    return store, finished


def _refuse_others(path: Path) -> None:
    """Refuse a file of another release or program, before its log is treated as damaged; the file stays unchanged."""
    if path.exists():
        with suppress(sqlite3.Error):  # Its version can't be read.
            Store.open(path, read_only=True).close()


def replace(path: Path, now: EpochSeconds, why: str, old: Store | None) -> tuple[Store, Recovery]:
    """Replace a damaged store by a new one with its sound rows.

    Args:
        old: The open store, if its file was deleted. It is closed when the new file is complete; if
            this fails earlier, it is still open and may be the only copy: call this again.
    """
    if ready_of(path).exists():
        # An earlier call failed at its last step.
        return _put_in_place(path, now, Recovery(why))
    log.error("store %s is damaged (%s): recovering its sound rows", path, why)
    recovery = _recover_within_disk_space(path, now, why, old)
    make_ready(_beside(path, "new"), path)
    if old is not None:
        old.close()
    return _put_in_place(path, now, recovery)


def _recover_within_disk_space(path: Path, now: EpochSeconds, why: str, old: Store | None) -> Recovery:
    """Make the new store; if the disk is full, delete older damaged stores, then leave out the backup."""
    backup_parts = BACKUP_PARTS
    while True:
        try:
            return _recover(path, now, why, old, backup_parts)
        except (sqlite3.Error, StoreError, OSError) as error:
            if not is_full(error):
                raise
            delete_database(_beside(path, "new"))
            if make_disk_space(path):
                continue
            if not backup_parts:
                raise StoreError(
                    f"{path}: is damaged, and its disk has no space for the recovered store: at most"
                    f" {2 * path.stat().st_size if path.exists() else 0} bytes more are needed; nothing was changed"
                ) from error
            backup_parts = 0


def _put_in_place(path: Path, now: EpochSeconds, recovery: Recovery) -> tuple[Store, Recovery]:
    recovery.quarantined = put_in_place(path, now)
    _tell(path, recovery)
    return Store.open(path), recovery


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(f"{path.name}.{suffix}")


def _recover(path: Path, now: EpochSeconds, why: str, old: Store | None, backup_parts: int) -> Recovery:
    """Make the new store beside the old one."""
    fresh = _beside(path, "new")
    delete_database(fresh)
    recovery = Recovery(why)
    with closing(Store.open(fresh)) as store:
        reading = readable(path, check_schema, empty_database) if old is None else nullcontext(old.connection)
        with reading as source:
            _Take(source, store, now, recovery).all(backup_parts)
        store.complete()
    return recovery


class _Take:
    """Copies the sound rows of a damaged store to a new one."""

    def __init__(self, source: sqlite3.Connection, store: Store, now: EpochSeconds, recovery: Recovery) -> None:
        self._source = source
        self._store = store
        self._now = now
        self._recovery = recovery
        self._lost: set[object] = set()

    def all(self, backup_parts: int) -> None:
        """Copy every table; coverage last, and only of meters without other lost rows."""
        self._parts(backup_parts)
        for table in COLUMNS:
            if table != "coverage":
                self._table(table)
        if not self._recovery.unreadable:
            self._table("coverage")
        if any(self._store.forgetting().values()):
            self._store.commit([ForgetRelayed()])  # the rows have other numbers now
        if self._store.setting("utility_store") is None:
            # Whether the recorded acknowledgements are of the utility's present store is unknown.
            self._store.commit([Setting("utility_store", "unknown")])

    def _parts(self, backup_parts: int) -> None:
        def sound() -> Iterator[tuple[Any, ...]]:
            left = backup_parts
            for number, *columns in readable_rows(self._source, "part", PART_COLUMNS, self._recovery.unreadable):
                if not part_is_sound(*columns[:4]):
                    self._damaged("part", number, columns)
                    continue
                relayed = state_of(columns[4])
                left -= relayed == DONE
                if relayed != DONE or left >= 0:
                    yield (number, *columns[:4], relayed, int(bool(columns[5])))

        self._add("part", ("id", *PART_COLUMNS), sound())

    def _table(self, table: str) -> None:
        notes = ("relayed",) if table in ("event", "letter") else ()

        def sound() -> Iterator[tuple[Any, ...]]:
            columns = (*COLUMNS[table], "crc", *notes)
            for number, *row in readable_rows(self._source, table, columns, self._recovery.unreadable):
                values, crc = row[: len(COLUMNS[table])], row[len(COLUMNS[table])]
                if not is_sound(table, values, crc):
                    self._damaged(table, number, values)
                elif values[0] in ("store_id", "schema") or (table == "coverage" and values[0] in self._lost):
                    continue
                else:
                    yield (*values, crc, *(state_of(note) for note in row[len(values) + 1 :]))

        self._add(table, (*COLUMNS[table], "crc", *notes), sound())

    def _add(self, table: str, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
        for group in in_commits(rows):
            self._store.add_recovered(table, columns, group)
            self._recovery.taken[table] += len(group)

    def _damaged(self, table: str, number: int, columns: Sequence[Any]) -> None:
        self._recovery.damaged[table] += 1
        if columns and table in ("part", "event", "letter"):
            self._lost.add(columns[0])
        if self._recovery.damaged.total() <= MAX_DEAD_LETTERS and table != "letter":
            row = DamagedRow(table, number, tuple(columns))
            self._store.commit([AddDeadLetters((dead_letter_about(row, self._now),))])


def in_commits(rows: Iterable[_Row]) -> Iterator[list[_Row]]:
    """Yield rows in groups of ``ROWS_A_COMMIT``."""
    left = iter(rows)
    while group := list(islice(left, ROWS_A_COMMIT)):
        yield group


def _tell(path: Path, recovery: Recovery) -> None:
    log.error(
        "store %s was damaged (%s) and is replaced; it is kept as %s. Rows recovered: %s; damaged: %s; %s",
        path,
        recovery.why,
        recovery.quarantined or "nothing, it was gone",
        _counts(recovery.taken),
        _counts(recovery.damaged),
        "; ".join(recovery.unreadable) or "all of it could be read",
    )


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{count} of {table}" for table, count in sorted(counts.items()) if count) or "none"
