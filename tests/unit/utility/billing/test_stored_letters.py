"""Letters and pages of bills in the database: names by digests, the tariff's currency, Green Button with costs."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from fpdf import FPDF

from commonwatt.config.office import OfficeSettings
from commonwatt.config.utility import UtilitySettings
from harness.billing.found import found_in_store
from harness.billing.two_months import world_of
from harness.billing.worlds import World, tariff
from harness.console import Browser
from tests.unit.utility.billing.test_billing import publish
from utility.access.roles import Role
from utility.billing.documents.pdf import as_pdf
from utility.billing.store import bill_documents
from utility.billing.store.billing import check_run, issue_run, stored_bills
from utility.billing.store.letters import as_letters
from utility.billing.store.run_bills import computed_run, prepared, saved
from utility.billing.tables import bill_entry
from utility.customers.contact import Contact
from utility.customers.store.contacts import office_key, set_contact
from utility.customers.tables import contact
from utility.database.database import Database
from utility.exports.customer.costs import usage_summary
from utility.exports.store import exports
from utility.registry.accounts import Holding

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
    for page in (clerk.get(f"/console/bills/{account}/1").text, resident.get(f"/console/home/bills/{MONTH}").text):
        assert ",00 EUR" in page or "EUR</p>" in page
        assert "$" not in page.split("<main")[1]
        assert "EUR per kWh" in page
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
