"""Renders the console's templates (Jinja2; every value is escaped, a missing one is an error)."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from jinja2 import Environment, FileSystemLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape
from pydantic import BaseModel

from commonwatt.look.palette import PowerFlow, flow_picture
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.calendar import iso, local_day
from commonwatt.model.control import saving_words
from commonwatt.model.text import counted, duration
from commonwatt.protocol.controller_commands import STRATEGY_WORDS
from utility.access.audit import action_words
from utility.access.people import ROLE_WORDS, Right, Role
from utility.webkit.columns import ListColumn, cells, type_name
from utility.webkit.console.static_files import load_static

_MOMENT = re.compile(r"<(textarea|pre|code)\b.*?</\1>|(\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ)", re.DOTALL)
QUIET = 4  # squares of quiet zone on each side of a QR code, by ISO/IEC 18004
FLOW_ICONS = {  # what stands for each in the picture of power
    PowerFlow.SUN: "sun",
    PowerFlow.BATTERY: "battery-charging",
    PowerFlow.PLANT: "battery-full",
    PowerFlow.GRID: "utility-pole",
    PowerFlow.USE: "house",
}
_SCRIPTS = Path(__file__).parent / "static"
MISSING = "\u2013"  # what stands for a missing value: a dash
_TEMPLATES = sorted(Path(__file__).parents[2].glob("*/templates"))  # each room's; a name is there once


class Renderer:
    """Renders templates; ``address`` returns the address of a static file by its name."""

    def __init__(self, address: Callable[[str], str]) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.globals |= {"static": address, "flows": partial(_flows, address), "Right": Right}
        self._environment.globals |= {"_": _said, "script_words": script_words}
        self._environment.filters.update(
            local=local,
            local_short=local_short,
            day=pass_context(lambda page, time, after=0: str(local_day(time, page["zone"]) + timedelta(after))),
            utc=iso,
            ago=ago,
            number=pass_context(lambda page, text: _writing(page).number(text)),  # of a number written as 1,234.56
            kwh=_or_dash("{:,.1f} kWh", 1e6),  # of milliwatt-hours
            kw=_or_dash("{:,.1f} kW", 1e3),  # of watts
            percent=_or_dash("{:.0f} %", 10),  # of thousandths
            exact_percent=exact_percent,
            plain_bytes=plain_bytes,
            duration=duration,
            type_name=type_name,
            link=link,
            row_words=row_words,
            heads=heads,
            under=under,
            squares=squares_of,
            action_words=action_words,
            role_words=lambda role: ROLE_WORDS[Role(role)],
            saving=lambda saves: saving_words(saves or {}),
            strategy=lambda name: STRATEGY_WORDS.get(name, name),
        )

    def render(self, template: str, content: Mapping[str, Any]) -> str:
        """Return a rendered template."""
        page = self._environment.get_template(template).render(content)
        return _MOMENT.sub(lambda found: found[0] if found[1] else _local(found[2], content["zone"]), page)


@cache
def console_renderer() -> Renderer:
    """Return the renderer of the console's pages; a process compiles each template once."""
    return Renderer(load_static().address)


def _flows(address: Callable[[str], str], *given: Any, **options: Any) -> Markup:
    """Return the picture of power (``commonwatt.look.palette``) with the console's icons."""
    box = f'class="icon" x="-11" y="-27" width="22" height="22" aria-hidden="true"><use href="{address("icons.svg")}#'
    picture = flow_picture(*given, **options, mark=lambda flow: f'<svg {box}{FLOW_ICONS[flow]}"></use></svg>')
    return Markup(picture)  # noqa: S704 - of numbers and the palette's words


def link(row: BaseModel, column: ListColumn) -> str:
    """Return the address that a row's cell leads to."""
    return column.shown.link.format_map({name: quote(str(value), safe="") for name, value in row})


def row_words(row: Any, chosen: object) -> str:
    """Return a row in words, for those who hear a page: its first columns, or the value by which it is chosen."""
    return ", ".join(cells(row, 4).values()) if isinstance(row, BaseModel) else str(chosen)


def heads(columns: Iterable[ListColumn]) -> list[str]:
    """Return the heads of a list's columns; those of numbers begin with ``#``."""
    return [f"{'#' if column.is_number else ''}{column.shown.words}" for column in columns]


def under(row: Markup, heads: Sequence[str]) -> Markup:
    """Return a row's cells with the heads above them, the last cell under the last head: as words, and as a class."""
    before, *cells = str(row).split("<td")
    begin = len(heads) - len(cells)
    return Markup(before + "".join(_opened(heads[at]) + cell for at, cell in enumerate(cells, begin)))  # noqa: S704


@lru_cache(maxsize=1_024, typed=True)
def _opened(head: str) -> str:
    kind = ' class="number"' if head.startswith("#") else ""
    return f'<td data-words="{escape(head.lstrip("#"))}"{kind}'


def _writing(context: Context) -> Writing:
    """Return how a page is written."""
    writing: Writing = context.get("reader", DOLLARS)
    return writing


@pass_context
def _said(context: Context, text: str, **values: object) -> Markup:
    """Return a text of a template in the page's language, with values for its names in braces; they are escaped."""
    said = _phrase(_writing(context), text)
    return said.format(**values) if values else said


@cache
def _phrase(writing: Writing, text: str) -> Markup:
    return Markup(writing.say(" ".join(text.split())))  # noqa: S704 - of templates and catalogues


@cache
def script_words(writing: Writing) -> str:
    """Return the words of the console's own scripts in a language, by those of English (JSON)."""
    said = re.findall(r'\bsay\("([^"]+)"', " ".join(path.read_text() for path in sorted(_SCRIPTS.glob("*.js"))))
    return json.dumps({text: writing.say(text) for text in said}, ensure_ascii=False)


@pass_context
def local(context: Context, time: float) -> str:
    """Return a time in the page's ``zone``, for people; to the second for staff alone."""
    said = _writing(context).moment(datetime.fromtimestamp(time, context["zone"]))
    return said if context.get("searches", True) else said[:-3]


@pass_context
def local_short(context: Context, time: float) -> str:
    """Return a time in the page's ``zone`` with its day of the week and without its year."""
    at, writing = datetime.fromtimestamp(time, context["zone"]), _writing(context)
    return f"{writing.say(at.strftime('%a'))} {writing.short(at)} · {at:%H:%M}"


def local_words(time: float, zone: ZoneInfo) -> str:
    """Return a time in a zone, for people."""
    return DOLLARS.moment(datetime.fromtimestamp(time, zone))


def _local(moment: str, zone: ZoneInfo) -> str:
    """Return a time of a text that is for every reader (``commonwatt.model.text.moment``) as pages show times."""
    return local_words(datetime.fromisoformat(moment).timestamp(), zone)


@pass_context
def ago(context: Context, time: float, now: float) -> str:
    """Return how long ago a time was, or in how long it will be, in one unit."""
    seconds = abs(int(now - time))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds >= 2 * length or unit == "second":
            words = counted(seconds // length, unit)
            return _writing(context).counted(f"{words} ago" if now >= time else f"in {words}")
    raise AssertionError("the last unit is taken")


def _or_dash(form: str, size: float) -> Callable[[Context, float | None], str]:
    """Return a filter that writes a number in units of some size, for people; a dash for a missing one."""
    return pass_context(
        lambda page, number: MISSING if number is None else _writing(page).number(form.format(number / size))
    )


def exact_percent(permille: float | None) -> str:
    """Return thousandths as percent with two decimals, never rounded up to 100; a dash for a missing one."""
    return MISSING if permille is None else f"{int(permille * 10) / 100:.2f} %"


def plain_bytes(count: float | None) -> str:
    """Return a count of bytes, for people; a dash for a missing one."""
    if count is None:
        return MISSING
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count:,.0f} bytes"


def squares_of(text: str) -> tuple[int, str]:
    """Return the QR code of a text: the squares of a side, with the quiet zone, and the path of the dark ones (SVG)."""
    import segno  # Loaded for the first code that is drawn.

    matrix = segno.make(text, micro=False, error="m").matrix
    path = [
        f"M{x + QUIET} {y + QUIET}h1v1h-1z" for y, row in enumerate(matrix) for x, is_dark in enumerate(row) if is_dark
    ]
    return len(matrix) + 2 * QUIET, "".join(path)
