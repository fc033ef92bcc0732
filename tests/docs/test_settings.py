"""docs/settings.md is what the code makes of its own settings."""

from pathlib import Path

from commonwatt.config.parts import PARTS, settings_of
from harness.docs.settings import reference

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"
AGAIN = """python -c "from harness.docs.settings import reference; print(reference(), end='')" > docs/settings.md"""


def test_page_tells_the_settings_as_they_are() -> None:
    assert PAGE.read_text(encoding="utf-8") == reference(), f"make it anew with: {AGAIN}"


def test_page_has_a_row_for_every_key_of_every_part() -> None:
    text = reference()
    for part in PARTS:
        model = settings_of(part)
        section = text.split(f"## [{part}]\n")[1].split("\n## ")[0]
        own, *others = section.split("\n### ")
        rows = [line.split("`")[1] for line in own.splitlines() if line.startswith("| `")]
        titles = {title.partition("\n")[0] for title in others}
        inside = {f"[{part}.{key}]" for key in model.model_fields if key not in rows and key not in model.lists}
        assert titles == inside | {f"[[{key}]] of [{part}]" for key in model.lists}
        assert set(rows) <= set(model.model_fields)
