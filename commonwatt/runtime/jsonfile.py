"""JSON files that a program of ours wrote and somebody may have changed: read strictly, each fault in one line."""

import json
from pathlib import Path

from commonwatt.model.exceptions import ConfigError


def read_object(path: Path, what: str, remedy: str) -> dict[str, object]:
    """Return the object a JSON file holds.

    Args:
        path: The file.
        what: What it should be, such as "a registry".
        remedy: What to do about it, such as "make one with: commonwatt utility register".

    Raises:
        ConfigError: It is missing, no JSON, no object; or a key is in it twice, of which a reader would see one.
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
