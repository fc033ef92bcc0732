"""``commonwatt show``: prints what the service's API answers with; the API's own description says what there is."""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from threading import Event
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import click
import typer

from commonwatt.cli.tables import show as show_table
from commonwatt.model.csv_text import line_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import moment
from utility.access.roles import Role
from utility.webkit.cli.options import ConfigOption
from utility.webkit.cli.service import read
from utility.webkit.columns import COLUMN, Written, type_name

WATCH_S = 5.0  # real seconds between two looks of --watch
MOST = 60  # most characters of a cell; --format csv and json have all
COLUMNS = 8  # most columns of a table; likewise

_pause = Event()

Schema = Mapping[str, Any]  # a JSON schema of the API's description


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A list or a thing that the API answers with."""

    name: str  # its address without the first slash: gaps, runs/{number}/bills
    about: str  # what it is, in a line
    filters: Mapping[str, bool]  # the names of its filters, and whether it needs them
    roles: frozenset[str]  # who may read it
    schema: Schema  # of the answer

    @property
    def line(self) -> str:
        """Return what it is, and who may read it, if not all roles of the utility."""
        some = "" if not self.roles or Role.VIEWER in self.roles else f" ({', '.join(sorted(self.roles))})"
        return self.about + some

    @property
    def line_of_filters(self) -> str:
        """Return the names of its filters."""
        return ", ".join(f"{name} (needed)" if needed else name for name, needed in self.filters.items())

    def fits(self, words: Sequence[str]) -> bool:
        """Return whether words name it: each is a part of the name, or stands for one in braces."""
        parts = self.name.split("/")
        return len(parts) == len(words) and all(
            part == word or part.startswith("{") for part, word in zip(parts, words, strict=True)
        )


class Described:
    """The API, as it describes itself.

    Args:
        description: Its OpenAPI description.
    """

    def __init__(self, description: Schema) -> None:
        self._schemas: Schema = description["components"]["schemas"]
        self.things = [
            Thing(
                name=path.removeprefix("/"),
                about=operation["description"].partition("\n")[0].removeprefix("Return ").rstrip("."),
                filters={
                    each["name"]: each.get("required", False)
                    for each in operation.get("parameters", ())
                    if each["in"] == "query"
                },
                roles=frozenset(operation["x-roles"]),
                schema=self.resolved(content["application/json"]["schema"]),
            )
            for path, methods in description["paths"].items()
            if (operation := methods.get("get")) is not None
            and (content := operation["responses"]["200"].get("content", {})).get("application/json", {}).get("schema")
        ]

    def resolved(self, schema: Schema) -> Schema:
        """Return a schema, or the one that it refers to."""
        name = schema.get("$ref", "").rpartition("/")[2]
        return self._schemas[name] if name else schema

    def find(self, words: Sequence[str]) -> Thing:
        """Return what words name.

        Raises:
            ConfigError: Nothing has that name; says which are near.
        """
        fitting = [thing for thing in self.things if thing.fits(words)]
        if not fitting:
            asked = "/".join(words)
            near = get_close_matches(asked, [thing.name for thing in self.things], 3)
            raise ConfigError(f"{asked}: nothing has this name; {_near(near)}all names: commonwatt show")
        return min(fitting, key=lambda thing: thing.name.count("{"))

    def columns(self, schema: Schema, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return the columns of rows, and how each is written; a row without declared columns has all that it holds."""
        properties = self.resolved(schema).get("properties", {})
        declared = {name: one[COLUMN] for name, one in properties.items() if COLUMN in one}
        return declared or {name: "" for row in rows for name, value in row.items() if value not in (None, "", [])}

    def tables(self, thing: Thing, answer: Any) -> Iterator[tuple[str, Schema, list[dict[str, Any]]]]:
        """Return the lists in an answer: title, schema of a row, rows; what is no list is a row of the last one."""
        if not isinstance(answer, dict):
            answer = {thing.name: answer}
        single: dict[str, object] = {}
        for name, value in answer.items():
            if isinstance(value, list) and all(isinstance(row, dict) for row in value):
                schema = thing.schema.get("properties", {}).get(name) or thing.schema.get("additionalProperties")
                yield name, (schema if isinstance(schema, dict) else {}).get("items", {}), value
            elif isinstance(value, list):
                yield name, {}, [{name: one} for one in value]
            elif isinstance(value, dict):
                single |= {f"{name} {inner}": _cell(inner, "", each) for inner, each in value.items()}
            elif value not in (None, ""):
                single[name] = _cell(name, "", value)
        if single:
            yield thing.name, {}, [{"what": name.replace("_", " "), "value": value} for name, value in single.items()]


def show(
    config: ConfigOption,
    name: Annotated[
        list[str] | None,
        typer.Argument(help="What to show, then filters such as limit=5; without it, all names.", metavar="NAME"),
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="table, csv or json.")] = Format.TABLE,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every 5 s, until Ctrl-C.")] = False,
) -> None:
    """Print a list or a thing that the service has, as a table, CSV or JSON; without a name, all names.

    The running service answers the person of `commonwatt login`, or, on its own machine, a user with the right to read
    its token file. A name in braces stands for yours: `runs/{number}` is `show runs/3` or `show runs 3`.
    Filters have the names that the list of names has. Times are UTC; a table cuts long cells, CSV and JSON do not.

    Examples: `show`, `show gaps limit=5`, `show dead-letters state=quarantined`, `show assignments r001`, `show runs 3
    bills --format csv`, `show alarms --watch`.
    """
    words, given = _split(name or ())
    described = Described(read(config, "/openapi.json"))
    if not words:
        rows: list[dict[str, object]] = [
            {"name": thing.name, "what it is": thing.line, "filters": thing.line_of_filters}
            for thing in described.things
        ]
        show_table("names", rows, ("name", "what it is", "filters"))
        return
    thing = described.find(words)
    for key in given:
        if key not in thing.filters:
            has = ", ".join(thing.filters) or "none"
            near = _near(get_close_matches(key, thing.filters, 1))
            raise ConfigError(f"{key}: no filter of {thing.name}; {near}it has: {has}")
    path = f"/{'/'.join(quote(word, safe='') for word in words)}"
    path += f"?{urlencode(given, doseq=True)}" if given else ""
    while True:
        answer = read(config, path)
        if watch and sys.stdout.isatty():
            click.clear()
        _print(described, thing, answer, form)
        if not watch or _pause.wait(WATCH_S):
            return


def _split(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the parts of the name, and the filters."""
    parts: list[str] = []
    given: dict[str, list[str]] = {}
    for word in words:
        key, is_filter, value = word.partition("=")
        if is_filter:
            given.setdefault(key, []).append(value)
        else:
            parts += [part for part in word.split("/") if part]
    return parts, given


def _print(described: Described, thing: Thing, answer: Any, form: Format) -> None:
    if form is Format.JSON:
        typer.echo(json.dumps(answer, indent=1))
        return
    for title, schema, rows in described.tables(thing, answer):
        if form is Format.CSV:
            fields = list(dict.fromkeys(name for row in rows for name in row))
            sys.stdout.write(line_of(fields))
            sys.stdout.writelines(line_of(_plain(row.get(name)) for name in fields) for row in rows)
            return  # A file has one table: the first list.
        columns = described.columns(schema, rows)
        left_out = [*columns][COLUMNS:]
        columns = dict([*columns.items()][:COLUMNS])
        names = [name + _UNITS.get(kind, "") for name, kind in columns.items()]
        cells = [[_cell(name, kind, row.get(name)) for name, kind in columns.items()] for row in rows]
        show_table(title.replace("_", " "), [dict(zip(names, row, strict=True)) for row in cells], names)
        if left_out:
            typer.echo(f"also, with --format csv: {', '.join(left_out)}")


def _plain(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list | bool) else value


def _cell(name: str, kind: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and (kind == Written.MOMENT or name in _TIMES):
        return moment(value)
    if isinstance(value, int | float):
        if kind in (Written.ENERGY, Written.BYTES):
            return f"{value / (1e6 if kind == Written.ENERGY else 1e9):.3f}"
        return type_name(int(value)) if kind == Written.RECORD_TYPE else str(value)
    if isinstance(value, list) and not any(isinstance(one, dict | list) for one in value):
        value = ", ".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


_UNITS = {Written.ENERGY.value: " kWh", Written.BYTES.value: " GB"}
_TIMES = ("time", "start", "end", "next_time", "expires", "from", "to", "first", "last", "last_seen", "last_batch")


def _near(names: Sequence[str]) -> str:
    return f"near: {', '.join(names)}; " if names else ""
