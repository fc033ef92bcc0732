"""Configuration files: one TOML file per part, read and checked, each fault in words and with its line.

A file has one table, named after its part (``[gateway]``), and perhaps lists of tables (``[[meter]]``). Relative paths
are relative to the file.
"""

import json
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from commonwatt.config.settings import PARTS, GatewaySettings, Settings, settings_of
from commonwatt.identity.passwords import load_password
from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import read_object

_WORDS = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_parsing_size": "must be a smaller number",
    "decimal_type": "must be an amount such as 12.50",
    "decimal_parsing": "must be an amount such as 12.50",
    "decimal_max_digits": "must be an amount of fewer digits",
    "decimal_max_places": "must have at most {decimal_places} decimals",
    "decimal_whole_digits": "must be an amount of fewer digits",
    "string_too_long": "must have at most {max_length} characters",
    "string_type": "must be a text in quotes",
    "path_type": "must be a path in quotes",
    "list_type": "must be a list in [ ]",
    "tuple_type": "must be a list in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "date_parsing": "must be a date such as 2026-11-01",
    "date_from_datetime_parsing": "must be a date such as 2026-11-01",
    "missing": "is missing",
    "extra_forbidden": "is not a known key",
}
"""By pydantic's type of fault; the texts in braces are in its context."""


_TYPED = {
    "missing": "fill this in",
    "string_type": "write a text here",
    "bool_parsing": "tick it, or leave it",
    "string_pattern_mismatch": "is not written as it has to be",
    "value_error": "is a file where a text belongs, or a text where a file belongs",
    "list_type": "choose one",
    "time": "is no time such as 2026-11-01T18:00",
    "enum": "choose one that is offered",
    "literal_error": "choose one that is offered",
}
"""Those that differ for a person who fills in a form."""


def typed_words(fault: Any) -> str:
    """Return what is wrong with a field of a form, for a person."""
    return _TYPED.get(fault["type"]) or plain(fault)


def plain(fault: Any) -> str:
    """Return what is wrong, for people; ``fault`` is one of pydantic's ``errors()``."""
    words = _WORDS.get(fault["type"])
    return str(fault["msg"]).removeprefix("Value error, ") if words is None else words.format(**fault.get("ctx", {}))


# Settings that name a file which the part creates; all other files must exist when the part starts.
MADE_BY_THE_PART = ("store", "secret", "releases", "packages", "key")
# Settings that name a file which a person makes on the part's machine; the part starts without it.
_MADE_LATER = ("http_password",)

_LISTENS = ("http", "listen")
_ADDRESSES = (*_LISTENS, "broker", "head_end")
_REGISTER = "make one with: commonwatt utility register"

_BOM = "\ufeff"  # the byte order mark, which some editors write before a text; it is passed over

_S = TypeVar("_S", bound=BaseModel)
_HEADER = re.compile(r"^\s*\[{1,2}\s*([^\]]+?)\s*\]{1,2}")
_KEY = re.compile(r"^\s*([A-Za-z0-9_\"'.-]+?)\s*=")


def load_settings(path: Path, part: str, model: type[_S]) -> _S:
    """Read the settings of ``part`` from ``path``, with its paths made absolute.

    Raises:
        ConfigError: The file or a setting is wrong; names file, line, key and the allowed values.
    """
    tables = read_toml(path)
    lists = model.lists if issubclass(model, Settings) else ()
    if part not in tables or not tables.keys() <= {part, *lists}:
        raise ConfigError(
            f"{path}: must have exactly one table, [{part}]"
            + "".join(f", and lists [[{name}]]" for name in lists)
            + ", but has: "
            + (", ".join(f"[{key}]" for key in tables) or "none")
            + f"; see: commonwatt config example {part}"
        )
    table = tables.pop(part)
    if isinstance(table, dict):
        # One table of a list may stand in the part's own table, as [part.name]; and an empty list.
        both = [
            name
            for name in lists
            if name in table and (name in tables or (table[name] != [] and not isinstance(table[name], dict)))
        ]
        inside = next(iter(both), None)
        if inside is not None:
            raise ConfigError(f"{place_of(path, part, inside)}: is a list of its own; write [[{inside}]]")
        table |= tables
    return _absolute(check_model(path, model, table, prefix=(part,)), path)


def check_file(path: Path) -> str:
    """Check a part's file and return the part, which is the name of the file's only table.

    Raises:
        ConfigError: As ``load_settings``.
    """
    table = read_toml(path)
    if "site" in table:
        raise ConfigError(f"{path}: is a site file; to check it, and make the parts' files: commonwatt site init")
    part = next((name for name in table if name in PARTS), "")
    if not part:
        raise ConfigError(f"{path}: its table must be one of " + ", ".join(f"[{p}]" for p in PARTS))
    load_settings(path, part, settings_of(part))
    return part


def check_named_files(path: Path, part: str, later: Collection[str] = ()) -> None:
    """Check that the files a part reads at its start are readable and of its microgrid, and that its ports differ.

    Args:
        later: Names of files that need not be there yet.

    Raises:
        ConfigError: One line for each fault.
    """
    settings = load_settings(path, part, settings_of(part))
    faults = [
        f"{place_of(path, part, *keys)}: {file}: {why}; {description}"
        for keys, file, description in named_files(settings)
        if file.name not in later and (why := _unreadable(file))
    ]
    faults += [f"{place_of(path, part, key)}: {why}" for key, why in _port_faults(dict(settings))]
    if not faults and isinstance(settings, GatewaySettings):
        faults += [f"{place_of(path, part, key)}: {why}" for key, why in _other_microgrid(settings)]
        faults += [f"{place_of(path, part, key)}: {why}" for key, why in _bad_password(settings)]
    if faults:
        raise ConfigError("\n".join(faults))


def named_files(settings: Settings) -> Iterator[tuple[tuple[int | str, ...], Path, str]]:
    """Yield the keys, the file and the description of each setting that names a file that must be there at the start.

    Tables inside are included.
    """
    for keys, one in settings.inside():
        yield from (((*keys, *rest), file, description) for rest, file, description in named_files(one))
    for key, value in settings:
        if isinstance(value, Path) and key not in (*settings.unused, *MADE_BY_THE_PART, *_MADE_LATER):
            yield (key,), value, type(settings).model_fields[key].description or ""


def _port_faults(settings: dict[str, object]) -> Iterator[tuple[str, str]]:
    """Yield each listening key whose address another key of the file has too."""
    values = {key: settings[key] for key in _ADDRESSES if settings.get(key) is not None}
    addresses = {key: set(value) if isinstance(value, tuple) else {value} for key, value in values.items()}
    for key in _LISTENS:
        for other in addresses.keys() - {key}:
            same = addresses.get(key, set()) & addresses[other]
            if same and (other not in _LISTENS or key > other):
                yield key, f"{same.pop()} is the address of {other} too; give each a port of its own"


def _other_microgrid(settings: GatewaySettings) -> Iterator[tuple[str, str]]:
    """Yield each file of a gateway that was made for another microgrid."""
    found = read_object(settings.registry, "a registry", _REGISTER).get("microgrid")
    if found != settings.microgrid:
        yield "registry", f"{settings.registry}: is of microgrid {found}, but this file is of {settings.microgrid}"
    if settings.microgrid not in read_object(settings.tokens, "a token file", _REGISTER):
        yield "tokens", f"{settings.tokens}: has no token of {settings.microgrid}; {_REGISTER}"


def _bad_password(settings: GatewaySettings) -> Iterator[tuple[str, str]]:
    """Yield the password's file of a gateway if it has no password."""
    try:
        if settings.http_password is not None and settings.http_password.exists():
            load_password(settings.http_password)
    except ConfigError as error:
        yield "http_password", str(error)


def notes_on(path: Path, part: str) -> list[str]:
    """Return what a person may not expect of a part's file although it is good."""
    settings = load_settings(path, part, settings_of(part))
    if not isinstance(settings, GatewaySettings) or settings.http is None:
        return []
    command = f"commonwatt gateway password --config {path}"
    unserved = "the page and /status are not served, only /metrics and /health; to serve them,"
    if not settings.serves_page:
        why = f"{settings.http} is beyond this machine, and there is no http_password"
        remedy = f'add http_password = "page-password.json" and run: {command}'
        return [f"{place_of(path, part, 'http')}: {why}: {unserved} {remedy}"]
    if settings.http_password is not None and not settings.http_password.exists():
        place = place_of(path, part, "http_password")
        return [f"{place}: {settings.http_password} is not there yet: {unserved} run: {command}"]
    return []


def place_of(path: Path, *keys: int | str) -> str:
    """Return a key with its file and line; for a missing key, with the line of its table."""
    return place_in(str(path), path.read_text(encoding="utf-8"), *keys)


def place_in(name: str, text: str, *keys: int | str) -> str:
    """Return a key of a TOML text with the text's name (empty: it has none) and line, as ``place_of``."""
    line = _line_of(text.removeprefix(_BOM).splitlines(), keys)
    return ": ".join(filter(None, (name, f"line {line}" if line else "", ".".join(map(str, keys)))))


def read_text(path: Path) -> str:
    """Read a TOML file's text.

    Raises:
        ConfigError: It is missing, unreadable or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from error


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It is missing, unreadable or not TOML.
    """
    return parse_toml(str(path), read_text(path))


def parse_toml(name: str, text: str) -> dict[str, Any]:
    """Return the tables of a TOML text.

    Raises:
        ConfigError: It is not TOML.
    """
    try:
        return tomllib.loads(text.removeprefix(_BOM))
    except (ValueError, RecursionError) as error:  # of TOML itself, of numbers too long
        raise ConfigError(": ".join(filter(None, (name, f"not TOML: {error}")))) from error


def check_model(path: Path, model: type[_S], table: object, prefix: tuple[str | int, ...] = ()) -> _S:
    """Validate ``table`` (found under ``prefix`` in ``path``).

    Raises:
        ConfigError: One line per fault.
    """
    return check_table(partial(place_of, path), model, table, prefix)


def check_table(place: Callable[..., str], model: type[_S], table: object, prefix: tuple[str | int, ...] = ()) -> _S:
    """Validate ``table``; ``place`` returns the words for the place of a key, as ``place_of``.

    Raises:
        ConfigError: One line per fault.
    """
    try:
        return model.model_validate(table)
    except ValidationError as error:
        # Without the cause: pydantic's error quotes the value found, which may be a secret.
        # In the part's own file its lists stand beside its table.
        lists = model.lists if issubclass(model, Settings) and len(prefix) == 1 else ()
        found = error.errors()
        deep = {fault["loc"][:n] for fault in found for n in range(len(fault["loc"]))}

        def where(keys: tuple[int | str, ...]) -> str:
            """Return the place of a key; a list of one element may be a table inside the part's table."""
            beside = place(*keys) if keys[:1] and keys[0] in lists else ""
            return beside if ": line " in beside else place(*prefix, *keys)

        faults = [
            f"{where(fault['loc'])}: {_allowed(model, fault)}"
            for fault in found
            # A list without its wrong elements seems too short.
            if fault["type"] != "too_short" or fault["loc"] not in deep
        ]
        raise ConfigError("\n".join(faults)) from None


def _unreadable(path: Path) -> str | None:
    """Return why a file or folder can't be read; ``None``: it can."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except OSError as error:
        return error.strerror
    return None


def _allowed(model: type[BaseModel], fault: Any) -> str:
    text = plain(fault)
    if fault["type"] == "value_error" and isinstance(fault["input"], dict):
        return text  # The fault concerns several keys; the value found is the whole table, perhaps with a secret.
    at = _model_at(model, fault["loc"])
    known = at.model_fields
    if fault["type"] == "extra_forbidden":
        if issubclass(at, Settings) and (gone := at.gone.get(fault["loc"][-1])):
            return gone
        return "unknown key; known here: " + ", ".join(known)
    if fault["type"] == "missing":
        field = known.get(fault["loc"][-1])
        return "missing; " + ((field and field.description) or "")
    field = known.get(fault["loc"][-1]) if fault["loc"] else None
    return text if field is not None and not field.repr else f"{text} (found {fault['input']!r})"


def _model_at(model: type[BaseModel], keys: tuple[int | str, ...]) -> type[BaseModel]:
    """Return the model of the table that contains the last of ``keys``."""
    for key in keys[:-1]:
        if isinstance(key, str) and key in model.model_fields:
            annotation = model.model_fields[key].annotation
            kinds = (annotation, *get_args(annotation))
            model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), model)
    return model


def _line_of(lines: list[str], keys: tuple[int | str, ...]) -> int:
    """Return the line (from 1) of ``keys``, or of the table in which the key is missing; else 0."""
    table: tuple[int | str, ...] = ()
    seen: dict[tuple[int | str, ...], int] = {}  # the position of the last table of each list
    header_line = 0
    for number, text in enumerate(lines, 1):
        if header := _HEADER.match(text):
            table = ()
            for name in header[1].split("."):
                before = (*table, name)
                table = (*before, seen[before]) if before in seen else before
            if text.lstrip().startswith("[["):
                seen[before] = seen.get(before, -1) + 1
                table = (*before, seen[before])
            if table in ((*keys, 0), keys[: len(table)]):
                header_line = number
        elif (key := _KEY.match(text)) and (*table, key[1]) == keys[: len(table) + 1]:
            return number
    return header_line


def _absolute(settings: _S, path: Path) -> _S:
    """Return ``settings`` with relative paths resolved from the folder of their file."""
    base = path.resolve().parent
    changes: dict[str, object] = {key: base / value for key, value in settings if isinstance(value, Path)}
    changes |= {key: _absolute(value, path) for key, value in settings if isinstance(value, Settings)}
    changes |= {
        key: tuple(_absolute(one, path) if isinstance(one, Settings) else one for one in value)
        for key, value in settings
        if isinstance(value, tuple)
    }
    if database := getattr(settings, "database", None):
        # Imported here: parts without a database are installed without SQLAlchemy.
        from commonwatt.config.database_url import absolute_database

        changes["database"] = absolute_database(database, base)
    return settings.model_copy(update=changes)


def toml_table(header: str, table: Mapping[str, object]) -> str:
    """Return a table of a TOML file.

    Args:
        header: Its first line, such as ``[gateway]``.
        table: Texts, numbers, truth values, dates, and lists and tables of these.
    """
    return "\n".join([header, *(f"{key} = {_toml(value)}" for key, value in table.items())]) + "\n"


def toml_text(tables: Mapping[str, Any], above: str = "") -> str:
    """Return the text of tables and lists of tables, each with a header of its own, however deep."""
    text = ""
    for key, value in tables.items():
        is_list = isinstance(value, list)
        for table in value if is_list else [value]:
            deeper = {name: one for name, one in table.items() if _is_table(one)}
            header = f"[[{above}{key}]]" if is_list else f"[{above}{key}]"
            own = {name: one for name, one in table.items() if name not in deeper}
            text += f"{toml_table(header, own)}\n{toml_text(deeper, f'{above}{key}.')}"
    return text


def _is_table(value: object) -> bool:
    """Return whether a value stands in a table of its own, and not in a line."""
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and isinstance(value[0], dict))


def _toml(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_toml(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, date):
        return value.isoformat()
    # JSON's texts, numbers and truth values are TOML's, but for the character DEL.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def example(part: str) -> str:
    """Return a commented example of the part's file, made from its model; it passes the part's check."""
    model = settings_of(part)
    lines = [f"# {model.__doc__}", *_example_table(part, model)]
    for key in model.lists:
        item = get_args(model.model_fields[key].annotation)[0]
        lines += ["", f"# {model.model_fields[key].description}", *_commented([f"[[{key}]]", *_example_keys(item)])]
    return "\n".join(lines) + "\n"


def _example_table(name: str, model: type[Settings]) -> Iterator[str]:
    """Yield the lines of a table, and of those inside it."""
    yield from (f"[{name}]", *_example_keys(model, {*model.tables(), *model.lists}))
    for key, inside in model.tables().items():
        field = model.model_fields[key]
        table = list(_example_table(f"{name}.{key}", inside))
        yield from ("", f"# {field.description}", *(table if field.default is not None else _commented(table)))


def _commented(lines: list[str]) -> list[str]:
    return [line if line.startswith("#") else f"# {line}" for line in lines]


def _example_keys(model: type[Settings], without: Collection[str] = ()) -> Iterator[str]:
    """Yield a line for the meaning of each key, and one for its value."""
    for key, field in model.model_fields.items():
        if key in without:
            continue
        yield f"# {field.description}"
        default = field.default
        if field.is_required() or (default is None and field.examples):
            yield f"{key} = {json.dumps((field.examples or ['r001'])[0])}"
        elif default is None:
            yield f"# {key} = ..."
        else:
            yield f"{key} = {json.dumps(default, default=str)}"
