"""The files of an export, and an export as a process of its own, which the service's job starts."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from commonwatt.model.csv_text import line_of
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import counted
from commonwatt.runtime.allocator import keep_freed_memory
from commonwatt.runtime.child import work_of_child
from commonwatt.runtime.files import replace_file
from commonwatt.sqlite.damage import is_full
from utility.database.database import Database, open_database
from utility.exports.columns import Rows, count_of
from utility.exports.resolutions import Piece
from utility.exports.store.exports import Asked, Export, events_export, readings_export, settled_export
from utility.exports.store.folder import ExportFolder
from utility.exports.writers import Format, require
from utility.statistics.months import Span, month_number, span_around
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_view import as_cells, usage_of_all
from utility.statistics.words import COLUMNS

KINDS: Mapping[str, Callable[[Database, Asked], Export]] = {
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
        export = KINDS[str(task["kind"])](database, Asked(start=start, end=end))
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
