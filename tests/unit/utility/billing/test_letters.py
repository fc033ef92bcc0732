"""A printed bill as people know it: name, number, dates, how to pay, in the household's language and letters."""

import re
import string
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fpdf import FPDF
from PIL import Image

import utility
from commonwatt.config.office import OfficeSettings
from commonwatt.model.exceptions import ConfigError
from tests.unit.utility.billing.test_check_bill import SECRET
from tests.unit.utility.billing.test_documents import made
from utility.billing.bill import Line, LineKind
from utility.billing.documents.letter import Letter, letter_of
from utility.billing.documents.paying import epc_text, how_to_pay, swiss_text
from utility.billing.documents.pdf import as_pdf
from utility.billing.documents.statement import CODE_WORDS, Statement, texts
from utility.billing.documents.writing import LANGUAGES, Writing, catalogue
from utility.customers.contact import Contact
from utility.ledger.reference import accounts_in, rf_reference
from utility.mail.message import TEXTS
from utility.tariffs.file import BillTable

WHO = Contact(name="Zofia Łukasz", street="Gasse 5", postcode="8001", city="Zürich", country="CH", language="de")
OFFICE = OfficeSettings(
    name="Werke Grünau", address=("Seeweg 1", "8000 Zürich"), iban="CH56 0483 5012 3456 7800 9", pay_code="swiss"
)
TABLE = BillTable(currency="CHF", numbers="1'234.56", language="en")


@pytest.fixture
def statement() -> Statement:
    bills = made(3)[1]
    bill = max((each.bill for each in bills.billed.values()), key=lambda bill: bill.total)
    line = Line(kind=LineKind.TAX, text="Credit", amount=Decimal(1300))
    bill = replace(bill, addressee="d" * 64, lines=(*bill.lines, line), total=bill.total + 1300)
    zone = ZoneInfo(bills.run.timezone)
    found = Statement(bill=bill, customer="house", zone=zone, state="issued", head=bills.tree(SECRET).head)
    return replace(found, letter=letter(found))


def letter(found: Statement, office: OfficeSettings = OFFICE, to: Contact | None = WHO, **more: Any) -> Letter:
    made = letter_of(office, found.bill, 12, TABLE, to, date(2026, 12, 5), 30, **more)
    assert made is not None
    return made


def written(monkeypatch: pytest.MonkeyPatch, statement: Statement) -> list[str]:
    """Return the texts of the printed bill."""
    found: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(FPDF, "text", lambda *drawn: found.append(drawn[3]))
        as_pdf(statement)
    return found


def test_letter_has_name_number_dates_reference_and_amounts_as_its_household_reads_them(
    monkeypatch: pytest.MonkeyPatch, statement: Statement
) -> None:
    said = written(monkeypatch, statement)
    account, month = statement.bill.account, statement.bill.month
    assert {"Zofia Łukasz", "Gasse 5", "8001 Zürich", "Werke Grünau"} <= {*said}
    assert {f"{month}/12-{account}", "5. Dezember 2026", "4. Januar 2027", "Zu zahlen", "Zahlteil"} <= {*said}
    assert f"{statement.bill.total:,.2f}".replace(",", "'") in said, "as 1'313.99"
    assert "Credit" in said, "the name of a tax is the tariff's own"
    assert accounts_in(rf_reference(account, month)) == {account}
    assert as_pdf(statement) == as_pdf(statement)
    assert b"CommonwattSans" in as_pdf(statement), "the letter that Helvetica lacks is drawn"


def test_letter_that_no_font_has_is_a_question_mark_and_not_in_the_log(
    statement: Statement, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strange = replace(statement, letter=letter(statement, to=replace(WHO, name="Ζωή Жукова 木")))
    assert "Ζωή Жукова ?" in written(monkeypatch, strange)
    as_pdf(strange)
    assert caplog.text == ""


def test_logo_of_the_office_is_on_the_bill(statement: Statement, tmp_path: Path) -> None:
    Image.new("RGB", (60, 20), "teal").save(tmp_path / "logo.png")
    office = OFFICE.model_copy(update={"logo": tmp_path / "logo.png"})
    assert b"/Image" in as_pdf(replace(statement, letter=letter(statement, office)))
    assert b"/Subtype /Image" not in as_pdf(statement)


def test_balance_forward_changes_what_is_to_pay_and_what_the_code_says(
    monkeypatch: pytest.MonkeyPatch, statement: Statement
) -> None:
    forward = replace(statement, letter=letter(statement, owed=250))
    assert forward.letter is not None
    said = written(monkeypatch, forward)
    assert "Saldo vor dieser Rechnung" in said
    to_pay = forward.letter.to_pay(statement.bill)
    assert to_pay == statement.bill.total + Decimal("2.50")
    assert f"{to_pay:.2f}" in swiss_text(forward.letter, to_pay)


def test_codes_say_what_the_standards_ask(statement: Statement) -> None:
    found = letter(statement)
    lines = swiss_text(found, Decimal("1234.5")).split("\n")
    assert lines[:11] == [
        *["SPC", "0200", "1", "CH5604835012345678009", "S"],
        "Werke Grünau",
        "Seeweg 1",
        "",
        "8000",
        "Zürich",
        "CH",
    ]
    assert lines[11:20] == [*[""] * 7, "1234.50", "CHF"]
    assert lines[20:] == ["S", WHO.name, WHO.street, "", "8001", "Zürich", "CH", "SCOR", found.reference, "", "EPD"]
    euro = replace(found, office=OfficeSettings(name="Werke", iban="DE02120300000000202051", pay_code="epc"))
    said = epc_text(euro, Decimal("1234.5")).split("\n")
    assert said == ["BCD", "002", "1", "SCT", "", "Werke", "DE02120300000000202051", "EUR1234.50", "", found.reference]


def test_no_code_is_printed_for_what_is_not_to_be_paid(statement: Statement) -> None:
    found = letter(statement)
    mandated = replace(
        found, to=replace(WHO, iban="CH1", mandate="M1"), office=OFFICE.model_copy(update={"creditor": "X"})
    )
    for each, amount, words in (
        (found, Decimal("-3.50"), "3.50 CHF zu Ihren Gunsten."),
        (found, Decimal(0), "Es ist nichts zu zahlen."),
        (mandated, Decimal(3), "Wir ziehen 3.00 CHF am 4. Januar 2027 per Lastschrift ein; Mandat M1."),
    ):
        assert how_to_pay(each, amount) == ([words], "none")


def test_deleted_contact_is_said_and_a_wrong_code_is_refused(
    monkeypatch: pytest.MonkeyPatch, statement: Statement
) -> None:
    gone = replace(statement, letter=letter(statement, to=None))
    assert "Name and address were deleted on request." in written(monkeypatch, gone)
    for office in (OFFICE.model_copy(update={"pay_code": "epc"}), OFFICE.model_copy(update={"iban": ""})):
        with pytest.raises(ConfigError, match=r"office\.pay_code"):
            letter(statement, office)
    assert letter_of(OfficeSettings(), replace(statement.bill, addressee=""), 1, None, None) is None


def said_by_the_program() -> Iterator[str]:
    """Yield the English texts that the program has translated."""
    for path in [
        *Path(utility.__file__).parent.glob("billing/documents/*.py"),
        *Path(utility.__file__).parent.glob("mail/**/*.py"),
    ]:
        yield from re.findall(r'say\(\s*"((?:[^"\\]|\\.)+)"', path.read_text())


@pytest.mark.parametrize("language", ["de", "es"])
def test_every_text_is_in_the_catalogues_with_the_same_places_for_values(language: str, statement: Statement) -> None:
    found, is_swiss = (
        catalogue(language),
        re.compile("Receipt|Payment part|Pay|Account /|Separate|Acceptance|Amount|Curr|Ref"),
    )
    english = {*said_by_the_program(), CODE_WORDS, *chain.from_iterable(TEXTS.values())}
    assert not [text for text in english if text not in found and not (language == "es" and is_swiss.match(text))]
    for said, meant in found.items():
        places = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (said, meant)]
        assert places[0] == places[1], said
    plain = texts(replace(statement, letter=None))
    assert statement.letter is not None
    its = texts(replace(statement, letter=replace(statement.letter, writing=Writing(language=language))))
    same = [row[0] for row, other in zip(plain.lines, its.lines, strict=True) if row[0] == other[0]]
    assert same == ["Credit"], "every line is translated, but for the tax"
    assert (LANGUAGES / f"{language}.po").read_text().count("msgid") == len(found) + 1, "an entry a line"


def test_numbers_are_written_as_the_tariff_has_them() -> None:
    forms = ("1,234.56", "1.234,56", "1 234,56", "1'234.56")
    assert [Writing(numbers=form).number("9,876.54") for form in forms] == [
        "9,876.54",
        "9.876,54",
        "9\xa0876,54",
        "9'876.54",
    ]
