"""Prints lists, and asks the service for those that it has a route for."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import typer
from pydantic import BaseModel

from commonwatt.cli.tables import show
from utility.webkit.cli.service import read
from utility.webkit.columns import cells, columns_of, heading, plain

_Row = TypeVar("_Row", bound=BaseModel)


def rows_from(config: Path, path: str, model: type[_Row], **query: object) -> list[_Row]:
    """Return the rows of the list that a route of the service answers with; ``None`` in the query: not given."""
    given = {name: value for name, value in query.items() if value is not None}
    (rows,) = read(config, f"{path}?{urlencode(given, doseq=True)}").values()
    return [model.model_validate(row) for row in rows]


def print_rows(
    title: str,
    rows: Sequence[Any],
    columns: Sequence[str] | type[BaseModel] = (),
    *,
    as_json: bool = False,
    shown: Callable[[Any], Mapping[str, object]] = dict,
) -> None:
    """Print rows as a table, or as JSON.

    Args:
        rows: Models, dataclasses or mappings.
        columns: The columns of the table; none: all that are shown; a model: those that it declares.
        as_json: Whether they are printed as JSON, with all that they have.
        shown: Returns a row as the table shows it.
    """
    if as_json:
        typer.echo(json.dumps([_plain(row) for row in rows], indent=1))
    elif isinstance(columns, type):
        show(title, [dict(cells(row)) for row in rows], [heading(column) for column in columns_of(columns)])
    else:
        lines = [dict(shown(row)) for row in rows]
        show(title, lines, columns or [*lines[0]] if lines else ())


def _plain(row: Any) -> Any:
    if isinstance(row, BaseModel):
        return plain(row)
    return row if isinstance(row, Mapping) else asdict(row)
