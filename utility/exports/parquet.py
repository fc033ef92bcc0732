"""Parquet files: typed columns, times packed as differences, few bytes a value. The only module that needs pyarrow."""

from collections.abc import Sequence
from itertools import accumulate
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from utility.database.numbers import Column as Nullable
from utility.exports.columns import Coded, ColumnKind, ExportColumn, ExportTable, Rows, Values

ROW_GROUP = 1 << 20  # most rows of a row group

_TEXT = pa.dictionary(pa.int32(), pa.string())
_TYPES = {
    ColumnKind.ID: pa.uint64(),
    ColumnKind.INTEGER: pa.int64(),
    ColumnKind.COUNT: pa.int32(),
    ColumnKind.TEXT: _TEXT,
    ColumnKind.TIME: pa.timestamp("ms", tz="UTC"),
    ColumnKind.DAY: pa.date32(),
    ColumnKind.BOOLEAN: pa.bool_(),
    ColumnKind.MONEY: pa.decimal128(18, 2),
    ColumnKind.KEY: pa.int64(),
    ColumnKind.BYTES: pa.binary(),
}
_WIDTHS: dict[tuple[int, bool], type[np.generic]] = {
    (32, False): np.int32,
    (64, False): np.int64,
    (64, True): np.uint64,
}
"""The numbers of a type's bits, and whether they are unsigned."""

_DELTA = (ColumnKind.TIME, ColumnKind.INTEGER, ColumnKind.KEY)
"""Kinds stored as differences from row to row, in as few bits as a group of them needs."""


def schema_of(table: ExportTable) -> pa.Schema:
    """Return the Arrow schema of a table; meanings are in the metadata of its columns."""
    fields = [
        pa.field(column.name, _TYPES[column.kind], column.nullable, {"description": column.meaning})
        for column in table.columns
    ]
    return pa.schema(fields, {"commonwatt.table": table.name, "commonwatt.about": table.about})


_BOUNDED = (ColumnKind.ID, ColumnKind.TIME, ColumnKind.KEY)
"""Kinds whose bounds each row group has."""


class ParquetFile:
    """Writes one Parquet file, a row group for each ``write`` of at most ``ROW_GROUP`` rows."""

    def __init__(self, file: BinaryIO, table: ExportTable) -> None:
        self._columns = table.columns
        self._schema = schema_of(table)
        packed = {column.name: "DELTA_BINARY_PACKED" for column in table.columns if column.kind in _DELTA}
        plain = {column.name: "DELTA_LENGTH_BYTE_ARRAY" for column in table.columns if column.kind is ColumnKind.BYTES}
        self._writer = pq.ParquetWriter(
            file,
            self._schema,
            compression={column.name: "none" if column.name in plain else "zstd" for column in table.columns},
            compression_level={column.name: 1 for column in table.columns if column.name not in plain},
            column_encoding=packed | plain,
            use_dictionary=[column.name for column in table.columns if column.name not in packed | plain],
            write_page_checksum=bool(plain),
            # Readers skip row groups by these; the others would only cost time.
            write_statistics=[column.name for column in table.columns if column.kind in _BOUNDED],
        )

    def write(self, rows: Rows) -> None:
        """Write some rows."""
        arrays = [_array(column, rows[column.name]) for column in self._columns]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema), row_group_size=ROW_GROUP)

    def close(self) -> None:
        """Write the end of the file."""
        self._writer.close()


def _array(column: ExportColumn, values: Values) -> pa.Array:
    wanted = _TYPES[column.kind]
    if isinstance(values, Coded):
        return pa.DictionaryArray.from_arrays(_fixed(values.codes, pa.int32()), _strings(values.labels), safe=False)
    if isinstance(values, Nullable):
        if values.known is not None and not values.known.any():
            return pa.nulls(len(values.values), wanted)
        return _fixed(values.values, wanted, values.known)
    if column.kind is ColumnKind.TEXT:
        texts = cast("Sequence[str]", values)
        codes = {text: code for code, text in enumerate(dict.fromkeys(texts))}
        return _array(column, Coded(np.array([codes[text] for text in texts], np.int32), list(codes)))
    if not isinstance(values, np.ndarray):
        return pa.array(values, wanted)
    return _fixed(values * 1000 if column.kind is ColumnKind.TIME else values, wanted)


# `pyarrow.array` copies, and loads pandas where that is installed: 0.7 s and 50 MB.
def _strings(texts: Sequence[str]) -> pa.Array:
    encoded = [text.encode() for text in texts]
    ends = np.array([*accumulate(map(len, encoded), initial=0)], np.int32)
    return pa.Array.from_buffers(pa.string(), len(encoded), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def _fixed(
    values: npt.NDArray[np.generic], wanted: pa.DataType, known: npt.NDArray[np.bool_] | None = None
) -> pa.Array:
    """Return numbers as an Arrow array, without a copy if they have its width."""
    mask = None if known is None or known.all() else pa.py_buffer(_bits(known))
    if wanted == pa.bool_():
        return pa.Array.from_buffers(wanted, len(values), [mask, pa.py_buffer(_bits(values.astype(np.bool_)))])
    same = values.astype(_WIDTHS[wanted.bit_width, wanted == pa.uint64()], copy=False)
    return pa.Array.from_buffers(wanted, len(values), [mask, pa.py_buffer(np.ascontiguousarray(same))])


def _bits(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.packbits(flags, bitorder="little")
