"""Writes a release: a new folder with CSV, Parquet where pyarrow is there, dictionary, licence and report, or nothing.

The same content gives the same bytes.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from commonwatt.model.calendar import iso
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import cell_of, line_of
from commonwatt.runtime.files import sync_folder
from utility.research.documents import FileColumn, FileFacts, ReleaseFacts, licence, manifest, readme

_MWH = 1000  # milliwatt-hours in a watt-hour


@dataclass(frozen=True, kw_only=True, eq=False)
class EnergyBlock:
    """Energies of some names by step."""

    names: Sequence[str]  # groups or pseudonyms, (n,)
    times: NDArray[np.int64]  # starts of the steps, UTC epoch seconds, (steps,)
    values: Sequence[NDArray[np.int64]]  # by column, milliwatt-hours, (n, steps)
    shown: Sequence[NDArray[np.bool_]]  # by column, whether there is a value


@dataclass(frozen=True, kw_only=True, eq=False)
class DataFile:
    """A file to write."""

    stem: str  # its name without its ending
    columns: Sequence[FileColumn]  # its columns
    rows: Sequence[Sequence[object]] = ()  # its rows, of texts and numbers; or
    blocks: Callable[[], Iterable[EnergyBlock]] | None = None  # its energies


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give a folder that becomes ``out`` at the end; after an error or a kill, ``out`` does not exist."""
    if out.exists():
        raise ConfigError(f"{out}: exists already; name a new folder")
    unfinished = out.with_name(f"{out.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700, parents=True)
    except OSError as error:
        raise ConfigError(f"{out}: {error.strerror}") from error
    try:
        yield unfinished
        sync_folder(unfinished)
        unfinished.rename(out)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    sync_folder(out.parent)


def write_release(folder: Path, facts: ReleaseFacts, files: Sequence[DataFile]) -> list[FileFacts]:
    """Write all files of a release into a folder; return those of data."""
    written: list[FileFacts] = []
    for one in files:
        written.append(_write_csv(folder, one))
        if find_spec("pyarrow") is not None:
            written.append(_write_parquet(folder, one))
    for name, text in {
        "LICENCE.txt": licence(facts),
        "datapackage.json": manifest(facts, written),
        "README.md": readme(facts, written),
    }.items():
        with _opened(folder / name) as file:
            file.write(text.encode())
    return written


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


def _write_csv(folder: Path, data: DataFile) -> FileFacts:
    path, digest, count = folder / f"{data.stem}.csv", hashlib.sha256(), 0
    with _opened(path) as file:
        for text, rows in _csv_texts(data):
            content = text.encode()
            digest.update(content)
            file.write(content)
            count += rows
    return FileFacts(name=path.name, columns=data.columns, rows=count, sha256=digest.hexdigest())


def _csv_texts(data: DataFile) -> Iterator[tuple[str, int]]:
    """Yield the file's text in pieces, with the rows in each."""
    yield line_of((column.name for column in data.columns), "\n"), 0
    if data.rows:
        yield "".join(line_of(row, "\n") for row in data.rows), len(data.rows)
    for block in data.blocks() if data.blocks is not None else ():
        times = [iso(int(time)) for time in block.times]
        for at, name in enumerate(block.names):
            columns = [_cells(v[at], s[at]) for v, s in zip(block.values, block.shown, strict=True)]
            first = cell_of(name)
            lines = (f"{first},{time},{','.join(cells)}\n" for time, *cells in zip(times, *columns, strict=True))
            yield "".join(lines), len(times)


def _cells(values: NDArray[np.int64], shown: NDArray[np.bool_]) -> list[str]:
    """Return milliwatt-hours as watt-hours, exact."""
    return [
        "" if not there else str(value // _MWH) if value % _MWH == 0 else f"{value / _MWH:.3f}"
        for value, there in zip(values.tolist(), shown.tolist(), strict=True)
    ]


def _write_parquet(folder: Path, data: DataFile) -> FileFacts:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "string": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "datetime": pa.timestamp("ms", tz="UTC"),
    }
    schema = pa.schema([pa.field(column.name, kinds[column.kind]) for column in data.columns])
    path, count = folder / f"{data.stem}.parquet", 0
    with _opened(path) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for columns in _parquet_columns(data):
            writer.write_table(pa.table(dict(zip(schema.names, columns, strict=True)), schema=schema))
            count += len(columns[0])
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return FileFacts(name=path.name, columns=data.columns, rows=count, sha256=digest)


def _parquet_columns(data: DataFile) -> Iterator[list[Any]]:
    import pyarrow as pa

    if data.rows:
        yield [list(column) for column in zip(*data.rows, strict=True)]
    for block in data.blocks() if data.blocks is not None else ():
        names = pa.array(np.repeat(np.array(block.names, dtype=object), len(block.times)), pa.string())
        times = pa.array(np.tile(block.times * 1000, len(block.names)), pa.timestamp("ms", tz="UTC"))
        energies = [pa.array(v.ravel() / _MWH, mask=~s.ravel()) for v, s in zip(block.values, block.shown, strict=True)]
        yield [names, times, *energies]
