"""Groups of commands, options that commands of several parts have, and tables in a terminal.

Tables for people in a terminal.
The library that draws them is loaded when one is shown: services import this module, too, and show none.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Annotated, Any, TypeVar, cast

import typer

from commonwatt.model.text import moment, printable
from commonwatt.runtime.service import errors_reported, progress_bar

LimitOption = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="The most rows to show.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

_C = TypeVar("_C", bound=Callable[..., Any])


class Commands(typer.Typer):
    """A group of commands that report their errors, and whose help flows in any terminal's width."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[_C], _C]:
        """Return the decorator that adds a command."""
        add = super().command(*arguments, **options)

        def added(command: _C) -> _C:
            paragraphs = (inspect.getdoc(command) or "").split("\n\n")
            command.__doc__ = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)

            @wraps(command)
            def run(*given: Any, **named: Any) -> object:
                with errors_reported():
                    return command(*given, **named)

            return add(cast("_C", run))

        return added


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


@contextmanager
def shown_progress(what: str, whole: float | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar of one task; it is told what is done and, if that changes, the whole and what is being done."""
    with progress_bar() as progress:
        task = progress.add_task(what, total=whole)
        yield lambda done, whole=None, what=None: progress.update(task, completed=done, total=whole, description=what)


def _cell(column: str, value: object) -> str:
    if value is None:
        return ""
    if column in _TIMES and isinstance(value, int):
        return moment(value)
    return json.dumps(value) if isinstance(value, dict | list) else printable(str(value))
