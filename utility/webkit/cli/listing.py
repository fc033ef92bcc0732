"""Prints a list whose columns are declared (``utility.webkit.columns``)."""

import json
from collections.abc import Sequence

import typer
from pydantic import BaseModel

from commonwatt.cli.tables import show
from utility.webkit.columns import cells, columns_of, heading, plain


def show_rows(title: str, model: type[BaseModel], rows: Sequence[BaseModel], *, as_json: bool) -> None:
    """Print the rows of a model as a table, or as JSON."""
    if as_json:
        typer.echo(json.dumps([plain(row) for row in rows], indent=1))
    else:
        show(title, [dict(cells(row)) for row in rows], [heading(column) for column in columns_of(model)])
