"""docs/reference/presets.md has a row for each preset, as its file tells it."""

from adapters.mapping.presets import known_presets
from harness.docs.presets import presets_page


def test_page_has_every_preset_and_says_why_one_is_missing() -> None:
    text = presets_page()
    assert all(f"| `{name}` |" in text for name in known_presets())
    assert "Sparkplug B has no preset: each maker has metrics of its own" in text
