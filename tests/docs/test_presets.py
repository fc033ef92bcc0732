"""docs/adapters.md has a row for each preset, as its file tells it."""

from adapters.mapping.presets import known_presets
from harness.docs.presets import PAGE, adapters_page


def test_table_is_that_of_the_files() -> None:
    assert PAGE.read_text(encoding="utf-8") == adapters_page(), "make it anew with: make docs"


def test_page_has_every_preset_and_says_why_one_is_missing() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in known_presets())
    assert "Sparkplug B has no preset: its Python libraries need paho-mqtt 1" in text
