"""Writers of rows: CSV with the standard library, Parquet with pyarrow where it is installed."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from typing import BinaryIO, Protocol

import numpy as np

from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import cell_of, line_of
from utility.database.numbers import Column as Nullable
from utility.exports.columns import Coded, ColumnKind, ExportColumn, ExportTable, Rows, Values


class Format(StrEnum):
    """The format of a file."""

    PARQUET = "parquet"
    CSV = "csv"


class Writer(Protocol):
    """Writes the rows of one file."""

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write the end of the file; the file stays open."""
        ...


MEDIA_TYPES = {
    Format.PARQUET: "application/vnd.apache.parquet",
    Format.CSV: "text/csv; charset=utf-8",
}
"""The media type of each format."""


def make_writer(form: Format, file: BinaryIO, table: ExportTable) -> Writer:
    """Return a writer of rows of a table to a file.

    Raises:
        ConfigError: The format needs a package that is not installed.
    """
    if form is not Format.PARQUET:
        return CsvWriter(file, table)
    require(form)
    from utility.exports.parquet import ParquetFile

    return ParquetFile(file, table)


def require(form: Format) -> None:
    """Check that a format can be written here."""
    if form is not Format.PARQUET:
        return
    try:
        import pyarrow  # noqa: F401 - large, and only some exports need it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed: pip install 'commonwatt[export]'; csv needs nothing more"
        ) from error


class CsvWriter:
    """Writes CSV (RFC 4180, with a header, UTF-8)."""

    def __init__(self, file: BinaryIO, table: ExportTable) -> None:
        self._file = file
        self._columns = table.columns
        file.write(line_of(column.name for column in table.columns).encode())

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        texts = [_texts(column, rows[column.name]) for column in self._columns]
        self._file.write("".join(f"{','.join(row)}\r\n" for row in zip(*texts, strict=True)).encode())

    def close(self) -> None:
        """Do nothing: the file has no end of its own."""


def _texts(column: ExportColumn, values: Values) -> Iterator[str]:
    if isinstance(values, Coded):
        labels = [cell_of(label) for label in values.labels]
        return map(labels.__getitem__, values.codes.tolist())
    if isinstance(values, Nullable):
        return ("" if value is None else str(value) for value in values)
    plain: Sequence[object] = values.tolist() if isinstance(values, np.ndarray) else values
    # Times and ids come again and again.
    return map(cache(lambda value: "" if value is None else _one(column.kind, value)), plain)


def _one(kind: ColumnKind, value: object) -> str:
    if kind is ColumnKind.TIME:
        return iso(int(str(value)))
    if kind is ColumnKind.TEXT:
        return cell_of(str(value))
    if kind is ColumnKind.BOOLEAN:
        return "true" if value else "false"
    return str(value)
