"""Makes the table of presets in ``docs/adapters.md`` from the presets' files; a test compares the two."""

from adapters.mapping.presets import known_presets
from commonwatt.config.adapter_commands import AdapterCommand
from harness.docs.marked import filled


def adapters_page() -> str:
    """Return ``docs/adapters.md`` as it is, with its table of presets made anew."""
    return filled("adapters.md", "presets", presets_table())


def presets_table() -> str:
    """Return the presets as a table."""
    ends = "commands; what ends them without the adapter"
    lines = [f"| preset | devices | {ends} | `source` of a meter | what to know |", "|---|---|---|---|---|"]
    for preset in known_presets().values():
        commands = "; ".join(map(_command, preset.commands))
        cells = (f"`{preset.name}`", preset.title, commands, preset.source, preset.notes)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _command(command: AdapterCommand) -> str:
    by = {"watchdog": "itself", "will": "its broker", "none": "nothing"}[command.failsafe]
    seconds = "" if command.ends_within_s is None else f", {command.ends_within_s} s"
    return f"`{command.kind}`: {by}{seconds}"
