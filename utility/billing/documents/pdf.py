"""A bill as a PDF of one page, with a plot by hour and the code to pay; the same input gives the same bytes."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import numpy as np
import segno
from fpdf import FPDF
from fpdf.fonts import TTFFont

from commonwatt.look.palette import LOOKS, STATES, SURFACES
from commonwatt.look.writing import DOLLARS, Writing
from commonwatt.model.text import spaced
from commonwatt.model.units import QUARTER_S
from utility.billing.documents.explained import DRAWN
from utility.billing.documents.statement import (
    CODE_WORDS,
    LINES_HEAD,
    TOTALS_HEAD,
    HourEnergies,
    Letter,
    Row,
    Statement,
    hours,
    kwh,
    texts,
)
from utility.billing.proof import Course
from utility.energy.quarters import QUANTITY_WORDS, Quantity, SettledQuality

_T = TypeVar("_T")

FONT = "helvetica"
_SANS = "sans"  # has the widths of ``FONT``, and Latin, Greek and Cyrillic letters; it is in documents that need it
_SANS_FILES = Path(__file__).parent / "vendor" / "commonwatt-sans-2.1.5"


class Canvas(FPDF):
    """A document that draws an area of hundreds of steps in one piece: a method call for each would take too long."""

    all_letters = False  # whether letters that ``FONT`` lacks are drawn; else they are question marks

    def put(self, x: float, y: float, text: str) -> None:
        """Write a text from a place on, in the size that is set."""
        self._lettered(lambda there: self.text(x, y, there), text)

    def width_of(self, text: str) -> float:
        """Return the width of a text in the size that is set."""
        return self._lettered(self.get_string_width, text)

    def _lettered(self, do: Callable[[str], _T], text: str) -> _T:
        """Return what a function returns of a text, or of what is drawn of it, with a font that has its letters."""
        latin = text.encode("latin-1", "replace").decode("latin-1")
        if latin == text or not self.all_letters:
            return do(latin)
        style = self.font_style
        if _SANS + style not in self.fonts:
            self.add_font(_SANS, style, _SANS_FILES / f"commonwatt-sans-{'bold' if style else 'regular'}.ttf")
        self.set_font(_SANS, style)
        font = self.fonts[_SANS + style]
        assert isinstance(font, TTFFont)
        # fpdf2 would log the letters of a name that the font lacks.
        done = do("".join(each if ord(each) in font.cmap else "?" for each in text))
        self.set_font(FONT, style)
        return done

    def lines(self, x: float, y: float, lines: Sequence[str], size: int, *, bold: bool = False) -> float:
        """Write lines from a place down, but for empty ones; return where the next one would be."""
        self.set_font(FONT, style="B" if bold else "", size=size)
        for line in filter(None, lines):
            self.put(x, y + size, line)
            y += size * 1.2
        return y

    def area(self, heights: Course, axis: int, left: float, top: float, size: tuple[float, float]) -> None:
        """Fill the area between the axis and a step for each hour, whose size is given; equal ones make one step."""
        last = np.append(np.flatnonzero(np.diff(heights)), len(heights) - 1)
        ends = [0, *(last + 1).tolist()]
        steps = zip(ends, heights[last].tolist(), ends[1:], strict=False)
        line = "\n".join([f"{at} {y} l {end} {y} l" for at, y, end in steps])
        places = f"{size[0]:.5f} 0 0 {-size[1]:.5f} {left:.2f} {self.h - top:.2f}"
        self._out(f"q {places} cm 0 {axis} m\n{line}\n{ends[-1]} {axis} l f Q")

    def squares(self, rows: Sequence[Sequence[int]], left: float, top: float, size: float) -> None:
        """Fill the squares that are set in the rows of a code, which is so wide."""
        drawn = [f"{x} {y} 1 1 re" for y, row in enumerate(rows) for x, is_set in enumerate(row) if is_set]
        scale = f"{size / len(rows):.5f} 0 0 {-size / len(rows):.5f} {left:.2f} {self.h - top:.2f}"
        self._out(f"q 0 g {scale} cm\n" + "\n".join(drawn) + "\nf Q")


_MM = 72 / 25.4  # points of a millimetre
# The window of an envelope (DIN 5008, SN 010130, US No. 10), the sender, and where the bill begins.
_WINDOW, _SENDER, _BODY_Y = (22 * _MM, 45 * _MM), (130 * _MM, 34 * _MM), 92 * _MM
_EPC, _SWISS, _RECEIPT = 28 * _MM, 46 * _MM, 62 * _MM  # widths of the codes, and of the Swiss receipt
HEIGHTS = {"none": 0.0, "epc": _EPC + 3 * _MM, "swiss": 105 * _MM}
"""How much room each code takes."""
# Width, height and grey of the Swiss cross, from below to above, millimetres.
_CROSS = ((7, 7, 255), (6, 6, 0), (1.17, 3.9, 255), (3.9, 1.17, 255))


def draw_head(pdf: Canvas, letter: Letter) -> float:
    """Draw logo, sender and address; return where the bill begins."""
    office, (x, y) = letter.office, _WINDOW
    if office.logo:
        pdf.image(office.logo, _SENDER[0], 10 * _MM, h=18 * _MM)
    pdf.lines(*_SENDER, [office.name, *office.address], 9)
    pdf.lines(x, y, [", ".join(filter(None, (office.name, *office.address)))], 6)
    pdf.lines(x, y + 6 * _MM, letter.address(), 10)
    return _BODY_Y


def how_to_pay(letter: Letter, amount: Decimal) -> tuple[list[str], str]:
    """Return in sentences how a bill is paid, and by which code."""
    say, office, to = letter.writing.say, letter.office, letter.to
    money = letter.writing.money(abs(amount))
    if amount <= 0:
        return [say("{amount} is in your favour." if amount else "There is nothing to pay.", amount=money)], "none"
    if letter.due is None:
        return [], "none"
    day, reference = letter.writing.day(letter.due), spaced(letter.reference, 4)
    if to is not None and to.iban and to.mandate and office.creditor:
        words = "We collect {amount} by direct debit on {day}; mandate {mandate}."
        return [say(words, amount=money, day=day, mandate=to.mandate)], "none"
    words = "Please pay {amount} by {day}, with the reference {reference}."
    said = [say(words, amount=money, day=day, reference=reference)]
    if office.iban:
        account = ", ".join(filter(None, (office.name, f"IBAN {spaced(office.iban, 4)}", office.bic)))
        said.append(say("Account for payments: {account}", account=account))
    return said, office.pay_code


def draw_code(pdf: Canvas, letter: Letter, amount: Decimal, top: float) -> None:
    """Draw the code for banks: the EPC's, or the receipt and payment part of a Swiss QR-bill over the page's width."""
    if letter.office.pay_code == "swiss":
        _draw_swiss(pdf, letter, amount, top)
    else:
        _squares(pdf, epc_text(letter, amount), 50, top + 3 * _MM, _EPC)


def epc_text(letter: Letter, amount: Decimal) -> str:
    """Return what the EPC code says: a SEPA credit transfer with a structured reference."""
    office = letter.office
    payee = office.bic, office.name, office.iban
    return "\n".join(["BCD", "002", "1", "SCT", *payee, f"EUR{amount:.2f}", "", letter.reference])


def swiss_text(letter: Letter, amount: Decimal) -> str:
    """Return what the code of a Swiss QR-bill says."""
    office, to = letter.office, letter.to
    *streets, place = office.address
    postcode, _, town = place.partition(" ")
    creditor = "S", office.name, ", ".join(streets), "", postcode, town, office.iban[:2]
    debtor: tuple[str, ...] = ("",) * 7
    if to is not None and to.city:
        debtor = "S", to.name[:70], to.street[:70], "", to.postcode, to.city[:35], to.country or office.iban[:2]
    money = f"{amount:.2f}", letter.writing.currency
    begin = "SPC", "0200", "1", office.iban, *creditor, *("",) * 7
    return "\n".join([*begin, *money, *debtor, "SCOR", letter.reference, "", "EPD"])


def _draw_swiss(pdf: Canvas, letter: Letter, amount: Decimal, top: float) -> None:
    writing, office, to = letter.writing, letter.office, letter.to
    payer = [to.name, to.street, f"{to.postcode} {to.city}"] if to is not None and to.city else []
    blocks = (
        ("Account / Payable to", [spaced(office.iban, 4), office.name, *office.address]),
        ("Reference", [spaced(letter.reference, 4)]),
        ("Payable by", payer),
    )
    money = (0, "Currency", writing.currency), (16, "Amount", f"{amount:,.2f}".replace(",", " "))

    def write(x: float, y: float, name: str, lines: list[str], size: int) -> float:
        below = pdf.lines(x * _MM, y, [writing.say(name)], size - 2, bold=True)
        return pdf.lines(x * _MM, below, lines, size) + 4

    pdf.set_draw_color(0)
    pdf.set_text_color(0)
    pdf.line(0, top, pdf.w, top)
    pdf.line(_RECEIPT, top, _RECEIPT, pdf.h)
    write(5, top - 4 * _MM, "Separate before paying in", [], 9)
    write(38, top + 82 * _MM, "Acceptance point", [], 8)
    for left, title, right, down, size in ((5, "Receipt", 5, 12, 8), (67, "Payment part", 118, 5, 10)):
        write(left, top + 5 * _MM, title, [], 13)
        below = top + down * _MM
        for name, lines in blocks:
            below = write(right, below, name, lines, size)
        for beside, name, value in money:
            write(left + beside, top + 68 * _MM, name, [value], size)
    x, y = _RECEIPT + 5 * _MM, top + 17 * _MM
    _squares(pdf, swiss_text(letter, amount), x, y, _SWISS)
    for width, height, grey in _CROSS:
        pdf.set_fill_color(grey)
        middle = x + (_SWISS - width * _MM) / 2, y + (_SWISS - height * _MM) / 2
        pdf.rect(*middle, width * _MM, height * _MM, style="F")


def _squares(pdf: Canvas, text: str, left: float, top: float, size: float) -> None:
    # To try all masks takes 9 ms, as much as the rest of a bill; every reader reads each of them.
    code = segno.make_qr(text, error="m", boost_error=False, encoding="utf-8", mask=4)
    pdf.squares(list(code.matrix), left, top, size)


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

    def plot(self, found: HourEnergies, zone: ZoneInfo) -> None:
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


def draw(
    pdf: Canvas, found: HourEnergies, zone: ZoneInfo, top: float, scale: float, writing: Writing = DOLLARS
) -> None:
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
