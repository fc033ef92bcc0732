"""Usage as files of a month: of each scope, over the month and the quarter, year and five years around it (A7)."""

from collections.abc import Mapping
from pathlib import Path

from commonwatt.model.csv_text import line_of
from commonwatt.runtime.files import replace_file
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.statistics.months import Span, month_number, span_around, span_text
from utility.statistics.store.usage import Scope
from utility.statistics.store.usage_view import usage_of_all
from utility.statistics.words import COLUMNS, cells_of


def write_usage(database: Database, month: str, out: Path) -> int:
    """Write the files of a month, such as ``account-five_years.csv``, in place of earlier ones; return how many rows.

    Args:
        month: The local month.
        out: The folder.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for scope in Scope:
        for span in Span:
            rows = _rows(database, scope, span, month)
            lines = [line_of(COLUMNS), *(line_of(row[name] for name in COLUMNS) for row in rows)]
            replace_file(out / f"{scope.name.lower()}-{span.value}.csv", "".join(lines).encode())
            written += len(rows)
    return written


def _rows(database: Database, scope: Scope, span: Span, month: str) -> list[Mapping[str, str]]:
    with database.reads.begin() as connection:
        zone = zone_of(connection)
        found = usage_of_all(connection, scope, span_around(month_number(month), span))
    name = scope.name.lower()
    return [
        cells_of(name, row.name, span_text(row.months, span), row.totals, zone, is_provisional=row.is_provisional)
        for row in found
    ]
