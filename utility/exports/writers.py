"""Writers of rows: CSV and JSON lines with the standard library, Parquet with pyarrow where it is installed."""

import json
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import cache
from typing import BinaryIO, Protocol

import numpy as np

from commonwatt.model.csv_text import cell_of, line_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import iso
from utility.database.numbers import Column as Nullable
from utility.exports.columns import Coded, Column, Kind, Rows, Table, Values


class Format(StrEnum):
    """The format of a file."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


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
    Format.JSONL: "application/x-ndjson",
}
"""The media type of each format."""


def make_writer(form: Format, file: BinaryIO, table: Table) -> Writer:
    """Return a writer of rows of a table to a file.

    Raises:
        ConfigError: The format needs a package that is not installed.
    """
    if form is not Format.PARQUET:
        return TextWriter(file, table, form)
    require(form)
    from utility.exports.parquet import ParquetFile

    return ParquetFile(file, table)


def require(form: Format) -> None:
    """Check that a format can be written here.

    Raises:
        ConfigError: It needs a package that is not installed.
    """
    if form is not Format.PARQUET:
        return
    try:
        import pyarrow  # noqa: F401 - large, and only some exports need it
    except ModuleNotFoundError as error:
        raise ConfigError(
            "Parquet needs pyarrow, which is not installed: pip install 'commonwatt[export]'; "
            "csv and jsonl need nothing more"
        ) from error


class TextWriter:
    """Writes CSV (RFC 4180, with a header, UTF-8) or JSON lines."""

    def __init__(self, file: BinaryIO, table: Table, form: Format) -> None:
        self._file = file
        self._columns = table.columns
        self._is_csv = form is Format.CSV
        if self._is_csv:
            file.write(line_of(column.name for column in table.columns).encode())

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        texts = [list(self._texts(column, rows[column.name])) for column in self._columns]
        if self._is_csv:
            lines = [",".join(row) for row in zip(*texts, strict=True)]
            self._file.write(("\r\n".join(lines) + "\r\n").encode() if lines else b"")
        else:
            head = [f'"{column.name}":' for column in self._columns]
            texts = [[name + text for text in column] for name, column in zip(head, texts, strict=True)]
            lines = ["{" + ",".join(row) + "}" for row in zip(*texts, strict=True)]
            self._file.write(("\n".join(lines) + "\n").encode() if lines else b"")

    def close(self) -> None:
        """Do nothing: the file has no end of its own."""

    def _texts(self, column: Column, values: Values) -> Iterator[str]:
        none = "" if self._is_csv else "null"
        if isinstance(values, Coded):
            labels = [self._text(label) for label in values.labels]
            return map(labels.__getitem__, values.codes.tolist())
        if isinstance(values, Nullable):
            return (none if value is None else str(value) for value in values)
        plain: Sequence[object] = values.tolist() if isinstance(values, np.ndarray) else values
        # Times and ids come again and again.
        return map(cache(lambda value: none if value is None else self._one(column.kind, value)), plain)

    def _one(self, kind: Kind, value: object) -> str:
        quote = "" if self._is_csv else '"'
        if kind is Kind.TIME:
            return f"{quote}{iso(int(str(value)))}{quote}"
        if kind is Kind.TEXT:
            return self._text(str(value))
        if kind is Kind.BOOLEAN:
            return "true" if value else "false"
        # Ids and amounts are text in JSON: not every reader keeps 64 bits, or decimals.
        return f"{quote}{value}{quote}" if kind in (Kind.ID, Kind.MONEY, Kind.DAY) else str(value)

    def _text(self, text: str) -> str:
        return cell_of(text) if self._is_csv else json.dumps(text)
