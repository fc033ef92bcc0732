"""Cells of CSV for spreadsheets: no text becomes a formula there, and our readers read it unchanged."""

import re
from collections.abc import Iterable

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
