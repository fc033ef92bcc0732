"""Prints lists, and declares the commands that do no more: a title, columns, and a route or a query."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlencode

import typer
from pydantic import BaseModel

from commonwatt.cli.tables import show
from commonwatt.model.units import EpochSeconds
from utility.database.base import Connection
from utility.database.database import Database
from utility.webkit.cli.options import from_file
from utility.webkit.cli.service import read
from utility.webkit.columns import cells, columns_of, heading, plain

_C = TypeVar("_C", bound=Callable[..., None])


@dataclass(frozen=True, kw_only=True)
class Here:
    """What a query on this machine reads."""

    database: Database  # the database
    connection: Connection  # a transaction that reads it
    now: EpochSeconds  # the time of the file's clock


@dataclass(frozen=True)
class Route:
    """A route of the service that answers with a list: the command's options are its query."""

    path: str  # its path
    row: type[BaseModel]  # a row of the answer


Query = Callable[..., Sequence[Any]]  # returns the rows, of ``Here`` and a command's options by name


def lists(
    title: str,
    columns: Sequence[str] | type[BaseModel],
    source: Route | Query,
    shown: Callable[[Any], Mapping[str, object]] = dict,
) -> Callable[[_C], _C]:
    """Return a decorator that makes a command print a list; the command declares its options and its help.

    Args:
        title: What the list is of.
        columns: The columns of the table; a model: those that it declares.
        source: Where the rows come from.
        shown: Returns a row as the table shows it; ``--json`` prints it as it comes.
    """

    def declare(command: _C) -> _C:
        @wraps(command)
        def run(config: Path, *, as_json: bool = False, **options: Any) -> None:
            print_rows(title, columns, rows_of(config, source, options), as_json=as_json, shown=shown)

        return cast("_C", run)

    return declare


def print_rows(
    title: str,
    columns: Sequence[str] | type[BaseModel],
    rows: Sequence[Any],
    *,
    as_json: bool,
    shown: Callable[[Any], Mapping[str, object]] = dict,
) -> None:
    """Print rows as a table, or as JSON; ``lists`` explains the arguments."""
    if as_json:
        typer.echo(json.dumps([plain(row) if isinstance(row, BaseModel) else row for row in rows], indent=1))
    elif isinstance(columns, type):
        show(title, [dict(cells(row)) for row in rows], [heading(column) for column in columns_of(columns)])
    else:
        show(title, [dict(shown(row)) for row in rows], columns)


def rows_of(config: Path, source: Route | Query, options: Mapping[str, Any]) -> Sequence[Any]:
    """Return the rows of a list; an option that is ``None`` was not given."""
    if isinstance(source, Route):
        given = {name: value for name, value in options.items() if value is not None}
        (rows,) = read(config, f"{source.path}?{urlencode(given, doseq=True)}").values()
        return [source.row.model_validate(row) for row in rows]
    with from_file(config) as (database, clock), database.reads.begin() as connection:
        return source(Here(database=database, connection=connection, now=int(clock.now())), **options)
