"""The head of a letter, and how a bill is paid: in words, by an EPC code (EPC069-12) or by a Swiss QR-bill (2.3)."""

from decimal import Decimal

import segno

from commonwatt.model.words import spaced
from utility.billing.documents.canvas import Canvas
from utility.billing.documents.letter import Letter

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
