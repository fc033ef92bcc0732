"""docs/reference/settings.md is what the code makes of its own settings."""

from commonwatt.config.parts import PARTS, settings_of
from harness.docs.settings import reference


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
