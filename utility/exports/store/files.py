"""The folder of an export: its files, a manifest of them, and an export as a process of its own, for the job."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import counted, line_of
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.child import work_of_child
from commonwatt.runtime.files import read_object, replace_file, replacing
from commonwatt.runtime.service import keep_freed_memory, only_one
from commonwatt.sqlite import is_full
from utility.database.database import Database, open_database
from utility.exports.columns import ExportTable, Rows, count_of
from utility.exports.selection import Piece
from utility.exports.store.exports import AskedExport, Export, events_export, readings_export, settled_export
from utility.exports.writers import Format, make_writer, require
from utility.statistics.months import Span, month_number, span_around
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_view import as_cells, usage_of_all
from utility.statistics.usage import COLUMNS

MANIFEST = "export.json"  # the manifest's name


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A finished file, as the manifest has it."""

    start: int  # first second of its rows
    end: int  # the second after the last
    rows: int  # how many rows it has
    bytes: int  # its length
    sha256: str  # of its bytes, hexadecimal
    closed: bool  # whether its rows will stay as they are but for late readings


class ExportFolder:
    """A folder with the files of one export, each whole or not there."""

    def __init__(self, path: Path, described: Mapping[str, object]) -> None:
        """Use a folder, new or of the same export; ``described`` is what is exported."""
        self._path = path
        self._described = dict(described)
        self._finished: dict[str, Finished] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Use the folder alone; its manifest has the files once all are there."""
        self._path.mkdir(parents=True, exist_ok=True)
        manifest = self._path / MANIFEST
        with only_one(manifest, "another export"):
            if manifest.exists():
                found = read_object(manifest, "manifest of an export", "give another folder").get("export")
                if found != self._described:
                    told = f"{_short(found)}, not {_short(self._described)}"
                    raise ConfigError(f"--out: {self._path} has another export ({told}); give another folder")
            # The lock, and the first manifest of an export that was killed.
            elif others := sorted(each.name for each in self._path.iterdir() if not each.name.startswith(MANIFEST)):
                raise ConfigError(f"--out: {self._path} has other files, such as {others[0]}; give an empty folder")
            for left in self._path.glob("*.new"):
                left.unlink()
            self._save(complete=False)
            yield
            self._save(complete=True)

    def write(
        self,
        name: str,
        piece: Piece,
        rows: Iterable[Rows],
        table: ExportTable,
        form: Format,
        is_final: Callable[[], bool],
    ) -> Finished:
        """Write a file, which gets its name when it is complete.

        Args:
            piece: The time that it is of.
            is_final: Returns, after the rows, whether they will stay as they are; provisional ones will not.
        """
        counted, provisional = 0, False
        with replacing(self._path / name) as file:
            hashed = Hashed(file.write)
            writer = make_writer(form, cast("BinaryIO", hashed), table)
            for some in rows:
                counted += count_of(some)
                provisional |= bool(np.asarray(some.get("provisional", ())).any())
                writer.write(some)
            writer.close()
        made = self._finished[name] = Finished(
            start=piece.start,
            end=piece.end,
            rows=counted,
            bytes=hashed.length,
            sha256=hashed.hash.hexdigest(),
            closed=is_final() and not provisional,
        )
        return made

    def _save(self, *, complete: bool) -> None:
        content = {
            "export": self._described,
            "complete": complete,
            "files": {name: asdict(facts) for name, facts in sorted(self._finished.items())},
        }
        replace_file(self._path / MANIFEST, (json.dumps(content, indent=1) + "\n").encode())


class Hashed(RawIOBase):
    """A binary file to write, whose bytes are hashed and counted on their way."""

    def __init__(self, take: Callable[[bytes], object]) -> None:
        """Hand the bytes of each write to a function."""
        self.hash = hashlib.sha256()  # SHA-256 of the bytes so far
        self.length = 0  # how many there are
        self._take = take

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        """Write bytes."""
        content = bytes(data)
        self.hash.update(content)
        self.length += len(content)
        self._take(content)
        return len(content)

    def tell(self) -> int:
        """Return the position."""
        return self.length

    def writable(self) -> bool:
        """Return True."""
        return True


def _short(described: object) -> str:
    return json.dumps(described)[:300]


KINDS: Mapping[str, Callable[[Database, AskedExport], Export]] = {
    "settled": settled_export,
    "readings": readings_export,
    "events": events_export,
}
"""What the service exports by itself, besides usage."""
USAGE = "usage"


def write_usage(database: Database, month: str, out: Path) -> int:
    """Write the files of a month, such as ``account-five_years.csv``, in place of earlier ones; return how many rows.

    Args:
        month: The local month.
        out: The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for scope in Scope:
        for span in Span:
            rows = _rows(database, scope, span, month)
            lines = [line_of(COLUMNS), *(line_of(row[name] for name in COLUMNS) for row in rows)]
            replace_file(out / f"{scope.name.lower()}-{span.value}.csv", "".join(lines).encode())
            written += len(rows)
    return written


def _rows(database: Database, scope: Scope, span: Span, month: str) -> list[Mapping[str, str]]:
    with database.reads.begin() as connection:
        rows = usage_of_all(connection, scope, span_around(month_number(month), span))
        return as_cells(connection, rows, span)


@dataclass(frozen=True, kw_only=True)
class Written:
    """What was written."""

    files: int  # how many files
    rows: int  # how many rows


def write_files(
    export: Export, form: Format, out: Path, now: EpochSeconds, tell: Callable[[str, int], object] = lambda *_: None
) -> Written:
    """Write the files of an export, each whole or not at all.

    Args:
        form: The files' format.
        out: The folder, new or of the same export.
        tell: Called with a file's name and the rows since the last call.

    Raises:
        ConfigError: The folder is another export's, or another process is using it.
        StoreError: The disk is full.
    """
    folder = ExportFolder(out, dict(export.described) | {"format": form.value})
    rows = files = 0
    with folder.locked():
        for piece in export.pieces():
            name = f"{export.name}-{piece.name}.{form}"
            told = _told(export.rows(piece), partial(tell, name))
            with full_disk_explained(out):
                rows += folder.write(name, piece, told, export.table, form, _finality(export, piece, now)).rows
            files += 1
    return Written(files=files, rows=rows)


@contextmanager
def full_disk_explained(out: Path) -> Iterator[None]:
    """Raise a ``StoreError`` that says what to do, if the disk is full."""
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise StoreError(f"{out}: no space left on the device. Make room, then give the same command again") from error


def make(task: Mapping[str, object]) -> str:
    """Make the export ``kind`` of ``url`` from ``start`` to ``end`` in the folder ``out``; return what was written."""
    keep_freed_memory()
    out, start, end, now = Path(str(task["out"])), *(int(str(task[name])) for name in ("start", "end", "now"))
    with closing(open_database(str(task["url"]), create=False)) as database:
        if task["kind"] == USAGE:
            return counted(write_usage(database, str(task["month"]), out), "row")
        form = Format(str(task["format"]))
        require(form)
        export = KINDS[str(task["kind"])](database, AskedExport(start=start, end=end))
        done = write_files(export, form, out, now)
        if export.damaged():
            raise StoreError(
                f"{counted(export.damaged(), 'stored part')} damaged and quarantined; it is exported again"
            )
    # No failure, unlike damaged parts: nothing asks for events again, so each further try would end the same.
    lacks = f"; {counted(export.left_out(), 'damaged event')} left out" if export.left_out() else ""
    return f"{counted(done.files, 'file')} with {counted(done.rows, 'row')}{lacks}"


def _finality(export: Export, piece: Piece, now: EpochSeconds) -> Callable[[], bool]:
    """Return what tells, after a piece's rows, whether they are final: it is over, and nothing of it was damaged."""
    before = export.damaged() + export.left_out()
    return lambda: piece.end <= now - export.quiet_s and export.damaged() + export.left_out() == before


def _told(found: Iterator[Rows], tell: Callable[[int], object]) -> Iterator[Rows]:
    for rows in found:
        yield rows
        tell(count_of(rows))


if __name__ == "__main__":
    work_of_child(make)
