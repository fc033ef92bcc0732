"""A bill as a PDF of one page, with a plot by hour; the same input gives the same bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from fpdf import FPDF

from commonwatt.model.units import QUARTER_S
from utility.billing.documents.plot import DRAWN, ESTIMATE, GRID, HEIGHT, LEFT, WIDTH, Plot, Steps
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

_EDGE, _RIGHT, _FOOT = 50.0, 562.0, 752.0
_LEADING = 14.0
_PAGE = "letter"
_FONT = "helvetica"
_LINES_AT = (_EDGE, 380.0, 465.0, _RIGHT)
_TOTALS_AT = (_EDGE, 300.0, 380.0, 471.0, _RIGHT)
"""Where the columns of tables are: the first begins there, the others end there."""
_BETWEEN = 6.0  # least space after the text of a table's first column


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


class _Canvas(FPDF):
    """A document that draws an area of hundreds of steps in one piece: a method call for each would take too long."""

    def area(self, left: float, top: float, scale: float, plot: Plot, steps: Steps) -> None:
        """Fill the area between steps and the axis, with the plot's edge at a place of the page."""
        axis = round(GRID * plot.zero)
        places = f"{scale * plot.step:.5f} 0 0 {-scale / GRID:.5f} {left + LEFT * scale:.2f} {self.h - top:.2f}"
        ends = [0, *(end for _, end in steps)]
        line = "\n".join([f"{at} {y} l {end} {y} l" for at, (y, end) in zip(ends, steps, strict=False)])
        self._out(f"q {places} cm 0 {axis} m\n{line}\n{ends[-1]} {axis} l f Q")


class _Page:
    """The pages of a document, written from the top to the bottom."""

    def __init__(self, title: str, made: datetime) -> None:
        self._pdf = _Canvas(unit="pt", format=_PAGE)
        self._pdf.set_creation_date(made)
        self._pdf.set_title(_latin(title))
        self._pdf.set_auto_page_break(False)
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
        for quantity, words, color, _ in DRAWN:
            if found.energies[quantity].any():
                self._pdf.set_fill_color(color)
                self._pdf.rect(at, self._y + 3, 7, 7, style="F")
                text = f"{words} {kwh(int(found.energies[quantity].sum()))} kWh"
                self._pdf.text(at + 10, self._y + 10, text)
                at += 22 + self._pdf.get_string_width(text)
        self._y += _LEADING
        self._draw(Plot(found), scale, zone)
        self._y += HEIGHT * scale + 4

    def _draw(self, plot: Plot, scale: float, zone: ZoneInfo) -> None:
        pdf, top = self._pdf, self._y
        for color, steps in plot.areas():
            pdf.set_fill_color(color)
            pdf.area(_EDGE, top, scale, plot, steps)
        pdf.set_fill_color(ESTIMATE)
        for x, width in plot.marks():
            pdf.rect(_EDGE + x * scale, top + plot.low * scale, width * scale, 3, style="F")
        pdf.set_line_width(0.5)
        pdf.line(_EDGE + LEFT * scale, top + plot.zero * scale, _RIGHT, top + plot.zero * scale)
        pdf.set_font(_FONT, size=7)
        for y, text in plot.ends():
            pdf.text(_EDGE, top + y * scale, text)
        for x, text in plot.days(zone):
            pdf.text(_EDGE + x * scale, top + (HEIGHT - 4) * scale, text)

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


def _latin(text: str) -> str:
    """Return the text in the characters that the fonts have; others become question marks."""
    return text.encode("latin-1", "replace").decode("latin-1")
