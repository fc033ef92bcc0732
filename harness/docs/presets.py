"""Makes the table of presets in ``docs/adapters.md`` from the presets' files; a test compares the two."""

from adapters.mapping.presets import known_presets
from harness.docs.marked import filled


def adapters_page() -> str:
    """Return ``docs/adapters.md`` as it is, with its table of presets made anew."""
    return filled("adapters.md", "presets", presets_table())


def presets_table() -> str:
    """Return the presets as a table."""
    lines = ["| preset | devices | `source` of a meter | what to know |", "|---|---|---|---|"]
    for preset in known_presets().values():
        cells = (f"`{preset.name}`", preset.title, preset.source, preset.notes)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
