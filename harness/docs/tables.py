"""Tables of pages that are made from the code: states of a controller, colours, columns of exports, presets."""

from adapters.mapping.presets import known_presets
from commonwatt.config.adapter_commands import AdapterCommand
from commonwatt.look.palette import LINES, LOOKS, STATES
from harness.docs.marked import filled
from harness.world.clique.states import MEANINGS, TRANSITIONS
from utility.exports.columns import TABLES, Table

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


def _section(table: Table) -> str:
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
