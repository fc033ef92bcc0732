"""Text for people: times and counts in words, and cells of CSV, none of which becomes a formula."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime


def moment(time: int) -> str:
    """Return a time with its date, UTC."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def near(time: int, other: int) -> str:
    """Return a time of day, with its date if it differs from the other time's date."""
    text = moment(time)
    return text[11:19] if text[:10] == moment(other)[:10] else text[:19]


def counted(number: int, what: str) -> str:
    """Return a number with its noun, such as ``1 slot`` or ``2 slots``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """Return a text without characters that would end a line or steer a terminal; they are escaped."""
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in text)


def duration(seconds: int) -> str:
    """Return a time span in one unit, such as ``12 s`` or ``3 hours``."""
    if seconds < 100:
        return f"{max(0, seconds)} s"
    if seconds < 100 * 60:
        return f"{seconds // 60} min"
    if seconds < 48 * 3600:
        return counted(seconds // 3600, "hour")
    return counted(seconds // 86_400, "day")


def spaced(code: str, size: int = 8) -> str:
    """Return a code in groups of so many characters, for people who compare it."""
    return " ".join(code[at : at + size] for at in range(0, len(code), size))


_HARMLESS = re.compile(r"-?\d+(\.\d+)?|[+-]\d\d:\d\d", re.ASCII)  # a number, or an offset from UTC

_BEGIN = r"\A(?='*[=+\-@\x00-\x1f\x7f])"
# Spreadsheets of many countries begin a cell at a semicolon, and at the end of a line, within a text too.
_WITHIN = r"(?<=[;\t\r\n])(?=[ ']*[=+\-@])"
_FORMULA = re.compile(f"{_BEGIN}|{_WITHIN}")
_MARKED = re.compile(r"\A'(?='*[=+\-@\x00-\x1f\x7f])|(?<=[;\t\r\n])'(?=[ ']*[=+\-@])")


def cell_of(value: object) -> str:
    """Return a value as a cell (RFC 4180), ``None`` as an empty one.

    A text gets an apostrophe where a formula could begin.
    """
    text = "" if value is None else str(value)
    if not _HARMLESS.fullmatch(text):
        text = _FORMULA.sub("'", text)
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def line_of(values: Iterable[object], end: str = "\r\n") -> str:
    """Return a line of cells."""
    return ",".join(map(cell_of, values)) + end


def text_of(cell: str) -> str:
    """Return the text of a cell that a CSV reader read: without the apostrophes of ``cell_of``."""
    return _MARKED.sub("", cell)
