"""Home Assistant's templates of the simple kind: a path, a filter that only reads a number, a factor."""

import re
from decimal import Decimal

_KEY = r"""\.[A-Za-z_]\w*|\[\s*(?:'[^'"\\{}*]+'|"[^'"\\{}*]+"|\d{1,3})\s*\]"""
_FILTERS = r"(?:\s*\|\s*(?:float|int|round|is_defined)(?:\([\d.]*\))?)*"
# A filter behind a factor would be of the factor alone, but for one behind a parenthesis.
_SIMPLE = re.compile(
    rf"\{{\{{-?[\s(]*(?:value_json(?P<keys>(?:{_KEY})*)|value){_FILTERS}(?:\s*\){_FILTERS})?"
    rf"(?:\s*(?P<sign>[*/])\s*(?P<number>\d+(?:\.\d+)?))?(?:\s*\){_FILTERS})?\s*-?\}}\}}",
    re.ASCII,
)

Place = tuple[str, Decimal]  # a value's path, as in rules (empty: the message is the value), and its factor


def place_of(template: str) -> Place | None:
    """Return the place that a template reads; ``None``: it does more than that."""
    match = _SIMPLE.fullmatch(template.strip() or "{{ value }}")
    if match is None or template.count("(") != template.count(")"):
        return None
    number = Decimal(match["number"] or 1)
    scale = 1 / number if match["sign"] == "/" and number else number
    if not number or (match["sign"] == "/" and scale * number != 1):
        return None
    keys = [key.strip(".[]").strip(" '\"").replace(".", r"\.") for key in re.findall(_KEY, match["keys"] or "")]
    return ".".join(keys), scale
