"""Files that our programs write: replaced whole and durably; JSON read strictly, each fault in one line."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO

from commonwatt.model.exceptions import ConfigError


def read_object(path: Path, what: str, remedy: str) -> dict[str, object]:
    """Return the object in a JSON file.

    Args:
        what: The expected content, such as "a registry".
        remedy: What to do about it, such as "make one with: commonwatt utility register".

    Raises:
        ConfigError: The file is missing, no JSON or no object, or it contains a key twice.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not {what} ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: not {what} (no JSON object); {remedy}")
    return content


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"{twice!r} is there twice")
    return found


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no number")


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` in one durable step; only this user can read the file."""
    replace_file(path, text.encode())


def replace_file(path: Path, content: bytes, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> None:
    """Replace ``path`` by ``content`` as ``replacing`` does."""
    with replacing(path, mode=mode, owner=owner) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, mode: int = 0o600, owner: tuple[int, int] | None = None) -> Iterator[BinaryIO]:
    """Give a file that replaces ``path`` in one durable step at the end; after an error, ``path`` is as it was.

    Args:
        mode: Its permissions.
        owner: Numbers of its user and group, set before the file gets its name; ``None``: this process's.
    """
    # A new, unguessable name, so that the write can't follow an existing file or link.
    descriptor, name = mkstemp(dir=path.parent, prefix=f"{path.name}.", suffix=".new")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            os.fchmod(descriptor, mode)
            if owner is not None:
                os.fchown(descriptor, *owner)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
