"""The way of months to files and back: each step commits, and a stop between two steps loses nothing.

A month's blocks are written to a file, and compared with the database (``written``). From then on readers join the file
and the database (``leaving``), while the blocks of the file go from the database; at the end they are ``archived``.
If a block changed since its writing began, a server's partition stays, and the month is written again; in an SQLite
file only blocks go that are as in the file. Blocks with conflicts stay in the database, too: lists of conflicts and
their counts need no file.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from sqlalchemy import Connection, bindparam, delete, insert, select, text
from sqlalchemy.exc import OperationalError

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.ids import signed64
from commonwatt.model.time.local_calendar import parse_month
from commonwatt.model.units import EpochSeconds, Quarter
from commonwatt.model.words import counted
from commonwatt.runtime.allocator import keep_freed_memory
from commonwatt.runtime.child import work_of_child
from commonwatt.runtime.files import sha256_of
from commonwatt.runtime.service import only_one
from utility.archive.blocks import month_text
from utility.archive.store import months as of
from utility.archive.store.months import RESTORED, WRITING, WRITTEN, FiledMonth
from utility.archive.store.writing import Sums, compare, examine, insert_rows, trouble_of, write
from utility.database.database import Database, open_database
from utility.database.locks import Lock, take
from utility.database.postgres.partitions import drop_partition, first_quarter, make_partitions, month_of, months_later
from utility.readings.store.archived import ARCHIVED, KEY, LEAVING, ArchiveError, File, read_group
from utility.readings.store.retention import LOCK_NOT_AVAILABLE, LOCK_TIMEOUT, MAX_BLOCKS, kept_from
from utility.readings.tables import compacted

_SNAPSHOT_WAITS = 5  # looks at readers of earlier states, a second apart, before the next run drops the partition

_CHANGED = "blocks changed meanwhile; the month is written again at the next run"

_DELETE_SAME = delete(compacted).where(
    *(compacted.c[name] == bindparam(f"of_{name}") for name in (*KEY, "payload")), compacted.c.conflicts == 0
)

log = logging.getLogger(__name__)


class Archive:
    """The files of one database's months; ``reached`` is called with the name of each step before the next one."""

    def __init__(
        self, database: Database, folder: Path, now: EpochSeconds, reached: Callable[[str], object] = lambda _: None
    ) -> None:
        self._database = database
        self._folder = folder.absolute()
        self._now = now
        self._reached = reached

    def run(self, before: Quarter) -> list[str]:
        """Bring the whole months before a quarter to files, and go on with what was begun; return what was done.

        Raises:
            ArchiveError: A month can't be written, or no file is there; the months stay in the database.
            ConfigError: Another process is doing this.
            StoreError: The disk is full, or there is another reason.
        """
        with self._alone():
            self._look()
            said, failed = [*self._drop_old(), *self._set_aside()], []
            with self._database.reads.begin() as connection:
                due = of.months_to_file(connection, before)
                begun = [each.first_quarter for each in of.months(connection) if each.state in (WRITTEN, LEAVING)]
            for first in sorted({*due, *begun}):
                try:
                    said += [self._bring(first)]
                except ArchiveError as error:
                    failed.append(error)
        for each in failed[:1]:
            raise each
        return said

    def write_month(self, first: Quarter) -> str:
        """Bring one month to its file, also if it was restored; return what was done.

        Raises: as ``run``
        """
        with self._alone():
            with self._database.writes.begin() as connection:
                found = of.month_at(connection, first)
                if found is not None and found.state == RESTORED:
                    of.forget(connection, first)
            return self._bring(first)

    def check(self, month: FiledMonth) -> str:
        """Read a month's whole file; record and return what is wrong with it; empty: nothing."""
        trouble = trouble_of(self._database, month)
        self._database.write(of.note, month.first_quarter, trouble)
        return trouble

    def restore(self, first: Quarter) -> int:
        """Bring a month back into the database, and delete its file; return how many blocks came back.

        Raises:
            ArchiveError: The file is missing or damaged; what was read before came back.
            ConfigError: The month has no file.
        """
        with self._alone():
            month = self._database.read(of.month_at, first)
            if month is None or month.state not in (LEAVING, ARCHIVED):
                raise ConfigError(f"{month_text(first)}: is in no file")
            file, made = File.open(month.file), 0
            for group in range(file.groups):
                self._reached("restoring")
                made += self._bring_back(file, group)
            self._reached("restored")
            self._database.write(of.save, replace(month, state=RESTORED, trouble=""))
            self._reached("recorded")
            month.file.unlink(missing_ok=True)
        return made

    @contextmanager
    def _alone(self) -> Iterator[None]:
        # It is not made: its disk may not be mounted.
        if not self._folder.is_dir():
            raise StoreError(f"{self._folder}: is no folder; see archive in the settings")
        with only_one(self._folder / "archive", "another run of the archive"):
            yield

    def _bring_back(self, file: File, group: int) -> int:
        names = tuple(column.name for column in compacted.c)
        table = read_group(file, group, names)
        keys = list(zip(*(table[name].to_pylist() for name in KEY), strict=True))
        quarters = [key[0] for key in keys]
        made = 0
        self._database.write(make_partitions, {month_of(quarters[0])})
        for at in range(0, len(keys), MAX_BLOCKS):
            some = range(at, min(len(keys), at + MAX_BLOCKS))
            with self._database.writes.begin() as connection:
                take(connection, Lock.ARCHIVE)
                c = compacted.c
                within = c.quarter.between(min(quarters), max(quarters))
                here = {tuple(row) for row in connection.execute(select(*(c[name] for name in KEY)).where(within))}
                missing = [row for row in some if keys[row] not in here]
                made += insert_rows(connection, table, missing) if missing else 0
        return made

    def _bring(self, first: Quarter) -> str:
        """Take a month through its states to its end; return what was done."""
        month = self._database.read(of.month_at, first)
        name = month_text(first)
        if month is not None and month.state == ARCHIVED:
            return f"{name} is in its file"
        # Until its blocks go, the database has them all: a file that is not as it was is written again.
        is_written = month is not None and month.state == WRITTEN and not trouble_of(self._database, month)
        if month is None or not (is_written or month.state == LEAVING):
            month = self._write(first)
        if month.state == WRITTEN:
            month = self._to(month, LEAVING)
        if not (self._leave_file(month) if self._database.has_one_writer else self._leave_server(month)):
            return f"{name} is being read; its blocks go at the next run"
        return f"{name}: {counted(month.rows, 'block')} in {month.file.name}, {month.size / 1e6:,.1f} MB"

    def _write(self, first: Quarter) -> FiledMonth:
        month = self._new(first)
        for left in self._folder.glob(f"{month.file.name}.*.new"):
            left.unlink()
        # From here on each change of a block of the month is counted.
        self._database.write(of.save, month)
        self._reached("begun")
        made = write(self._database, month)
        self._reached("file")
        compare(self._database, made)
        self._reached("compared")
        return self._to(made, WRITTEN)

    def _new(self, first: Quarter) -> FiledMonth:
        """Return a month as it is before its file is written."""
        until = first_quarter(months_later(month_of(first), 1))
        path = self._folder / f"blocks-{month_text(first)}.parquet"
        return FiledMonth(first_quarter=first, until_quarter=until, path=str(path), made=self._now)

    def _to(self, month: FiledMonth, state: str) -> FiledMonth:
        """Record a month's next state, if no block changed since its writing began."""
        with self._database.writes.begin() as connection:
            take(connection, Lock.ARCHIVE)
            here = of.month_at(connection, month.first_quarter)
            is_same = here is not None and not here.changes
            new = replace(month, state=state) if is_same else replace(month, state=WRITING)
            of.save(connection, new)
        if not is_same:
            raise ArchiveError(month.file, _CHANGED)
        self._reached(state)
        return new

    def _leave_file(self, month: FiledMonth) -> bool:
        """Delete the blocks that are as in the file, in small steps."""
        file = File.open(month.file)
        for group in range(file.groups):
            table = read_group(file, group, (*KEY, "payload"))
            # In the order of the database's key, so that a step deletes on few pages.
            rows = sorted(zip(*(table[name].to_pylist() for name in (*KEY, "payload")), strict=True))
            for at in range(0, len(rows), MAX_BLOCKS):
                some = [
                    {f"of_{name}": value for name, value in zip((*KEY, "payload"), row, strict=True)}
                    for row in rows[at : at + MAX_BLOCKS]
                ]
                with self._database.writes.begin() as connection:
                    connection.execute(_DELETE_SAME, some)
                self._reached("deleting")
        with self._database.writes.begin() as connection:
            here = of.month_at(connection, month.first_quarter) or month
            of.save(connection, replace(here, state=ARCHIVED))
        self._reached(ARCHIVED)
        return True

    def _leave_server(self, month: FiledMonth) -> bool:
        """Drop the month's partition, and make it anew with the blocks that have conflicts; return whether it went.

        A reader of a state of the database in which the month was in no file would find neither; it is waited for.
        """
        with self._database.writes.begin() as connection:
            xid = str(connection.execute(text("SELECT CAST(CAST(pg_current_xact_id() AS xid) AS text)")).scalar_one())
        for left in reversed(range(_SNAPSHOT_WAITS)):
            with self._database.writes.begin() as connection:
                if not of.has_older_readers(connection, xid):
                    break
                if not left:
                    return False
                connection.execute(text("SELECT pg_sleep(1)"))
        self._reached("alone")
        name = month_of(month.first_quarter)
        try:
            with self._database.writes.begin() as connection:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")
                take(connection, Lock.ARCHIVE)
                here = of.month_at(connection, month.first_quarter)
                is_same = here is not None and not here.changes
                if is_same:
                    _drop(connection, month, name)
                of.save(connection, replace(month, state=ARCHIVED if is_same else WRITING))
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCK_NOT_AVAILABLE:
                raise
            return False
        if not is_same:
            raise ArchiveError(month.file, _CHANGED)
        self._reached(ARCHIVED)
        return True

    def _drop_old(self) -> list[str]:
        """Delete the files of months that are no longer kept."""
        said = []
        with self._database.reads.begin() as connection:
            kept = kept_from(connection)
            old = [month for month in of.months(connection) if month.until_quarter <= kept]
        for month in old:
            self._database.write(of.forget, month.first_quarter)
            self._reached("forgotten")
            month.file.unlink(missing_ok=True)
            said.append(f"{month_text(month.first_quarter)}: is no longer kept")
        return said

    def _set_aside(self) -> list[str]:
        """Check the files that are not recorded: those of months that the database has itself are renamed.

        So it is after a restore of the database. The file of a month that it lacks is recorded again.
        """
        said = []
        known = {month.file for month in self._database.read(of.months) if month.state in of.IN_USE}
        for path in sorted(self._folder.glob("blocks-[0-9][0-9][0-9][0-9]-[0-9][0-9].parquet")):
            if path in known:
                continue
            try:
                found = examine(self._database, path)
            except ArchiveError as error:
                found = Sums(trouble=[str(error)])
            month = self._new(first_quarter(parse_month(path.name[7:14])))
            is_lacking = self._database.read(of.count_blocks, month) < found.rows
            words = "; ".join(found.trouble[:3]) or f"{counted(found.rows, 'block')}, all sound"
            if is_lacking and not found.trouble:
                month = replace(month, rows=found.rows, total=signed64(found.total), size=path.stat().st_size)
                self._database.write(of.save, replace(month, sha256=sha256_of(path), state=ARCHIVED))
                said.append(f"{path.name} was not recorded, and the database lacks its month: it is now: {words}")
            else:
                path.rename(path.with_name(f"{path.name}.aside-{self._now}"))
                said.append(f"{path.name} is not recorded, and was set aside: {words}")
            log.warning("%s", said[-1])
        return said

    def _look(self) -> None:
        """See that the recorded files are there, at their length; a moved folder is followed.

        Raises:
            ArchiveError: None of them is there: the folder may be where another one is to be mounted.
        """
        found = 0
        recorded = [month for month in self._database.read(of.months) if month.state in of.IN_USE]
        for month in recorded:
            here = self._folder / month.file.name
            if not month.file.exists() and here.exists():
                self._database.write(of.save, replace(month, path=str(here)))
                month = replace(month, path=str(here))
            size = month.file.stat().st_size if month.file.exists() else None
            found += size is not None
            gone = "is missing" if size is None else "has another length" if size != month.size else ""
            if gone or month.trouble in ("is missing", "has another length"):
                self._database.write(of.note, month.first_quarter, gone)
        if recorded and not found:
            raise ArchiveError(self._folder, f"has none of its {len(recorded)} files, so no month goes there: mount it")


def _drop(connection: Connection, month: FiledMonth, name: tuple[int, int]) -> None:
    within = compacted.c.quarter.between(month.first_quarter, month.until_quarter - 1)
    rows = connection.execute(select(compacted).where(within, compacted.c.conflicts > 0)).mappings().all()
    drop_partition(connection, name)
    if rows:
        make_partitions(connection, [name])
        connection.execute(insert(compacted), [dict(row) for row in rows])


def make(task: Mapping[str, object]) -> str:
    """Run the archive of ``url`` in ``folder`` for the months before ``before``; return what was done."""
    keep_freed_memory()
    with closing(open_database(str(task["url"]), create=False)) as database:
        if held := str(task["held"]):
            # Loaded here: an installation with SQLite needs no driver of a server.
            from utility.database.postgres.lease import fence

            fence(database, held)
        archive = Archive(database, Path(str(task["folder"])), int(str(task["now"])))
        try:
            return "; ".join(archive.run(int(str(task["before"]))))
        except OSError as error:
            raise StoreError(f"{task['folder']}: {error.strerror}") from error


if __name__ == "__main__":
    work_of_child(make)
