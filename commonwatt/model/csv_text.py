"""Cells of CSV for spreadsheets: no text becomes a formula there, and our readers read it unchanged."""

import re
from collections.abc import Iterable

_HARMLESS = re.compile(r"-?\d+(\.\d+)?|[+-]\d\d:\d\d", re.ASCII)  # a number, or an offset from UTC

_FORMULA = re.compile(r"'*[=+\-@\x00-\x1f\x7f]")
_MARKED = re.compile(r"'+[=+\-@\x00-\x1f\x7f]")


def cell_of(value: object) -> str:
    """Return a value as a cell (RFC 4180); ``None`` is empty. A text that begins like a formula gets an apostrophe."""
    text = "" if value is None else str(value)
    if _FORMULA.match(text) and not _HARMLESS.fullmatch(text):
        text = f"'{text}"
    return '"' + text.replace('"', '""') + '"' if any(c in text for c in ',"\r\n') else text


def line_of(values: Iterable[object], end: str = "\r\n") -> str:
    """Return a line of cells."""
    return ",".join(map(cell_of, values)) + end


def text_of(cell: str) -> str:
    """Return the text of a cell that a CSV reader read: without the apostrophe of ``cell_of``."""
    return cell[1:] if _MARKED.match(cell) else cell
