"""Makes ``docs/reference/settings.md`` from the models that validate the files; a test compares the two."""

from collections.abc import Collection, Iterator
from typing import Any, get_args

from commonwatt.config.parts import PARTS, settings_of
from commonwatt.config.settings import Settings
from commonwatt.site.file import SiteMicrogrid, SiteTable
from commonwatt.town.file import MeterTable, MicrogridTable, TownTable

_TOWN_TABLES: dict[str, type[Settings]] = {
    "[town]": TownTable,
    "[[microgrid]]": MicrogridTable,
    "[[meter]]": MeterTable,
}

_SITE_TABLES: dict[str, type[Settings]] = {"[site]": SiteTable, "[[microgrid]] of the site file": SiteMicrogrid}

_SITE_INTRO = """\
## The site file

From `site.toml` `commonwatt site init` makes every other file; `commonwatt config example site` prints an example. It
has the tables of the town file, and these. `head_end` and `utility` are tables too: `head_end` has own keys of the
head-end's `broker.toml`, `utility` has own keys of `utility.toml`.
"""

_INTRO = """\
# Settings

Made from the code by `make docs`; a test compares the two.

Each part runs from a TOML file with one table, named after the part. Relative paths are relative to the file; an
address is `HOST:PORT`; a key that is not listed here is an error. `commonwatt config example PART` prints a file to
start from; `commonwatt config check FILE` checks a file, and that the files it names exist.
"""

_TOWN_INTRO = """\
## The town file

The devices of a town: one table `[town]`, and one `[[microgrid]]` or `[[meter]]` for each. Numbers of controllers,
meters and accounts are counted in the order, so append, and never insert. With a table of `places`, made by
`commonwatt town generate`, every number is stated, and a row may be added anywhere
([accounts](../settlement.md#accounts-who-has-which-meter-since-when)).
"""


def reference() -> str:
    """Return the page: a table of keys for each part, and for each table of the town file."""
    pages = [_INTRO]
    pages += [page for part in PARTS for page in _part(part, settings_of(part))]
    pages.append(_TOWN_INTRO)
    pages += [f"### {name}\n\n{model.__doc__}\n\n{_table(model)}" for name, model in _TOWN_TABLES.items()]
    pages.append(_SITE_INTRO)
    pages += [f"### {name}\n\n{model.__doc__}\n\n{_table(model)}" for name, model in _SITE_TABLES.items()]
    return "\n".join(pages)


def _part(part: str, model: type[Settings]) -> Iterator[str]:
    """Yield the table of a part, then its tables inside, and its lists of tables."""
    inside = model.tables()
    lists = {key: get_args(model.model_fields[key].annotation)[0] for key in model.lists}
    yield f"## [{part}]\n\n{model.__doc__}\n\n{_table(model, {*inside, *lists})}"
    for key, settings in inside.items():
        optional = " It may be absent." if model.model_fields[key].default is None else ""
        yield f"### [{part}.{key}]\n\n{settings.__doc__}{optional}\n\n{_table(settings)}"
    for key, table in lists.items():
        yield f"### [[{key}]] of [{part}]\n\n{table.__doc__}\n\n{_table(table)}"


def _table(model: type[Settings], without: Collection[str] = ()) -> str:
    schema = model.model_json_schema()
    lines = ["| key | type | default | what it is for |", "|---|---|---|---|"]
    for key, field in schema["properties"].items():
        if key in without:
            continue
        default = "(must be given)" if key in schema.get("required", ()) else _default(field.get("default"))
        lines.append(f"| `{key}` | {_type(field)} | {default} | {field['description']} |")
    return "\n".join(lines) + "\n"


def _default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return "(none)" if value is None else f"`{value}`"


def _type(field: Any) -> str:
    """Describe a JSON schema in words."""
    if "anyOf" in field:
        return " or ".join(dict.fromkeys(_type(kind) for kind in field["anyOf"] if kind.get("type") != "null"))
    if "$ref" in field:
        return "table"
    values = field.get("enum") or ([field["const"]] if "const" in field else [])
    if values:
        return " or ".join(f"`{value}`" for value in values)
    match field["type"]:
        case "integer" | "number" as name:
            return {"integer": "whole number", "number": "number"}[name] + _range(field)
        case "boolean":
            return "`true` or `false`"
        case "array":
            return f"list of {_type(field['items'])}"
        case "object" if "patternProperties" not in field:
            return "table"
        case "object":
            (pattern, value), *_ = field["patternProperties"].items()
            return f"table: `{pattern}` = {_type(value)}"
        case _:
            pattern = f" matching `{field['pattern']}`" if "pattern" in field else ""
            return str(field.get("format", "text")) + pattern


def _range(field: Any) -> str:
    bounds = (
        ("minimum", "at least"),
        ("exclusiveMinimum", "above"),
        ("maximum", "at most"),
        ("exclusiveMaximum", "below"),
    )
    words = [f"{word} {field[name]:,}" for name, word in bounds if name in field]
    return ", " + ", ".join(words) if words else ""
