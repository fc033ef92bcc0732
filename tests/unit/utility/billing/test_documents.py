"""A bill as people read it: explained to quarter-hours, printed, in their language; kept letters and pages (U2)."""

import hashlib
import re
import string
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from decimal import Decimal
from itertools import chain, pairwise
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fpdf import FPDF
from PIL import Image

import utility
from commonwatt.look.writing import DOLLARS, LANGUAGES, Writing, catalogue
from commonwatt.model.calendar import midnight
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import spaced
from commonwatt.model.units import QUARTER_S
from commonwatt.town.town import Direction, Function
from harness.billing.worlds import World, found_in_store, random_world, tariff, world_of
from harness.console import Browser
from tests.unit.utility.billing.test_billing import publish
from tests.unit.utility.billing.test_check_bill import SECRET, run_of
from utility.access.people import Role
from utility.billing.bill import Bill, BillLine, LineKind
from utility.billing.documents.explained import (
    BillStep,
    ExplainedBill,
    heat_of,
    parts_of,
    rows_of,
    why_it_differs,
    why_runs_differ,
    worth_of_sharing,
)
from utility.billing.documents.pdf import (
    BOTTOM,
    HEIGHT,
    LEFT,
    WIDTH,
    Canvas,
    as_pdf,
    draw,
    epc_text,
    how_to_pay,
    swiss_text,
)
from utility.billing.documents.receipt import quarters_of_accounts
from utility.billing.documents.statement import (
    CODE_WORDS,
    HourEnergies,
    Letter,
    Statement,
    hours,
    kwh,
    letter_of,
    texts,
)
from utility.billing.inputs import BilledPlace
from utility.billing.proof import _tells, check_code
from utility.billing.rules import policies
from utility.billing.rules.sums import _same
from utility.billing.store import documents as bill_documents
from utility.billing.store.documents import as_letters
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.store.runs import check_run, issue_run, stored_bills
from utility.billing.stored_run import Computed, _of_account, computed
from utility.billing.tables import bill_entry
from utility.customers.people import Contact
from utility.customers.store import office_key, set_contact
from utility.customers.tables import contact
from utility.database.database import Database
from utility.energy.quarters import Quantity, SettledQuality
from utility.exports.customer import usage_summary
from utility.exports.store import exports
from utility.ledger.bank import accounts_in, rf_reference
from utility.mail.message import TEXTS
from utility.registry.accounts import Holding, Installed
from utility.settings import OfficeSettings, UtilitySettings
from utility.tariffs.file import BillTable


def made(seed: int) -> tuple[World, Computed]:
    world = random_world(seed)
    return world, computed(run_of(world), world.load)


def explained(world: World, bills: Computed, number: int) -> ExplainedBill:
    quarters = quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]
    return ExplainedBill(bills.run.inputs(), bills.billed[number].bill, quarters)


def test_days_hours_and_quarters_of_a_bill_add_up_to_its_lines() -> None:
    for seed in range(6):
        world, bills = made(seed)
        for number, billed in bills.billed.items():
            found = explained(world, bills, number)
            days = found.by_day()
            own = [line for line in billed.bill.lines if not line.text.startswith("Credit, part of")]
            kinds = (LineKind.IMPORT, LineKind.CREDIT)
            lines = [line for line in own if line.kind in kinds]
            imported = sum(line.energy or 0 for line in lines if line.kind is LineKind.IMPORT)
            if sum(each.energies[0] for each in days) == imported:  # Not if the microgrid's import is split evenly.
                amount = sum((each.amount for each in days), Decimal(0))
                billed_amount = sum((line.amount for line in lines), Decimal(0))
                assert abs(amount - billed_amount) <= Decimal("0.01") * len(lines)
            day = found.local(days[0]).date()
            hours = found.by_hour(day)
            assert sums(hours) == sums(days[:1])
            clocks = dict.fromkeys(found.local(hour).hour for hour in hours)
            assert sums([step for hour in clocks for step in found.by_quarter(day, hour)]) == sums(days[:1])


def test_printed_bill_shows_the_lines_and_the_check_code_and_is_the_same_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    write = FPDF.text

    def text(page: FPDF, x: float, y: float, text: str) -> None:
        written.append(text)
        write(page, x, y, text)

    monkeypatch.setattr(FPDF, "text", text)
    world, bills = made(3)
    head = bills.tree(SECRET).head
    for number, billed in bills.billed.items():
        statement = Statement(
            bill=billed.bill,
            customer="house",
            zone=ZoneInfo(bills.run.timezone),
            meters=tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]),
            state="issued",
            head=head,
        )
        written.clear()
        paper = as_pdf(statement)
        page = " ".join(written)
        assert spaced(check_code(head)) in page
        assert all(line.text in page for line in billed.bill.lines)
        assert texts(replace(statement, state="draft")).title.startswith("Draft of a bill")
        assert paper == as_pdf(statement), "the same bytes again"
        assert paper.startswith(b"%PDF")
        assert paper.count(b"/Type /Page\n") == 1, "one sheet"


def test_printed_correction_is_beside_its_amount_and_the_total_below_a_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    bills = made(3)[1]
    bill = next(iter(bills.billed.values())).bill
    reason = (
        "computed again with what is known now: import 1214.567 kWh, billed were 1234.567; with credit 345.678 kWh, "
        "billed were 345.678"
    )
    line = BillLine(kind=LineKind.CORRECTION, text="Correction of 2026-09", amount=Decimal("-3.12"), reason=reason)
    written: list[tuple[float, float, float, str]] = []
    rules: list[float] = []

    def text(page: FPDF, x: float, y: float, text: str) -> None:
        written.append((y, x, x + page.get_string_width(text), text))

    monkeypatch.setattr(FPDF, "text", text)
    monkeypatch.setattr(FPDF, "line", lambda _, __, y, *___: rules.append(y))
    as_pdf(Statement(bill=replace(bill, lines=(*bill.lines, line)), customer="house", zone=ZoneInfo("UTC")))
    written.sort()
    assert max(right for _, _, right, _ in written) <= 562
    assert not [text for (y, _, end, text), (other, x, _, _) in pairwise(written) if y == other and end > x]
    assert [y - 10 for y, _, _, text in written if text == "To pay"] == rules[-1:]


def sums(steps: list[BillStep]) -> tuple[list[int], Decimal, int]:
    energies = [sum(step.energies[n] for step in steps) for n in range(4)]
    return energies, sum((step.amount for step in steps), Decimal(0)), sum(step.quarters for step in steps)


def test_hour_that_the_clocks_repeat_is_there_twice_and_quality_is_counted() -> None:
    world, bills = next(each for each in map(made, range(99)) if each[0].inputs.month == "2026-11")
    number = next(n for n, each in bills.billed.items() if each.bill.start == world.inputs.first)
    found = explained(world, bills, number)
    hours = found.by_hour(date(2026, 11, 1))
    assert len(hours) == 25
    rows = list(rows_of(found, hours, "%H:%M %z"))
    assert [row["from"] for row in rows[1:3]] == ["01:00 -0400", "01:00 -0500"]
    assert sum(count for hour in hours for count in hour.quality.values()) == 100


WHO = Contact(name="Zofia Łukasz", street="Gasse 5", postcode="8001", city="Zürich", country="CH", language="de")
OFFICE = OfficeSettings(
    name="Werke Grünau", address=("Seeweg 1", "8000 Zürich"), iban="CH56 0483 5012 3456 7800 9", pay_code="swiss"
)
TABLE = BillTable(currency="CHF", numbers="1'234.56", language="en")


@pytest.fixture
def statement() -> Statement:
    bills = made(3)[1]
    bill = max((each.bill for each in bills.billed.values()), key=lambda bill: bill.total)
    line = BillLine(kind=LineKind.TAX, text="Credit", amount=Decimal(1300))
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


kind = pytest.fixture(lambda: "sqlite")
MONTH, NOW = "2026-10", 1_800_005_000
BILL = {"currency": "EUR", "numbers": "1.234,56", "language": "de"}


@pytest.fixture
def settings(tmp_path: Path) -> UtilitySettings:
    office = OfficeSettings(
        key=tmp_path / "key", name="Werke", address=("Weg 1", "1010 Wien"), iban="AT1", pay_code="epc"
    )
    return UtilitySettings(second_factor="optional", office=office)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return found_in_store(monkeypatch, world_of())


@pytest.fixture
def account(database: Database, world: World, settings: UtilitySettings) -> int:
    """Return an account with a name and an issued bill in euro."""
    publish(database, tariff(bill=BILL))
    number = min(h.account for m in world.inputs.registry.meters.values() for h in m.holdings)
    with database.writes.begin() as connection:
        who, key = Contact(name="Zoë Łukasz", city="Wien"), office_key(connection, settings.office)
        set_contact(connection, number, 0, who, key)
    made = saved(database, computed_run(database, prepared(database, MONTH, "town", NOW)), "anna", NOW)
    assert made is not None
    with database.writes.begin() as connection:
        check_run(connection, made, "anna", NOW)
        issue_run(connection, made, "ben", NOW)
        assert number in stored_bills(connection, made)
    return number


def test_printed_bill_has_the_name_until_it_is_deleted(
    account: int, database: Database, settings: UtilitySettings
) -> None:
    documents = bill_documents.documents_of(database, MONTH)
    (found,) = as_letters(database, settings, documents, documents.statements([account]))
    assert found.letter is not None
    assert found.letter.number == f"{MONTH}/1-{account}"
    assert found.letter.address()[0] == "Zoë Łukasz"
    assert found.letter.writing.language == "de"
    with database.writes.begin() as connection:
        connection.execute(contact.delete())
    (gone,) = as_letters(database, settings, documents, documents.statements([account]))
    assert gone.letter is not None
    assert gone.letter.address() == ["Name und Adresse wurden auf Wunsch gelöscht."]


def test_pages_show_the_currency_and_numbers_of_the_tariff(
    account: int, database: Database, browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(FPDF, "text", lambda *drawn: written.append(drawn[3]))
    clerk, resident = browser(Role.CLERK), browser(Role.RESIDENT, account=account)
    pages = (clerk.get(f"/console/bills/{account}/1").text, resident.get(f"/console/home/bills/{MONTH}").text)
    for page, words in zip(pages, ("EUR per kWh", "EUR je kWh"), strict=True):
        assert ",00 EUR" in page or "EUR</p>" in page
        assert "$" not in page.split("<main")[1]
        assert words in page
        assert "0,200000" not in page
        assert "0,20" in page
    for path in (f"/console/bills/{account}/1/bill.pdf", f"/console/home/bills/{MONTH}/pdf"):
        written.clear()
        who = clerk if "home" not in path else resident
        assert who.get(path).content[:4] == b"%PDF"
        assert {"Zoë Łukasz", "Zu zahlen", "Preis, EUR"} <= {*written}


def test_green_button_of_a_whole_month_has_its_issued_bill_and_of_a_part_has_none(
    account: int, database: Database
) -> None:
    with database.reads.begin() as connection:
        bill = stored_bills(connection, 1)[account].bill
    assert bill is not None
    (found,) = exports._costed_bills(database, account, bill.start, bill.end)
    assert (found.bill, found.currency, found.names) == (bill, "EUR", ("peak", "off-peak"))
    assert set(found.tou.tolist()) == {1, 2}
    assert exports._costed_bills(database, account, bill.start + 1, bill.end) == ()


def test_bill_of_a_fee_alone_is_a_letter_and_in_the_export(
    database: Database, settings: UtilitySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = world_of()
    first, meters = town.settled.first, dict(town.inputs.registry.meters)
    one = next(each for each in meters.values() if each.holdings)
    left = Holding(account=999, start=0, end=first), replace(one.holdings[0], start=first)
    meters[one.id] = replace(one, holdings=left)
    registry = replace(town.inputs.registry, meters=meters)
    found_in_store(monkeypatch, replace(town, inputs=replace(town.inputs, registry=registry)))
    publish(database, tariff(bill=BILL))
    fee = {"kind": "fee", "subject": 999, "cents": 500, "left_cents": 500, "reason": "visit", "state": "approved"}
    with database.writes.begin() as connection:
        connection.execute(bill_entry.insert().values(**fee, entered_by="anna", entered=NOW))
    made = saved(database, computed_run(database, prepared(database, MONTH, "town", NOW)), "anna", NOW)
    assert made is not None
    with database.writes.begin() as connection:
        check_run(connection, made, "anna", NOW)
        issue_run(connection, made, "ben", NOW)
    documents = bill_documents.documents_of_run(database, made, 999)
    (found,) = as_letters(database, settings, documents, documents.statements([999]))
    assert found.letter is not None
    assert found.letter.writing.currency == "EUR"
    assert as_pdf(found)[:4] == b"%PDF"
    start = found.bill.start
    (costs,) = exports._costed_bills(database, 999, start, start + 3000)
    assert (costs.currency, costs.tou.size) == ("EUR", 0)
    assert "<currency>978</currency>" in usage_summary(costs)


# Of the bills of these random worlds, as the program before printed them.
BEFORE = {
    0: "a5342c1577821f1cdefafc9e6ae3905c1efdead73a36db7beaa495e6eb82c690",
    1: "f7c094de71b31433bb44c16bdabc1c36cd7abadc649e205ec8c7303870369467",
    2: "980dc0275f0dc1b64989a4a84c64d1f5a451853746aa014f684a774f9f490750",
    3: "51bd7027ce158dd0f5944f274715e0892aa62be094f27cb4dff949f08d952fbb",
    4: "d4e67ae3b1bb6c0dd6ad07e3b640c9351df00d34b67a2bcef05853bbba08d13a",
    5: "4fec0eafcd6ad978cd846a7cbc8dbed4c89d88c6517a909f372dc04cfe295c2e",
}


def content(paper: bytes) -> bytes:
    """Return a document whose streams are not compressed: what compresses may differ between machines."""
    paper = re.sub(rb"/Length \d+|/Producer [^\n]*|startxref\n\d+|\d{10} 00000 n", b"", paper)
    parts = re.split(rb"stream\n(.*?)\nendstream", paper, flags=re.DOTALL)
    return b"".join(zlib.decompress(part) if n % 2 and part[:1] == b"x" else part for n, part in enumerate(parts))


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 5])
def test_printed_bills_of_a_town_that_uses_nothing_new_are_the_same_bytes(seed: int) -> None:
    world, bills = made(seed)
    head = bills.tree(SECRET).head
    digest = hashlib.sha256()
    for number, billed in sorted(bills.billed.items()):
        meters = tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number])
        zone = ZoneInfo(bills.run.timezone)
        for state, its_head, its_meters in (("issued", head, meters), ("draft", None, ())):
            statement = Statement(
                bill=billed.bill, customer="house", zone=zone, meters=its_meters, state=state, head=its_head
            )
            digest.update(content(as_pdf(statement)))
    assert digest.hexdigest() == BEFORE[seed]


METER = Installed(
    id=1, microgrid="r001", place="house 1", function=Function.HOUSE, direction=Direction.INCOMING, capacity=None
)


@pytest.mark.parametrize(
    ("spans", "there"),
    [
        ([(None, None)], [True] * 6),
        ([(102, None)], [False] * 2 + [True] * 4),
        ([(None, 104)], [True] * 4 + [False] * 2),
        ([(101, 103), (103, 105)], [False] + [True] * 4 + [False]),
        ([(90, 95)], [False] * 6),
    ],
)
def test_a_place_exists_from_its_first_meter_to_its_last(
    spans: list[tuple[int | None, int | None]], there: list[bool]
) -> None:
    meters = tuple(replace(METER, id=n, start=start, end=end) for n, (start, end) in enumerate(spans))
    place = BilledPlace(name="house 1", function=Function.HOUSE, building=None, meters=meters)
    assert place.exists(100, 106).tolist() == there


def test_a_place_is_of_the_account_of_its_lowest_meter_that_has_one() -> None:
    holdings = {1: ((7, 100, 102), (9, 102, 104)), 2: ((8, 101, 105), (7, 105, None))}
    meters = tuple(
        replace(METER, id=n, holdings=tuple(Holding(account=a, start=b, end=c) for a, b, c in each))
        for n, each in holdings.items()
    )
    place = BilledPlace(name="house 1", function=Function.HOUSE, building=None, meters=meters)
    assert place.held(99, 106) == [(7, 100, 102), (9, 102, 104), (8, 104, 105), (7, 105, 106)]
    assert replace(place, meters=meters[1:]).held(99, 106) == [(8, 101, 105), (7, 105, 106)]


def test_stretches_end_where_the_places_change() -> None:
    active = np.array([[True, True, True, False], [True, False, False, False]])
    assert _same(active) == [(0, 1), (1, 3), (3, 4)]


@pytest.mark.parametrize(
    ("cents", "zero_bill", "base"),
    [(-1, "keeps", "0.75"), (0, "keeps", "1.00"), (0, "falls", "0.75"), (1, "keeps", "1.25"), (1, "falls", "1.25")],
)
def test_the_base_falls_and_rises_by_a_quarter(cents: int, zero_bill: str, base: str) -> None:
    policy = {"name": "aces", "off_peak": "off-peak", "step_of": "current", "zero_bill": zero_bill}
    rates = tariff(policy=policy, base="2.00")
    assert policies.aces_next_base(rates, Decimal(1), cents) == Decimal(base)


@pytest.mark.parametrize(("largest", "others", "tells"), [(15, 17, False), (16, 17, True), (15, 13, True)])
def test_a_total_tells_of_an_account_that_has_more_than_15_percent_of_it_or_is_of_few(
    largest: int, others: int, tells: bool
) -> None:
    assert _tells([largest] + [5] * others) == tells


def test_of_a_runs_inputs_an_account_gets_its_own_objects() -> None:
    town: dict[str, Any] = {"name": "town"}
    own: list[dict[str, Any]] = [{"weights": [], "number": 7}, {"holdings": [{"account": 3}, {"account": 7}]}, town]
    others: list[dict[str, Any]] = [{"weights": [], "number": 8}, {"holdings": [{"account": 3}]}, {"billed": {}}]
    assert [_of_account(7, one) for one in own] == own
    assert not any(_of_account(7, one) for one in others)


def test_an_energy_is_said_exactly_in_kilowatt_hours() -> None:
    assert (kwh(10**10), kwh(-1_500), kwh(None)) == ("10,000.000", "-0.002", "")


def test_every_word_of_a_bill_is_on_its_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    world, bills = made(3)
    number, billed = next(iter(bills.billed.items()))
    meters = tuple(quarters_of_accounts(bills.run.inputs(), [number], world.load)[number])
    line = replace(billed.bill.lines[0], text=" ".join(f"word{n}" for n in range(60)))
    bill = replace(billed.bill, lines=(*billed.bill.lines, line))
    statement = Statement(bill=bill, customer="house", zone=ZoneInfo(bills.run.timezone), meters=meters)
    written: list[str] = []
    monkeypatch.setattr(FPDF, "text", lambda _, __, ___, text: written.append(text))
    as_pdf(statement)
    said = texts(statement)
    assert "Hour by hour" in written
    words = " ".join(written).split()
    for text in (cell for row in (*said.lines, *said.facts) for cell in row):
        assert set(text.split()) <= set(words), text
    found = hours(statement)
    assert {b - a for a, b in zip(found.starts, found.starts[1:], strict=False)} == {3600}


def test_the_quality_of_a_day_is_one_word_if_all_its_quarters_have_it() -> None:
    for seed in range(6):
        world, bills = made(seed)
        for number in bills.billed:
            meters = quarters_of_accounts(bills.run.inputs(), [number], world.load)[number]
            days = explained(world, bills, number)
            for day, row in zip(days.by_day(), rows_of(days, days.by_day(), "%d"), strict=True):
                said = [word for word in str(row["quality"]).split(", ") if word]
                if all(meter.quality.min() > SettledQuality.MISSING for meter in meters):
                    assert SettledQuality.MISSING not in day.quality
                assert all((" " in word) == (len(day.quality) > 1) for word in said), row


def test_the_plot_has_its_greatest_hours_at_its_edges_and_marks_estimates() -> None:
    none = np.zeros(4, np.int64)
    energies = dict.fromkeys(Quantity, none)
    energies |= {Quantity.IMPORTED: np.array([3, 0, 0, 1]), Quantity.EXPORTED: np.array([0, 0, 1, 0])}
    worst = np.array(
        [SettledQuality.MEASURED, SettledQuality.ESTIMATED, SettledQuality.ESTIMATED, SettledQuality.MEASURED]
    )
    canvas, edge, top = Mock(spec=Canvas), 50, 100
    draw(canvas, HourEnergies(starts=(0, 3600, 7200, 10_800), energies=energies, worst=worst), ZoneInfo("UTC"), top, 1)
    hour, low = (WIDTH - LEFT) / 4, HEIGHT - BOTTOM - 4
    canvas.rect.assert_called_once_with(edge + LEFT + hour, top + low, 2 * hour, 3, style="F")
    assert canvas.line.call_args.args[1] == pytest.approx(top + 12 + (low - 12) * 3 / 4)


ZONE = ZoneInfo("America/New_York")
KWH = 10**6


def hours_from(starts: tuple[int, ...]) -> HourEnergies:
    energies = {quantity: np.zeros(len(starts), np.int64) for quantity in Quantity}
    return HourEnergies(starts=starts, energies=energies, worst=np.zeros(len(starts), np.int64))


@pytest.mark.parametrize(("day", "count"), [(date(2026, 3, 8), 23), (date(2026, 3, 9), 24), (date(2026, 11, 1), 25)])
def test_each_hour_of_a_day_has_its_cell_and_no_two_the_same_place(day: date, count: int) -> None:
    first = midnight(day, ZONE) * QUARTER_S
    starts = tuple(first + 3600 * hour for hour in range(count))
    by_hour = hours_from(starts)
    by_hour.energies[Quantity.IMPORTED][5] = KWH
    by_hour.energies[Quantity.SHARED_IN][5:7] = KWH
    ((found, taken, cells),), most = heat_of(by_hour, ZONE)
    assert (found, taken, most) == (day, 3 * KWH, (starts[5], 2 * KWH))
    assert [tenths for tenths, _, _ in cells] == [0] * 5 + [10, 5] + [0] * (count - 7)
    spans = [(hour, hour + length) for _, hour, length in cells]
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert (len(cells), spans[-1][1]) == (count, 24)


def test_a_bill_without_quarter_hours_has_no_cells() -> None:
    assert heat_of(hours_from(()), ZONE) == ([], (0, 0))


def bill(month: str, *lines: BillLine) -> Bill:
    total = sum((line.amount for line in lines), Decimal(0))
    return Bill(account=1, month=month, start=0, end=1, tariff=("town 1",), policy="spec", lines=lines, total=total)


def line(kind: LineKind, amount: str, energy: int | None = None, rate: str | None = None) -> BillLine:
    return BillLine(
        kind=kind, text="", amount=Decimal(amount), energy=energy, rate=None if rate is None else Decimal(rate)
    )


def test_the_greatest_reason_of_a_difference_comes_first_in_dollars() -> None:
    april = bill("2026-04", line(LineKind.BASE, "12.00"), line(LineKind.IMPORT, "20.61"))
    may = bill("2026-05", line(LineKind.BASE, "12.00"), line(LineKind.IMPORT, "0.01"), line(LineKind.CREDIT, "-5.43"))
    assert why_it_differs(may, april) == (
        "$26.03 less than in April 2026: energy taken from the town -$20.60, credit for energy given -$5.43."
    )
    assert why_it_differs(april, april) == "As much as in April 2026."


def test_parts_of_a_total_add_up_with_a_credit_larger_than_the_energy_and_with_corrections() -> None:
    base, energy = line(LineKind.BASE, "12.00"), (line(LineKind.IMPORT, "0.61"), line(LineKind.IMPORT, "3.00"))
    credit, lapsed = line(LineKind.CREDIT, "-40.00"), line(LineKind.LAPSED, "24.39")
    neighbours, late = line(LineKind.INFORMATION, "0", 5), line(LineKind.CORRECTION, "1.20")
    for lines in ([base, *energy], [base, *energy, credit, lapsed, neighbours], [base, *energy, credit, lapsed, late]):
        one = bill("2026-05", *lines)
        parts = parts_of(one, DOLLARS)
        assert parts[0][2] == 0
        for (_, amount, before), (_, _, then) in pairwise(parts):
            assert before + amount == then
        assert parts[-1][1] + parts[-1][2] == one.total
    assert [words for words, _, _ in parts][-1] == "Corrections of earlier months"


def test_runs_differ_by_the_energy_taken_and_by_its_price() -> None:
    april = {"total": "30.00", "base": "10.00", "import": "20.00", "credit": "0", "lapsed": "0", "correction": "0"}
    may = april | {"total": "25.00", "import": "15.00"}
    before = {"month": "2026-04", "figures": april | {"taken_mwh": 100_000_000}}
    assert why_runs_differ({"figures": may | {"taken_mwh": 50_000_000}}, before) == (
        "$5.00 less than in April 2026: 50 kWh less taken from the town -$10.00, its price +$5.00."
    )
    assert why_runs_differ({"figures": may}, before | {"figures": april}) == (
        "$5.00 less than in April 2026: energy taken from the town -$5.00."
    )


def test_what_neighbours_gave_is_worth_the_rates_and_not_the_rounded_cents() -> None:
    some = bill("2026-05", line(LineKind.IMPORT, "0.01", 45_000, "0.2000"), line(LineKind.IMPORT, "0.00", 0, "0.3200"))
    worth = worth_of_sharing(some, Decimal("44.573"))
    assert worth is not None
    assert round(worth, 2) == Decimal("8.91")
    assert worth_of_sharing(bill("2026-05", line(LineKind.BASE, "12.00")), Decimal(1)) is None
