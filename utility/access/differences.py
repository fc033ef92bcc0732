"""Before and after of an entry of the audit log, in rows that a person can read (pure)."""

import json
from collections.abc import Iterator

MOST_ROWS = 100  # most rows of one entry


def rows_of(before: str | None, after: str | None) -> list[tuple[str, str, str]]:
    """Return what changed: name, before, after; a value that is the same is left out.

    Args:
        before: JSON, perhaps cut off; ``None``: there was nothing.
        after: The same of the value after.
    """
    was, now = dict(_flat("", _parsed(before))), dict(_flat("", _parsed(after)))
    names = [*was, *(name for name in now if name not in was)]
    changed = [(name, was.get(name, ""), now.get(name, "")) for name in names if was.get(name) != now.get(name)]
    return changed[:MOST_ROWS]


def _parsed(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return f"{text} (cut off)"


def _flat(name: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value, start=1):
            yield from _flat(f"{name} {place}".strip(), inner)
    elif isinstance(value, list):
        yield name, ", ".join(map(_text, value))
    elif value is not None:
        yield name, _text(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
