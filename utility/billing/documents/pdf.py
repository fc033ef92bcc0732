"""A bill as a PDF of one page, with a plot by hour; the same input gives the same bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np
from fpdf import FPDF

from commonwatt.look.palette import LOOKS, STATES, SURFACES
from commonwatt.model.units import QUARTER_S
from commonwatt.settlement.settled import QUANTITY_WORDS, Quantity, SettledQuality
from utility.billing.documents.plot import DRAWN
from utility.billing.documents.statement import (
    CODE_WORDS,
    LINES_HEAD,
    TOTALS_HEAD,
    Hours,
    Row,
    Statement,
    hours,
    kwh,
    spaced,
    texts,
)
from utility.billing.proof.leaf import Course

_EDGE, _RIGHT, _FOOT = 50.0, 562.0, 752.0
_LEADING = 14.0
_PAGE = "letter"
_FONT = "helvetica"
_LINES_AT = (_EDGE, 380.0, 465.0, _RIGHT)
_TOTALS_AT = (_EDGE, 300.0, 380.0, 471.0, _RIGHT)
"""Where the columns of tables are: the first begins there, the others end there."""
_INK, _SOFT, _LINE, _RULE = (SURFACES[name].light for name in ("ink", "soft", "line", "edge"))
_BETWEEN = 6.0  # least space after the text of a table's first column

WIDTH, HEIGHT, LEFT, BOTTOM = 860, 240, 52, 20  # of the plot, in its own units
_GRID = 2  # heights of steps in a unit: whole numbers make small files
_DATED = (1, 6, 11, 16, 21, 26)  # days of the month whose place is named


def as_pdf(statement: Statement) -> bytes:
    """Return the PDF."""
    said = texts(statement)
    page = _Page(said.title, datetime.fromtimestamp(statement.bill.end * QUARTER_S, UTC))
    page.facts(said.facts)
    page.table(LINES_HEAD, said.lines, _LINES_AT, total=True)
    for note in said.notes:
        page.text(note)
    if statement.meters:
        page.plot(hours(statement), statement.zone)
    if said.code:
        page.heading("Check code of the month")
        page.code(spaced(said.code))
        page.text(CODE_WORDS)
        page.table(TOTALS_HEAD, said.totals, _TOTALS_AT)
    return page.made()


class Canvas(FPDF):
    """A document that draws an area of hundreds of steps in one piece: a method call for each would take too long."""

    def area(self, heights: Course, axis: int, left: float, top: float, size: tuple[float, float]) -> None:
        """Fill the area between the axis and a step for each hour, whose size is given; equal ones make one step."""
        last = np.append(np.flatnonzero(np.diff(heights)), len(heights) - 1)
        ends = [0, *(last + 1).tolist()]
        steps = zip(ends, heights[last].tolist(), ends[1:], strict=False)
        line = "\n".join([f"{at} {y} l {end} {y} l" for at, y, end in steps])
        places = f"{size[0]:.5f} 0 0 {-size[1]:.5f} {left:.2f} {self.h - top:.2f}"
        self._out(f"q {places} cm 0 {axis} m\n{line}\n{ends[-1]} {axis} l f Q")


class _Page:
    """The pages of a document, written from the top to the bottom."""

    def __init__(self, title: str, made: datetime) -> None:
        self._pdf = Canvas(unit="pt", format=_PAGE)
        self._pdf.set_creation_date(made)
        self._pdf.set_title(_latin(title))
        self._pdf.set_auto_page_break(False)
        self._pdf.set_text_color(_INK)
        self._pdf.set_draw_color(_RULE)
        self._y = _FOOT
        self._room(0)
        self._write(title, 18, _LEADING * 1.8, style="B")

    def made(self) -> bytes:
        """Return the document."""
        return bytes(self._pdf.output())

    def heading(self, text: str) -> None:
        """Write a heading."""
        self._room(4 * _LEADING)
        self._y += _LEADING * 0.6
        self._write(text, 11, _LEADING * 1.1, style="B")

    def facts(self, rows: Sequence[Row]) -> None:
        """Write names and values."""
        for name, value in rows:
            self._room(_LEADING)
            self._pdf.set_font(_FONT, size=10)
            self._pdf.text(_EDGE + 70, self._y + 10, _latin(value))
            self._write(name, 10, _LEADING)
        self._y += _LEADING * 0.5

    def text(self, text: str) -> None:
        """Write a paragraph."""
        self._pdf.set_font(_FONT, size=9)
        for line in self._wrapped(text, _RIGHT - _EDGE):
            self._write(line, 9, 12)

    def code(self, text: str) -> None:
        """Write a code that people compare."""
        self._room(_LEADING)
        self._pdf.set_font("courier", size=9)
        self._pdf.text(_EDGE, self._y + 9, text)
        self._y += _LEADING

    def table(self, head: Row, rows: Sequence[Row], columns: Sequence[float], *, total: bool = False) -> None:
        """Write a table; the last row is a total or not."""
        for number, row in enumerate((head, *rows)):
            bold = number == 0 or (total and number == len(rows))
            self._pdf.set_font(_FONT, style="B" if bold else "", size=9)
            cells = [*map(_latin, row[1:])]
            lefts = [at - self._pdf.get_string_width(cell) for cell, at in zip(cells, columns[1:], strict=True)]
            lines = self._wrapped(row[0], lefts[0] - _EDGE - _BETWEEN)
            self._room(len(lines) * _LEADING)
            for cell, left in zip(cells, lefts, strict=True):
                self._pdf.text(left, self._y + 10, cell)
            for line in lines:
                self._pdf.text(_EDGE, self._y + 10, line)
                self._y += _LEADING
            if number == 0 or (total and number == len(rows) - 1):
                self._rule()
        self._y += _LEADING * 0.4

    def plot(self, found: Hours, zone: ZoneInfo) -> None:
        """Draw the plot."""
        scale = (_RIGHT - _EDGE) / WIDTH
        self.heading("Hour by hour")
        self._room(HEIGHT * scale + 2 * _LEADING)
        self.text("Kilowatt-hours in each hour: into your place above the line, out of it below.")
        at = _EDGE
        self._pdf.set_font(_FONT, size=8)
        for quantity, flow, _ in DRAWN:
            if found.energies[quantity].any():
                self._pdf.set_fill_color(LOOKS[flow].light)
                self._pdf.rect(at, self._y + 3, 7, 7, style="F")
                text = f"{QUANTITY_WORDS[quantity]} {kwh(int(found.energies[quantity].sum()))} kWh"
                self._pdf.text(at + 10, self._y + 10, text)
                at += 22 + self._pdf.get_string_width(text)
        self._y += _LEADING
        with self._pdf.local_context():
            draw(self._pdf, found, zone, self._y, scale)
        self._y += HEIGHT * scale + 4

    def _write(self, text: str, size: int, height: float, *, style: str = "") -> None:
        self._room(height)
        self._pdf.set_font(_FONT, style="B" if style else "", size=size)
        self._pdf.text(_EDGE, self._y + size, _latin(text))
        self._y += height

    def _wrapped(self, text: str, width: float) -> list[str]:
        """Return the lines of a text that are at most so wide in the font that is set; of an empty one, one."""
        text = _latin(text)
        if self._pdf.get_string_width(text) <= width:
            return [text]
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._pdf.get_string_width(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def _rule(self) -> None:
        self._pdf.set_line_width(0.5)
        self._pdf.line(_EDGE, self._y, _RIGHT, self._y)

    def _room(self, height: float) -> None:
        """Begin another page if the height does not fit on this one."""
        if self._y + height > _FOOT:
            self._pdf.add_page()
            self._y = _EDGE


def draw(pdf: Canvas, found: Hours, zone: ZoneInfo, top: float, scale: float) -> None:
    """Draw the areas of a plot, marks at hours with estimates or without data, the axis, and words at its edges."""
    of, left = found.energies, _EDGE + LEFT * scale
    above = int((of[Quantity.IMPORTED] + of[Quantity.SHARED_IN]).max(initial=0))
    below = int((of[Quantity.EXPORTED] + of[Quantity.SHARED_OUT]).max(initial=0))
    low = float(HEIGHT - BOTTOM - 4)  # the lowest place of areas, where marks begin
    unit = (low - 12) / max(above + below, 1)
    zero, step = 12 + above * unit, (WIDTH - LEFT) / max(len(found.starts), 1)
    edges = ((12.0, kwh(above)), (low, f"-{kwh(below)}"))[: 2 if below else 1]
    pdf.set_line_width(0.5)
    pdf.set_draw_color(_LINE)
    for y, _ in edges:
        pdf.line(left, top + y * scale, _RIGHT, top + y * scale)
    # From the axis: a later area covers a part of the one before it.
    for number, (quantity, flow, side) in reversed(list(enumerate(DRAWN))):
        if of[quantity].any():
            values = np.sum([of[each] for each, _, its_side in DRAWN[: number + 1] if its_side == side], axis=0)
            heights = np.rint(_GRID * (zero - side * values * unit)).astype(np.int64)
            pdf.set_fill_color(LOOKS[flow].light)
            pdf.area(heights, round(_GRID * zero), left, top, (scale * step, scale / _GRID))
    pdf.set_fill_color(STATES["bad"].light)
    at = 0
    for bad, group in groupby(found.worst <= SettledQuality.ESTIMATED):
        count = sum(1 for _ in group)
        if bad:
            place = _EDGE + (LEFT + at * step) * scale
            pdf.rect(place, top + low * scale, count * step * scale, 3, style="F")
        at += count
    pdf.set_draw_color(_SOFT)
    pdf.line(left, top + zero * scale, _RIGHT, top + zero * scale)
    pdf.set_font(_FONT, size=7)
    pdf.set_text_color(_SOFT)
    for y, text in edges:
        pdf.text(_EDGE, top + y * scale, text)
    for number, text in _dated(found.starts, zone):
        pdf.text(_EDGE + (LEFT + number * step) * scale, top + (HEIGHT - 4) * scale, text)


@lru_cache(maxsize=4)
def _dated(starts: tuple[int, ...], zone: ZoneInfo) -> list[tuple[int, str]]:
    """Return the number of the hour that begins every fifth local day, and the day's words; most bills share them."""
    local = [datetime.fromtimestamp(start, zone) for start in starts]
    return [(n, f"{time:%b} {time.day}") for n, time in enumerate(local) if time.hour == 0 and time.day in _DATED]


def _latin(text: str) -> str:
    """Return the text in the characters that the fonts have; others become question marks."""
    return text.encode("latin-1", "replace").decode("latin-1")
