"""A bill as a PDF of one page, with a plot by hour; the same input gives the same bytes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from zoneinfo import ZoneInfo

import numpy as np

from commonwatt.look.palette import LOOKS, STATES, SURFACES
from commonwatt.model.units import QUARTER_S
from commonwatt.model.words import spaced
from commonwatt.settlement.settled import QUANTITY_WORDS, Quantity, SettledQuality
from utility.billing.documents.canvas import FONT, Canvas
from utility.billing.documents.letter import Letter
from utility.billing.documents.paying import HEIGHTS, draw_code, draw_head, how_to_pay
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
    texts,
)
from utility.billing.documents.writing import DOLLARS, Writing

_EDGE, _RIGHT, _FOOT = 50.0, 562.0, 752.0
_LEADING = 14.0
_AMERICAN = ("$", "USD")  # the currencies of places whose paper is letter; else it is A4
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
    said, letter, writing = texts(statement), statement.letter, statement.writing
    page = _Page(said.title, datetime.fromtimestamp(statement.bill.end * QUARTER_S, UTC), letter)
    page.facts(said.facts)
    page.table(_head(LINES_HEAD, writing), said.lines, _LINES_AT, total=True)
    for note in said.notes:
        page.text(note)
    if letter is not None:
        page.payment(letter, letter.to_pay(statement.bill))
    if statement.meters:
        page.plot(hours(statement), statement.zone)
    if said.code:
        page.heading("Check code of the month")
        page.code(spaced(said.code))
        page.text(writing.say(CODE_WORDS))
        page.table(_head(TOTALS_HEAD, writing), said.totals, _TOTALS_AT)
    return page.made()


def _head(row: Row, writing: Writing) -> Row:
    return tuple(writing.say(text, currency=writing.currency) if text else "" for text in row)


class _Page:
    """The pages of a document, written from the top to the bottom."""

    def __init__(self, title: str, made: datetime, letter: Letter | None) -> None:
        self._writing = DOLLARS if letter is None else letter.writing
        self._pdf = Canvas(unit="pt", format="letter" if self._writing.currency in _AMERICAN else "a4")
        self._pdf.all_letters = letter is not None
        self._values_at = _EDGE + (70 if letter is None else 110)
        self._pdf.set_creation_date(made)
        self._pdf.set_title(title)
        self._pdf.set_auto_page_break(False)
        self._pdf.set_text_color(_INK)
        self._pdf.set_draw_color(_RULE)
        self._y = _FOOT
        if letter is not None:
            self._pdf.add_page()
            self._y = draw_head(self._pdf, letter)
        self._write(title, 18, _LEADING * 1.8, style="B")

    def made(self) -> bytes:
        """Return the document."""
        return bytes(self._pdf.output())

    def heading(self, text: str) -> None:
        """Write a heading."""
        self._room(4 * _LEADING)
        self._y += _LEADING * 0.6
        self._write(self._writing.say(text), 11, _LEADING * 1.1, style="B")

    def facts(self, rows: Sequence[Row]) -> None:
        """Write names and values."""
        for name, value in rows:
            self._room(_LEADING)
            self._pdf.set_font(FONT, size=10)
            self._pdf.put(self._values_at, self._y + 10, value)
            self._write(name, 10, _LEADING)
        self._y += _LEADING * 0.5

    def text(self, text: str) -> None:
        """Write a paragraph."""
        self._pdf.set_font(FONT, size=9)
        for line in self._wrapped(text, _RIGHT - _EDGE):
            self._write(line, 9, 12)

    def payment(self, letter: Letter, amount: Decimal) -> None:
        """Write how the bill is paid; the Swiss payment part is at the foot of a page."""
        self._y += _LEADING * 0.6
        said, code = how_to_pay(letter, amount)
        for text in said:
            self.text(text)
        foot = self._pdf.h - HEIGHTS[code] if code == "swiss" else _FOOT - HEIGHTS[code]
        if self._y > foot:
            self._pdf.add_page()
            self._y = _EDGE
        if code != "none":
            draw_code(self._pdf, letter, amount, foot if code == "swiss" else self._y)
        self._pdf.set_text_color(_INK)
        self._y = _FOOT if code == "swiss" else self._y + HEIGHTS[code]

    def code(self, text: str) -> None:
        """Write a code that people compare."""
        self._room(_LEADING)
        self._pdf.set_font("courier", size=9)
        self._pdf.put(_EDGE, self._y + 9, text)
        self._y += _LEADING

    def table(self, head: Row, rows: Sequence[Row], columns: Sequence[float], *, total: bool = False) -> None:
        """Write a table; the last row is a total or not."""
        for number, row in enumerate((head, *rows)):
            bold = number == 0 or (total and number == len(rows))
            self._pdf.set_font(FONT, style="B" if bold else "", size=9)
            cells = row[1:]
            lefts = [at - self._pdf.width_of(cell) for cell, at in zip(cells, columns[1:], strict=True)]
            lines = self._wrapped(row[0], lefts[0] - _EDGE - _BETWEEN)
            self._room(len(lines) * _LEADING)
            for cell, left in zip(cells, lefts, strict=True):
                self._pdf.put(left, self._y + 10, cell)
            for line in lines:
                self._pdf.put(_EDGE, self._y + 10, line)
                self._y += _LEADING
            if number == 0 or (total and number == len(rows) - 1):
                self._pdf.set_line_width(0.5)
                self._pdf.line(_EDGE, self._y, _RIGHT, self._y)
        self._y += _LEADING * 0.4

    def plot(self, found: Hours, zone: ZoneInfo) -> None:
        """Draw the plot."""
        scale, say, number = (_RIGHT - _EDGE) / WIDTH, self._writing.say, self._writing.number
        self._room((HEIGHT * scale + 6 * _LEADING) * self._pdf.all_letters)
        self.heading("Hour by hour")
        self._room(HEIGHT * scale + 2 * _LEADING)
        self.text(say("Kilowatt-hours in each hour: into your place above the line, out of it below."))
        at = _EDGE
        self._pdf.set_font(FONT, size=8)
        for quantity, flow, _ in DRAWN:
            if found.energies[quantity].any():
                self._pdf.set_fill_color(LOOKS[flow].light)
                self._pdf.rect(at, self._y + 3, 7, 7, style="F")
                text = f"{say(QUANTITY_WORDS[quantity])} {number(kwh(int(found.energies[quantity].sum())))} kWh"
                self._pdf.put(at + 10, self._y + 10, text)
                at += 22 + self._pdf.width_of(text)
        self._y += _LEADING
        with self._pdf.local_context():
            draw(self._pdf, found, zone, self._y, scale, self._writing)
        self._y += HEIGHT * scale + 4

    def _write(self, text: str, size: int, height: float, *, style: str = "") -> None:
        self._room(height)
        self._pdf.set_font(FONT, style="B" if style else "", size=size)
        self._pdf.put(_EDGE, self._y + size, text)
        self._y += height

    def _wrapped(self, text: str, width: float) -> list[str]:
        """Return the lines of a text that are at most so wide in the font that is set; of an empty one, one."""
        if self._pdf.width_of(text) <= width:
            return [text]
        lines = [""]
        for word in text.split():
            longer = f"{lines[-1]} {word}".strip()
            if lines[-1] and self._pdf.width_of(longer) > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return lines

    def _room(self, height: float) -> None:
        """Begin another page if the height does not fit on this one."""
        if self._y + height > _FOOT:
            self._pdf.add_page()
            self._y = _EDGE


def draw(pdf: Canvas, found: Hours, zone: ZoneInfo, top: float, scale: float, writing: Writing = DOLLARS) -> None:
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
    pdf.set_font(FONT, size=7)
    pdf.set_text_color(_SOFT)
    for y, text in edges:
        pdf.put(_EDGE, top + y * scale, writing.number(text))
    for number, text in _dated(found.starts, zone, writing):
        pdf.put(_EDGE + (LEFT + number * step) * scale, top + (HEIGHT - 4) * scale, text)


@lru_cache(maxsize=4)
def _dated(starts: tuple[int, ...], zone: ZoneInfo, writing: Writing) -> list[tuple[int, str]]:
    """Return the number of the hour that begins every fifth local day, and the day's words; most bills share them."""
    local = [datetime.fromtimestamp(start, zone) for start in starts]
    midnights = [(n, time) for n, time in enumerate(local) if time.hour == 0 and time.day in _DATED]
    return [(n, f"{writing.say(f'{time:%B}')[:3]} {time.day}") for n, time in midnights]
