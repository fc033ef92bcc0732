"""The folder of an export: finished files, and a manifest by which the same command goes on after it was stopped."""

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
    closed: bool  # whether its rows will stay as they are but for late readings; if not, the next run writes it again


class ExportFolder:
    """A folder with the files of one export."""

    def __init__(self, path: Path, described: Mapping[str, object]) -> None:
        """Use a folder.

        Args:
            path: The folder, new or of the same export.
            described: What is exported; the same for a command that goes on.
        """
        self._path = path
        self._described = dict(described)
        self._finished: dict[str, Finished] = {}

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Use the folder alone, after loading its manifest and removing what a killed export left.

        Raises:
            ConfigError: The folder is another export's, or another process is using it.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        with only_one(self._path / MANIFEST, "another export"):
            self._load()
            for left in self._path.glob("*.new"):
                left.unlink()
            self._save(complete=False)
            yield

    def _load(self) -> None:
        manifest = self._path / MANIFEST
        if not manifest.exists():
            # The lock, and the first manifest of an export that was killed.
            if others := sorted(path.name for path in self._path.iterdir() if not path.name.startswith(MANIFEST)):
                raise ConfigError(f"--out: {self._path} has other files, such as {others[0]}; give an empty folder")
            return
        found = read_object(manifest, "manifest of an export", "give another folder")
        if found.get("export") != self._described:
            raise ConfigError(
                f"--out: {self._path} has another export ({_told(found.get('export'))}, not "
                f"{_told(self._described)}); give another folder"
            )
        try:
            files = cast("dict[str, dict[str, int]]", found["files"])
            self._finished = {name: Finished(**facts) for name, facts in files.items()}  # type: ignore[arg-type]
        except (TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{manifest}: is no manifest of an export; give another folder") from error

    def finished(self, name: str) -> Finished | None:
        """Return a file that is there, finished, and will not change; ``None``: it is to be written."""
        facts = self._finished.get(name)
        path = self._path / name
        is_done = facts is not None and facts.closed and path.is_file() and path.stat().st_size == facts.bytes
        return facts if is_done else None

    def write(
        self, name: str, piece: Piece, rows: Iterable[Rows], table: Table, form: Format, is_final: Callable[[], bool]
    ) -> Finished:
        """Write a file and record it; it gets its name when it is complete.

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
        made = Finished(
            start=piece.start,
            end=piece.end,
            rows=counted,
            bytes=hashed.length,
            sha256=hashed.hash.hexdigest(),
            closed=is_final() and not provisional,
        )
        self._finished[name] = made
        self._save(complete=False)
        return made

    def finish(self) -> None:
        """Record that all files are there."""
        self._save(complete=True)

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
