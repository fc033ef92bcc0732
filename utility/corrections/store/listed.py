"""Corrections by pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from commonwatt.model.exceptions import ConfigError
from utility.corrections.store.corrections import Chosen, SeriesKey, found
from utility.corrections.summaries import summaries

MAX_BLOCKS = 2_000  # most quarter-hours that one page reads; more of them are on the next


@dataclass(frozen=True, kw_only=True)
class Page:
    """Some rows of a list."""

    rows: list[Any]  # the rows
    after: str  # the last block of the page, to ask for the next one; empty: there is none


def corrections_page(
    connection: Connection, chosen: Chosen, states: Sequence[str], limit: int, after: str = ""
) -> Page:
    """Return lines of corrections, by meter and time.

    Args:
        limit: At most so many lines, or those of one quarter-hour; a long line may go on on the next page.
        after: As ``Page.after`` of the page before.
    """
    rows = found(connection, chosen, states, MAX_BLOCKS + 1, block_of(after) if after else None)
    lines = summaries(rows)
    following = rows[-1] if len(rows) > MAX_BLOCKS else None
    if len(lines) > limit:
        following = next(row for row in rows if row.no == lines[limit].numbers[0])
    if following is None:
        return Page(rows=lines, after="")
    # A quarter-hour with two methods stays on one page, also where they are more lines than asked for.
    last = max((key for key in map(series_of, rows) if key < series_of(following)), default=series_of(rows[0]))
    kept = [row for row in rows if series_of(row) <= last]
    return Page(rows=summaries(kept), after=".".join(map(str, last)) if len(kept) < len(rows) else "")


def series_of(row: Any) -> SeriesKey:
    """Return the block of a row."""
    return row.meter_no, row.record_type, row.quarter


def block_of(after: str) -> SeriesKey:
    """Return the block that ``Page.after`` names.

    Raises:
        ConfigError: The text names none.
    """
    parts = after.split(".")
    if len(parts) != 3 or not all(part.isdecimal() and part.isascii() and len(part) <= 9 for part in parts):
        raise ConfigError(f"after: {after:.40}: names no place of the list")
    number, kind, quarter = map(int, parts)
    return number, kind, quarter
