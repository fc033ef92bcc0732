"""What the utility's commands share: options, the database, asking the service by one's login; ``show`` and ``do``."""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import date
from difflib import get_close_matches
from enum import StrEnum
from getpass import getuser
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from commonwatt.cli.options import Commands as Commands
from commonwatt.cli.options import show as show_table
from commonwatt.cli.options import shown_progress
from commonwatt.config.files import load_settings, place_of, read_text
from commonwatt.doctor.running import ask_service, local_headers
from commonwatt.model.calendar import parse_time
from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError
from commonwatt.model.text import line_of, moment
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock, load_clock
from commonwatt.runtime.files import write_private
from commonwatt.runtime.service import errors_reported
from utility.access.people import MACHINE, Actor, Role, on_machine
from utility.database.base import Connection
from utility.database.database import Database, open_database
from utility.database.town_zone import town_zone
from utility.settings import UtilitySettings
from utility.webkit.columns import COLUMN, Written, type_name

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        is_eager=True,  # Before the times, which need its town (`time_option`).
        help="The utility's file (TOML); its one table is called utility.",
    ),
]


def time_option(about: str, *names: str) -> Any:
    """Return an option that is a time; without an offset it is of the town's zone.

    Args:
        about: Its help.
        names: Its names; none: the parameter's.
    """
    return typer.Option(*names, parser=str, callback=_time_of, metavar="TIME", help=about)


def _time_of(context: typer.Context, text: str | None) -> EpochSeconds | None:
    """Return the time that an option's text gives."""
    if text is None or context.resilient_parsing:
        return None
    with suppress(ConfigError):
        return parse_time(text, "")
    with errors_reported(), from_file(Path(context.params["config"])) as (database, _):
        zone = town_zone(database)
    try:
        return parse_time(text, "", zone)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def day_option(option: str, text: str) -> int:
    """Return a day of UTC, counted from 1970.

    Args:
        option: The name of the option that has it, for the error.
        text: The day, such as 2026-10-01.

    Raises:
        ConfigError: It is none.
    """
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError as error:
        raise ConfigError(f"{option} {text}: no day; such as 2026-10-01") from error


def load(config: Path) -> tuple[UtilitySettings, Clock]:
    """Return the settings of a file, and the clock they name."""
    settings = load_settings(config, "utility", UtilitySettings)
    return settings, load_clock(settings.clock)


def check_named(option: str, name: object | None, there: Collection[object]) -> None:
    """Check that what an option names is registered; ``None``: it was not given.

    Raises:
        ConfigError: It is not.
    """
    if name is not None and name not in there:
        raise ConfigError(f"{option}: {name!r:.40} is not registered")


def place_of_database(config: Path) -> str:
    """Return the name of the file's key for the database, for error messages."""
    return place_of(config, "utility", "database")


def local_actor() -> Actor:
    """Return the user of this machine, who can read the utility's files; no login proves who that is."""
    return on_machine(f"{getuser()[:18]}@{MACHINE}")


@contextmanager
def opened(url: str, *, create: bool, named: str) -> Iterator[Database]:
    """Open a database, and close it when the context ends."""
    database = open_database(url, create=create, named=named)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def from_file(config: Path) -> Iterator[tuple[Database, Clock]]:
    """Open the database of a configuration file; the service may run at the same time."""
    settings, clock = load(config)
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        yield database, clock


@contextmanager
def reading(config: Path) -> Iterator[tuple[Connection, EpochSeconds]]:
    """Open a transaction that reads the database of a configuration file, with the time of its clock."""
    with from_file(config) as (database, clock), database.reads.begin() as connection:
        yield connection, int(clock.now())


_LOOK_S = 0.1  # real seconds between two looks at a long work

_NEXT = "log in with: commonwatt login --config {config}"

_pause = Event()


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login of commands, as its file has it."""

    address: str  # the service's address, the only one to which the token is sent
    name: str  # the person
    token: str  # the token


def login_file() -> Path:
    """Return the file of the login, in the folder of this machine's user."""
    return Path.home() / ".config" / "commonwatt" / "login.json"


def keep_login(login: Login) -> None:
    """Store a login; only this machine's user can read it."""
    login_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(login_file(), json.dumps(asdict(login)) + "\n")


def _by_login(settings: UtilitySettings, method: str, path: str, content: object) -> tuple[int, bytes]:
    try:
        login = Login(**json.loads(login_file().read_text()))
    except (OSError, ValueError, TypeError):
        return 401, b'{"detail": "nobody is logged in here"}'
    if login.address != settings.http:
        return 401, b'{"detail": "the login here is for the service at another address"}'
    headers = {"Authorization": f"Bearer {login.token}"}
    return ask_service(settings.http, settings.http_certificate, headers, method, path, content)


# Asks the service: its settings, the method, the path, the content; returns status and body.
Way = Callable[[UtilitySettings, str, str, object], tuple[int, bytes]]
WAY: ContextVar[Way] = ContextVar("way", default=_by_login)  # how commands ask the service


def read(config: Path, path: str) -> Any:
    """Return what the service answers; without a login, to a program that can read the service's token file.

    Raises:
        CommonwattError: As ``ask``.
    """
    return ask(config, "GET", path, by_file=True)


def ask(config: Path, method: str, path: str, content: object = None, *, by_file: bool = False) -> Any:
    """Return the content of the service's answer to the person who is logged in.

    Args:
        by_file: Whether the service's token file will do, where nobody is logged in.

    Raises:
        ConfigError: No person is logged in, or the service refuses; says why.
        StoreError: The service does not answer.
        CommonwattError: The service failed.
    """
    settings, _ = load(config)
    try:
        code, body = WAY.get()(settings, method, path, content)
        if code == 401 and by_file and os.access(settings.tokens, os.R_OK):
            headers = local_headers(settings)
            code, body = ask_service(settings.http, settings.http_certificate, headers, method, path, content)
    except (OSError, HTTPException) as error:
        raise StoreError(
            f"{settings.http}: no answer ({str(error) or type(error).__name__}). Start the service; if it can't be "
            "started and a decision can't wait: commonwatt utility break-glass"
        ) from error
    if code == 401:
        raise ConfigError(f"{reason_of(body)}; {_NEXT.format(config=config)}")
    if 400 <= code < 500:
        raise ConfigError(reason_of(body))
    if code >= 500:
        raise CommonwattError(reason_of(body))
    return json.loads(body)


def name_of_login(config: Path, role: str) -> str:
    """Return the name of the person who is logged in, for what a command does on this machine.

    Raises:
        ConfigError: No person is, or the person does not have the role.
    """
    me = ask(config, "GET", "/me")
    if role not in me["roles"]:
        raise ConfigError(f"{me['name']}: this needs the role {role}")
    return str(me["name"])


def work(config: Path, path: str, content: object = None) -> str:
    """Begin a long work at the service, and wait for its end; return the path of its result, empty: it has none.

    Raises:
        CommonwattError: It is refused, or failed; says why.
    """
    begun = ask(config, "POST", path, content)
    with shown_progress(begun["what"]) as show_done:
        while begun["state"] in ("waiting", "running"):
            _pause.wait(_LOOK_S)
            begun = ask(config, "GET", f"/works/{begun['id']}")
            show_done(begun["done"], begun["whole"] or None)
    if begun["state"] == "failed":
        raise CommonwattError(begun["fault"])
    return str(begun["result"])


def reason_of(body: bytes) -> str:
    """Return why a request was refused."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
    if isinstance(detail, list):
        return "\n".join(
            fault if isinstance(fault, str) else f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}"
            for fault in detail
        )
    return str(detail)


MOST = 60  # most characters of a cell; --format csv and json have all
COLUMNS = 8  # most columns of a table; likewise


Schema = Mapping[str, Any]  # a JSON schema of the API's description


class Format(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True, kw_only=True)
class Thing:
    """A list, a thing or an action of the API."""

    name: str  # its address without the first slash: gaps, runs/{number}/bills
    about: str  # what it is, in a line
    filters: Mapping[str, bool]  # the names of its filters, of an action of its fields, and whether it needs them
    roles: frozenset[str]  # who may read or do it
    schema: Schema  # of the answer
    asked: Schema  # of an action's fields; empty: it has none
    is_long: bool  # whether it is an action that begins a long work

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
        self.things = [*self._things(description, "get")]
        self.actions = [*self._things(description, "post")]

    def _things(self, description: Schema, method: str) -> Iterator[Thing]:
        for path, methods in description["paths"].items():
            if (operation := methods.get(method)) is None:
                continue
            code, answer = next((code, response) for code, response in operation["responses"].items() if code < "3")
            if (schema := answer.get("content", {}).get("application/json", {}).get("schema")) is None:
                continue
            body = operation.get("requestBody", {}).get("content", {"application/json": {"schema": {}}})
            fields = self.resolved(body.get("application/json", {}).get("schema", {}))
            yield Thing(
                name=path.removeprefix("/"),
                about=operation["description"].partition("\n")[0].removeprefix("Return ").rstrip("."),
                filters={
                    parameter["name"]: parameter.get("required", False)
                    for parameter in operation.get("parameters", ())
                    if parameter["in"] == "query"
                }
                | {name: name in fields.get("required", ()) for name in fields.get("properties", {})},
                roles=frozenset(operation["x-roles"]),
                schema=self.resolved(schema),
                asked=fields,
                is_long=code == "202",
            )

    def resolved(self, schema: Schema) -> Schema:
        """Return a schema, or the one that it refers to."""
        name = schema.get("$ref", "").rpartition("/")[2]
        return self._schemas[name] if name else schema

    def find(self, words: Sequence[str], things: Sequence[Thing], command: str) -> Thing:
        """Return what words name.

        Raises:
            ConfigError: Nothing has that name; says which are near.
        """
        fitting = [thing for thing in things if thing.fits(words)]
        if not fitting:
            name = "/".join(words)
            near = get_close_matches(name, [thing.name for thing in things], 3)
            raise ConfigError(f"{name}: nothing has this name; {_near(near)}all names: commonwatt {command}")
        return min(fitting, key=lambda thing: thing.name.count("{"))

    def content(self, thing: Thing, fields: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return what is sent for an action; ``chosen.method`` is a field inside ``chosen``.

        Raises:
            ConfigError: It has no such field; says which are near.
        """
        content: dict[str, Any] = {}
        for key, texts in fields.items():
            into, schema = content, thing.asked
            *outer, last = key.split(".")
            for name in outer:
                schema, into = self._field(thing, schema, name), into.setdefault(name, {})
            into[last] = _value(self._field(thing, schema, last), texts)
        return content

    def _field(self, thing: Thing, schema: Schema, name: str) -> Schema:
        """Return the schema of a field, without that it may be left out."""
        fields: Schema = schema.get("properties", {})
        field = fields.get(name, {} if schema.get("additionalProperties") else None)
        if field is None:
            near = _near(get_close_matches(name, fields, 1))
            raise ConfigError(f"{name}: no field of {thing.name}; {near}it has: {', '.join(fields) or 'none'}")
        kinds = [kind for kind in field.get("anyOf", [field]) if kind.get("type") != "null"]
        return self.resolved(kinds[0])

    def columns(self, schema: Schema, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Return the columns of rows, and how each is written; a row without declared columns has all that it holds."""
        properties = self.resolved(schema).get("properties", {})
        declared = {name: column[COLUMN] for name, column in properties.items() if COLUMN in column}
        return declared or {name: "" for row in rows for name, value in row.items() if value not in (None, "", [])}

    def tables(self, thing: Thing, answer: Any) -> Iterator[tuple[str, Schema, list[dict[str, Any]]]]:
        """Return the lists in an answer and in their rows: title, schema of a row, rows; the last has what is none."""
        if not isinstance(answer, dict):
            answer = {thing.name: answer}
        single: dict[str, object] = {}
        for name, value in answer.items():
            if value == [] or _is_rows(value):
                schema = thing.schema.get("properties", {}).get(name) or thing.schema.get("additionalProperties")
                inner = sorted({key for row in value for key, cell in row.items() if _is_rows(cell)})
                rows = [{key: cell for key, cell in row.items() if key not in inner} for row in value]
                yield name, (schema if isinstance(schema, dict) else {}).get("items", {}), rows
                yield from ((key, {}, [item for row in value for item in row[key] or ()]) for key in inner)
            elif isinstance(value, list):
                yield name, {}, [{name: item} for item in value]
            elif isinstance(value, dict):
                single |= {f"{name} {inner}": _cell(inner, "", cell) for inner, cell in value.items()}
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
) -> None:
    """Print a list or a thing that the service has, as a table, CSV or JSON; without a name, all names.

    The running service answers the person of `commonwatt login`, or, on its own machine, a user with the right to read
    its token file. A name in braces stands for yours: `runs/{number}` is `show runs/3` or `show runs 3`.
    Filters have the names that the list of names has. Times are UTC; a table cuts long cells, CSV and JSON do not.

    Examples: `show`, `show gaps limit=5`, `show dead-letters state=quarantined`, `show assignments r001`, `show runs 3
    bills --format csv`.
    """
    words, filters = _split(name or ())
    described = Described(read(config, "/openapi.json"))
    if not words:
        rows: list[dict[str, object]] = [
            {"name": thing.name, "what it is": thing.line, "filters": thing.line_of_filters}
            for thing in described.things
        ]
        show_table("names", rows, ("name", "what it is", "filters"))
        return
    thing = described.find(words, described.things, "show")
    for key in filters:
        if key not in thing.filters:
            has = ", ".join(thing.filters) or "none"
            near = _near(get_close_matches(key, thing.filters, 1))
            raise ConfigError(f"{key}: no filter of {thing.name}; {near}it has: {has}")
    path = f"/{'/'.join(quote(word, safe='') for word in words)}"
    path += f"?{urlencode(filters, doseq=True)}" if filters else ""
    _print(described, thing, read(config, path), form)


def do(
    config: ConfigOption,
    name: Annotated[
        list[str] | None,
        typer.Argument(help="What to do, then fields such as why=text; without it, all names.", metavar="NAME"),
    ] = None,
) -> None:
    """Have the service do something, as the person of `commonwatt login`; without a name, print all names.

    A name in braces stands for yours: `jobs/{name}/pause` is `do jobs/gaps/pause`. Fields have the names that the list
    of names has; a field inside another one follows a full stop. Values of a list are separated by commas; `@FILE` is
    the content of a file. What operators and administrators do, a user with the right to read the service's token file
    may do on its own machine. Without the service: `commonwatt utility break-glass`.

    Examples: `do jobs/gaps/pause`, `do jobs/backup/change at=02:30`, `do assignments/meters/10003 brokers=r002`,
    `do dead-letters/decide numbers=17 decision=released why="new service, 400 A"`, `do runs month=2026-11`.
    """
    words, fields = _split(name or ())
    described = Described(read(config, "/openapi.json"))
    if not words:
        rows: list[dict[str, object]] = [
            {"name": act.name, "what it does": act.line, "fields": act.line_of_filters} for act in described.actions
        ]
        show_table("names", rows, ("name", "what it does", "fields"))
        return
    thing = described.find(words, described.actions, "do")
    path, content = f"/{'/'.join(quote(word, safe='') for word in words)}", described.content(thing, fields)
    if thing.is_long:
        result = work(config, path, content)
        typer.echo("done")
        if result:
            outcome = described.find([word for word in result.split("/") if word], described.things, "show")
            _print(described, outcome, ask(config, "GET", result), Format.TABLE)
        return
    by_file = bool(thing.roles & {Role.OPERATOR, Role.ADMIN})
    answer = ask(config, "POST", path, content if thing.asked else None, by_file=by_file)
    if isinstance(answer, dict) and [*answer] == ["words"]:
        typer.echo("\n".join(answer["words"]))
    else:
        _print(described, thing, answer, Format.TABLE)


def _value(schema: Schema, texts: Sequence[str]) -> Any:
    """Return the value that a field's texts say; the service reads numbers and moments itself."""
    if schema.get("type") == "array":
        return [part for text in texts for part in text.split(",") if part]
    text = texts[-1]
    if "type" not in schema and "enum" not in schema:
        with suppress(ValueError):
            return json.loads(text)
    return read_text(Path(text[1:])) if text.startswith("@") else text


def _split(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Return the parts of the name, and the filters of a list or the fields of an action."""
    parts: list[str] = []
    filters: dict[str, list[str]] = {}
    for word in words:
        key, is_filter, value = word.partition("=")
        if is_filter:
            filters.setdefault(key, []).append(value)
        else:
            parts += [part for part in word.split("/") if part]
    return parts, filters


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


def _is_rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(row, dict) for row in value)


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
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        value = ", ".join(map(str, value))
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MOST else f"{text[: MOST - 1]}…"


_UNITS = {Written.ENERGY.value: " kWh", Written.BYTES.value: " GB"}
_TIMES = (
    "time",
    "entered",
    "made",
    "start",
    "end",
    "next_time",
    "expires",
    "from",
    "to",
    "first",
    "last",
    "last_seen",
    "last_batch",
)


def _near(names: Sequence[str]) -> str:
    return f"near: {', '.join(names)}; " if names else ""
