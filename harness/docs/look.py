"""The parts of ``docs/console.md`` that are made from the palette and the roles."""

from commonwatt.look.palette import LINES, LOOKS, STATES
from harness.docs.marked import filled, refilled
from utility.access.roles import PEOPLE, Role

_SHAPES = {"good": "●", "warning": "▲", "bad": "■", "idle": "○"}


def console_page() -> str:
    """Return ``docs/console.md``."""
    return refilled(filled("console.md", "pictures", _pictures()), "look", _colours())


def _colours() -> str:
    rows = [(look.words, look.sign, look.light, look.dark) for look in LOOKS.values()]
    rows += [(name, _SHAPES[name], shade.light, shade.dark) for name, shade in STATES.items()]
    rows += [(f"line {number}", "dashes", shade.light, shade.dark) for number, shade in enumerate(LINES, 1)]
    head = ["| what | sign | on white | on dark |", "|---|---|---|---|"]
    return "\n".join([*head, *(f"| {words} | {sign} | `{light}` | `{dark}` |" for words, sign, light, dark in rows)])


def _pictures() -> str:
    kinds = [(size, theme) for size in ("desktop", "phone") for theme in ("light", "dark")]
    table = ["| | on a desk | by night | on a phone | by night |", "|---|---|---|---|---|"]
    for role in (role for role in Role if role in PEOPLE):
        pictures = (f"![{role}, {size}, {theme}](pictures/{role}-{size}-{theme}.png)" for size, theme in kinds)
        table.append(f"| {role} | {' | '.join(pictures)} |")
    return "\n".join(table)
