"""The folder of an export: its files, and a manifest of them."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import RawIOBase
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import read_object, replace_file, replacing
from commonwatt.runtime.service import only_one
from utility.exports.columns import Rows, Table, count_of
from utility.exports.resolutions import Piece
from utility.exports.writers import Format, make_writer

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
                    told = f"{_told(found)}, not {_told(self._described)}"
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
        self, name: str, piece: Piece, rows: Iterable[Rows], table: Table, form: Format, is_final: Callable[[], bool]
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


def _told(described: object) -> str:
    return json.dumps(described)[:300]
