"""Before and after of an entry of the audit log, in rows that a person can read (pure)."""

import json
from collections.abc import Callable, Iterator

from commonwatt.model.units import EpochSeconds

_TIMES = frozenset({"until", "start", "opened", "paused"})  # names of values in epoch seconds
_WORDS = {"every_s": "every, seconds", "minute": "minute of the day", "mwh": "milliwatt-hours", "no": "number"}
MOST_ROWS = 100  # most rows of one entry


def rows_of(before: str | None, after: str | None, local: Callable[[EpochSeconds], str]) -> list[tuple[str, str, str]]:
    """Return what changed: name, before, after; a value that is the same is left out.

    Args:
        before: JSON, perhaps cut off; ``None``: there was nothing.
        after: The same of the value after.
        local: Returns a time as people read it.
    """
    was, now = ({name: _text(name, it, local) for name, it in _flat("", _parsed(text))} for text in (before, after))
    names = [*was, *(name for name in now if name not in was)]
    changed = [(name, was.get(name, ""), now.get(name, "")) for name in names if was.get(name) != now.get(name)]
    return [(_words(name), old, new) for name, old, new in changed[:MOST_ROWS]]


def _parsed(text: str | None) -> object:
    if text is None:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return f"{text} (cut off)"


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list) and any(isinstance(inner, dict | list) for inner in value):
        for place, inner in enumerate(value, start=1):
            yield from _flat(f"{name} {place}".strip(), inner)
    elif value is not None:
        yield name, value


def _text(name: str, value: object, local: Callable[[EpochSeconds], str]) -> str:
    if isinstance(value, list):
        return ", ".join(_text(name, inner, local) for inner in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.rpartition(".")[2] in _TIMES:
        return local(value)
    return str(value)


def _words(name: str) -> str:
    parts = (_WORDS.get(part, part.replace("_", " ")) for part in name.split("."))
    return " ".join(parts)
