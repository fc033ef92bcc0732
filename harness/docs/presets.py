"""Makes ``docs/reference/presets.md`` from the presets' files; a test compares the two."""

from adapters.mapping.presets import known_presets
from commonwatt.config.adapter_commands import AdapterCommand

_HEAD = """# Presets of foreign meters

Made by `make docs` from [adapters/presets](../../adapters/presets), for [adapters](../adapters.md#presets).
Sparkplug B has no preset: each maker has metrics of its own.

"""


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
