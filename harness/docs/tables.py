"""Tables of pages that are made from the code: settings, states, colours, exports, presets, a tour."""

from collections.abc import Collection, Iterator
from typing import Any, get_args

from adapters.mapping.readers import known_presets
from commonwatt.config.adapter import AdapterCommand
from commonwatt.config.settings import PARTS, Settings, settings_of
from commonwatt.demo.tour import STEPS
from commonwatt.look.palette import LINES, LOOKS, STATES
from commonwatt.site.places import SiteMicrogrid, SiteTable
from commonwatt.town.town import MeterTable, MicrogridTable, TownTable
from harness.docs.marked import filled
from harness.world.clique.watch import MEANINGS, TRANSITIONS
from utility.exports.columns import TABLES, ExportTable

_SHAPES = {"good": "●", "warning": "▲", "bad": "■", "idle": "○"}

_HEAD = """# Presets of foreign meters

Made by `make docs` from [adapters/presets](../../adapters/presets), for [adapters](../adapters.md#presets).
Sparkplug B has no preset: each maker has metrics of its own.

"""


def controllers_page() -> str:
    """Return ``docs/controllers.md``."""
    names = {state: state.value.replace(" ", "_") for state in MEANINGS}
    picture = ["```mermaid", "stateDiagram-v2", f"    [*] --> {names[next(iter(MEANINGS))]}"]
    picture += [f'    state "{state.value}" as {name}' for state, name in names.items() if name != state.value]
    picture += [f"    {names[before]} --> {names[after]}" for before, after in TRANSITIONS]
    rows = ["| state | what a controller does |", "|---|---|"]
    rows += [f"| {state} | {meaning} |" for state, meaning in MEANINGS.items()]
    changes = ["| from | to | when |", "|---|---|---|"]
    changes += [f"| {before} | {after} | {why} |" for (before, after), why in TRANSITIONS.items()]
    made = "\n".join([*picture, "```", "", *rows, "", *changes])
    return filled("controllers.md", "states", made)


def console_page() -> str:
    """Return ``docs/console.md``."""
    rows = [(look.words, look.sign, look.light, look.dark) for look in LOOKS.values()]
    rows += [(name, _SHAPES[name], shade.light, shade.dark) for name, shade in STATES.items()]
    rows += [(f"line {number}", "dashes", shade.light, shade.dark) for number, shade in enumerate(LINES, 1)]
    head = ["| what | sign | on white | on dark |", "|---|---|---|---|"]
    made = [f"| {words} | {sign} | `{light}` | `{dark}` |" for words, sign, light, dark in rows]
    return filled("console.md", "look", "\n".join([*head, *made]))


def exports_page() -> str:
    """Return ``docs/exports.md`` as it is, with its data dictionary made anew."""
    return filled("exports.md", "columns", "\n".join(map(_section, TABLES)))


def _section(table: ExportTable) -> str:
    lines = [
        f"### `{table.name}`",
        "",
        f"{table.about} Sorted by {', '.join(f'`{name}`' for name in table.order)}.",
        "",
    ]
    lines += ["| column | type | meaning |", "|---|---|---|"]
    for column in table.columns:
        kind = f"{column.kind}{', or none' if column.nullable else ''}"
        lines.append(f"| `{column.name}` | {kind} | {column.meaning} |")
    return "\n".join(lines) + "\n"


def presets_page() -> str:
    """Return the page with a row for each preset."""
    ends = "commands; what ends them without the adapter"
    lines = [f"| preset | devices | {ends} | `source` of a meter | what to know |", "|---|---|---|---|---|"]
    for preset in known_presets().values():
        commands = "; ".join(map(_command, preset.commands))
        cells = (f"`{preset.name}`", preset.title, commands, preset.source, preset.notes)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return _HEAD + "\n".join(lines) + "\n"


def _command(command: AdapterCommand) -> str:
    by = {"watchdog": "itself", "will": "its broker", "none": "nothing"}[command.failsafe]
    seconds = "" if command.ends_within_s is None else f", {command.ends_within_s} s"
    return f"`{command.kind}`: {by}{seconds}"


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


KEYS: dict[str, str] = {
    "town": "Name of the town.",
    "speed": "Town seconds in one real second.",
    "simulated_from": "Town time at which this run began, epoch seconds.",
    "simulated_to": "Latest end of a meter's last record in this run, town time in epoch seconds.",
    "meters": "Meters in the town, with the boundary meters of the microgrids.",
    "records_made": "History records made by meters since the first run: one for each slot and record type.",
    "records_acknowledged": "Of these, records that a gateway acknowledged and the meter deleted.",
    "records_stored": "Of these, records that the utility stores (exactly, or within an average).",
    "records_averaged": "Of these, records stored within an average.",
    "slots_missing": "Slots with a record that the utility does not store.",
    "slots_held": "Of these, slots still in the log of a meter or gateway; 0 if the run ended drained.",
    "slots_conflicting": "Slots for which the utility stores more than one value.",
    "slots_unmade": "Slots that the utility stores without a record in the truth log.",
    "energy_difference_mwh": "Sum of the differences between exactly stored slots and the truth log, milliwatt-hours.",
    "averaged_beyond_bound": "Groups of averaged slots off by more than half a milliwatt-hour a slot.",
    "events_made": "State events made by meters.",
    "events_stored": "Of these, events stored at the utility.",
    "events_missing": "Of these, events found nowhere.",
    "sharing_events": "Times a battery began to share, from the utility's stored state events.",
    "control_lapses": "States of meters that ended before their gateway renewed them, over all starts of the gateways.",
    "good": "Whether nothing is lost and nothing counted twice.",
}
"""The meaning of each key of the report."""


def tour() -> str:
    """Return the tour of the demonstration as a part of a page."""
    lines = []
    for number, step in enumerate(STEPS, start=1):
        lines.append(f"{number}. **{step.title}.**")
        lines += [f"   - `{does.replace('DATA', 'data').replace('CONSOLE', '')}`" for does in step.do]
        lines.append(f"   - {step.page}: {step.look}".replace("DATA", "data").replace("CONSOLE", ""))
    return "\n".join(lines) + "\n"
