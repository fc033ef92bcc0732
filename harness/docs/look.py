"""The parts of ``docs/look.md`` and ``docs/console.md`` that are made from the palette and the roles."""

from commonwatt.model.palette import LINES, LOOKS, STATES
from harness.docs.marked import filled
from utility.access.roles import Role

_SHAPES = {"good": "●", "warning": "▲", "bad": "■", "idle": "○"}


def look_page() -> str:
    """Return ``docs/look.md``."""
    rows = [(look.words, look.sign, look.light, look.dark) for look in LOOKS.values()]
    rows += [(name, _SHAPES[name], shade.light, shade.dark) for name, shade in STATES.items()]
    rows += [(f"line {number}", "dashes", shade.light, shade.dark) for number, shade in enumerate(LINES, 1)]
    head = ["| what | sign | on white | on dark |", "|---|---|---|---|"]
    table = [*head, *(f"| {words} | {sign} | `{light}` | `{dark}` |" for words, sign, light, dark in rows)]
    return filled("look.md", "look", "\n".join(table))


def console_page() -> str:
    """Return ``docs/console.md``."""
    kinds = [(size, theme) for size in ("desktop", "phone") for theme in ("light", "dark")]
    table = ["| | on a desk | by night | on a phone | by night |", "|---|---|---|---|---|"]
    for role in Role:
        pictures = (f"![{role}, {size}, {theme}](pictures/{role}-{size}-{theme}.png)" for size, theme in kinds)
        table.append(f"| {role} | {' | '.join(pictures)} |")
    return filled("console.md", "pictures", "\n".join(table))
