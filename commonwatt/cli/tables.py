"""Tables for people in a terminal.

The library that draws them is loaded when one is shown: services import this module, too, and show none.
"""

import json
from collections.abc import Sequence

import typer

from commonwatt.model.words import moment, printable

_TIMES = ("time", "start", "next_time", "due", "done", "expires")

_WHOLE = ("no", "id", "time", "to", "sender", "meter", "microgrid")
"""Columns that are never wrapped, so that they can be copied."""


def show(title: str, rows: Sequence[dict[str, object]], columns: Sequence[str]) -> None:
    """Print rows as a table."""
    if not rows:
        typer.echo(f"no {title}")
        return
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"{title} ({len(rows)} shown)", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    cells = [[_cell(column, row[column]) for column in columns] for row in rows]
    for number, column in enumerate(columns):
        if column in _WHOLE:
            longest = max(len(row[number]) for row in cells)
            table.add_column(column, no_wrap=True, overflow="ignore", min_width=longest)
        else:
            table.add_column(column.replace("_", " "), overflow="fold")
    for row in cells:
        # Received text must not be read as rich's markup.
        table.add_row(*map(escape, row))
    Console().print(table)


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column in _TIMES and isinstance(value, int):
        return moment(value)
    return json.dumps(value) if isinstance(value, dict | list) else printable(str(value))
