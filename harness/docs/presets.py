"""Makes the table of presets in ``docs/adapters.md`` from the presets' files; a test compares the two."""

from pathlib import Path

from adapters.mapping.presets import known_presets

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adapters.md"

_BEGIN, _END = "<!-- presets: made by `make docs` -->\n", "<!-- end of presets -->\n"


def adapters_page() -> str:
    """Return ``docs/adapters.md`` as it is, with its table of presets made anew."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{presets_table()}\n{_END}{after}"


def presets_table() -> str:
    """Return the presets as a table."""
    lines = ["| preset | devices | `source` of a meter | what to know |", "|---|---|---|---|"]
    for preset in known_presets().values():
        cells = (f"`{preset.name}`", preset.title, preset.source, preset.notes)
        lines.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"
