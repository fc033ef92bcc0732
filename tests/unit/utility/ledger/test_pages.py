"""A clerk in the browser: a bank's file, payments that wait, statements, plans, orders, months of two people."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import text

from commonwatt.model.calendar import midnight
from harness.billing.worlds import tariff
from harness.console import Browser, text_of
from harness.ledger.histories import ANNA
from harness.surroundings import databases
from tests.unit.utility.conftest import NOW
from tests.unit.utility.ledger.test_ledger import entry, part, statement, valid
from utility.access.people import Role
from utility.access.store import audit_log
from utility.customers.people import Contact
from utility.customers.store import newest_contacts, office_key, set_contact
from utility.database.base import SQLAlchemyError
from utility.database.database import Database
from utility.database.town_zone import zone_of
from utility.ledger import decisions
from utility.ledger.bank import rf_reference
from utility.ledger.entry import Entry, LedgerKind, billed, open_items
from utility.ledger.store import C, balance, entries_where, exported, newest, owed_before, post, post_cancel, remind
from utility.settings import BillingSettings, OfficeSettings, UtilitySettings
from utility.tariffs import store as tariffs

Browsers = Callable[..., Browser]
HEADER = "day,amount,currency,reference,text,payer,bank_reference\n"
IBAN = "DE89370400440532013000"
LATER = "2027-03-01"  # a day after NOW
LEVELS = [{"days": 7}, {"days": 14, "fee": "5.00"}]


@pytest.fixture
def settings(tmp_path: Path) -> UtilitySettings:
    office = OfficeSettings(key=tmp_path / "office-key", name="Solar Town", iban=IBAN, creditor="DE98ZZZ09999999999")
    return UtilitySettings(second_factor="optional", office=office, billing=BillingSettings(tariff="town"))


def bill_entry(run: int, month: str, account: int, parts: dict[str, int]) -> Entry:
    """Return the entry of a bill; that of account 3 is its last one."""
    return billed(run, account, f"{month}-01", f"{month}-31", parts, is_final=account == 3)


@pytest.fixture(autouse=True)
def _issued(database: Database, settings: UtilitySettings) -> None:
    """Three bills of a run; each account has a bank account, and two a mandate."""
    key = database.read(office_key, settings.office)
    with database.writes.begin() as connection:
        made = tariff(bill={"currency": "EUR"}, reminder=LEVELS)
        stored = tariffs.propose(connection, made, "", "anna", NOW)
        tariffs.publish(connection, stored.name, stored.version, "ben", NOW)
        parts = {1: {"energy": 5000, "taxes": 400}, 2: {"energy": 3000, "goodwill": -500}, 3: {"energy": -700}}
        post(connection, [bill_entry(1, "2026-12", account, of) for account, of in parts.items()], "ben", NOW)
        for account in (1, 2, 3):
            who = Contact(name=f"Person {account} & Söhne", iban="DE02 1203 0000 0000 2020 51")
            mandate = replace(who, mandate=f"M{account}", mandate_day="2026-10-05")
            set_contact(connection, account, 0, who if account == 2 else mandate, key)


def send(clerk: Browser, content: str | bytes) -> str:
    files = {"file": ("bank.csv", content.encode() if isinstance(content, str) else content)}
    return text_of(clerk.send("POST", "/console/ledger/import", data={"csrf": clerk.csrf}, files=files))


def decide(clerk: Browser, name: str, **asked: object) -> tuple[int, str]:
    answer = clerk.post(f"/console/ledger/decide/{name}", asked)
    return answer.status_code, text_of(answer)


def orders_of(clerk: Browser) -> list[str]:
    """Return the pages of the files of orders, the newest first."""
    return re.findall(r'href="(/console/ledger/orders/[^"/]+)/look"', clerk.get("/console/ledger").text)


def release(second: Browser, path: str) -> tuple[int, str]:
    """Release a file of orders as its page shows it."""
    fields = dict(re.findall(r'name="(file|digest)" value="([^"]+)"', second.get(f"{path}/look").text))
    answer = second.post("/console/ledger/release", fields)
    return answer.status_code, text_of(answer)


def balances(database: Database) -> list[int]:
    with database.reads.begin() as connection:
        return [balance(connection, account) for account in (1, 2, 3)]


@databases.on_both_kinds
def test_clerk_imports_assigns_and_sees_what_is_owed(browser: Browsers, database: Database) -> None:
    anna = browser(Role.CLERK, name="anna")
    rows = f"2026-12-05,54.00,EUR,,{rf_reference(1, '2026-11')},Person 1,B1\n2026-12-06,10.00,EUR,,thanks,Mr. Odd,B2\n"
    odd = "2026-12-06,10.00,USD,,account 1,,B3\n2026-12-06,0.00,EUR,,account 1,,B4\n"
    assert "assigned 1 waiting 1 there already 0 left out 2" in (page := send(anna, HEADER + rows + odd))
    assert "its currency is not EUR" in page
    waits = text_of(anna.get("/console/ledger"))
    assert "Mr. Odd; thanks" in waits
    assert "there already 2" in send(anna, HEADER + rows)
    assert balances(database) == [0, 2500, -700]
    no = re.search(r'name="no" value="(\d+)"', anna.get("/console/ledger").text)
    assert no is not None
    assert decide(anna, "assign", no=no[1], account=99)[0] == 422
    assert all("10.00 is left" in decide(anna, "assign", no=no[1], account=2, part=part)[1] for part in ("10.01", "-1"))
    assert decide(anna, "assign", no=no[1], account=2, part="4")[0] == 303
    assert "2026-12-06 6.00 EUR Mr. Odd" in text_of(anna.get("/console/ledger")), "the rest waits"
    assert decide(anna, "assign", no=no[1], account=2)[0] == 303
    assert "is no payment that waits" in decide(anna, "assign", no=no[1], account=2)[1]
    page = text_of(anna.get("/console/ledger/accounts/2"))
    assert "run 1 account 2 2026-12-31 25.00 EUR 25.00 EUR" in page
    assert "bill run 1 account 2 2026-12-31 15.00 EUR" in page, "what is open"
    assert decide(anna, "nothing")[0] == 404


def test_a_payment_of_a_day_to_come_is_left_out_and_one_far_above_the_debt_is_asked_about(
    browser: Browsers, database: Database
) -> None:
    anna = browser(Role.CLERK, name="anna")
    page = send(anna, HEADER + "2030-01-01,54.00,EUR,,account 1,,B1\n2026-12-05,1000000.00,EUR,,account 2,,B2\n")
    assert "left out 1" in page
    assert "its day is to come" in page
    assert "waiting 1" in page
    assert "1000000.00, much more than is owed" in page
    no = re.search(r'name="no" value="(\d+)"', anna.get("/console/ledger").text)
    assert no is not None
    asked = anna.post("/console/ledger/decide/assign", {"no": no[1], "account": "2"})
    assert asked.status_code == 422
    assert "1,000,000.00 is more than 20 times the 25.00 that account 2 owes" in text_of(asked)
    assert 'name="sure" value="true"' in asked.text
    assert balances(database)[1] == 2500
    assert decide(anna, "assign", no=no[1], account=2, sure="true")[0] == 303
    assert balances(database)[1] == 2500 - 100_000_000


def test_a_payment_counts_once_in_whatever_file_and_of_whatever_day_it_comes(
    browser: Browsers, database: Database
) -> None:
    anna = browser(Role.CLERK, name="anna")
    send(anna, HEADER + "2026-12-05,20.00,EUR,,account 1,,B4711\n")
    named = entry("20.00", part("20.00", "account 1", "08", order="E1"), "08", bank="B4711")
    assert "there already 1" in send(anna, statement(named, "08").decode())
    assert balances(database)[0] == 3400
    again = HEADER + "2026-12-06,20.00,EUR,,account 1,,B4711\n"
    assert "assigned 0 waiting 1" in send(anna, again), "of another day: a person looks"
    assert "there already 1" in send(anna, again)
    twice = HEADER + "2026-12-07,9.00,EUR,,account 1,,B5\n" * 2
    assert "assigned 1 waiting 1" in send(anna, twice)
    assert balances(database)[0] == 2500
    other_words = HEADER + "2026-12-08,9.00,EUR,,account  1,Eva,\n"
    assert "assigned 0 waiting 1" in send(anna, other_words), "the table names it without the bank's reference"
    assert balances(database)[0] == 2500
    assert "assigned 1 waiting 0" in send(anna, HEADER + "2026-12-15,9.00,EUR,,account 1,,\n"), (
        "a week later is another"
    )


def test_an_account_of_very_many_payments_has_pages_the_newest_first(browser: Browsers, database: Database) -> None:
    anna = browser(Role.CLERK, name="anna")
    send(anna, HEADER + "".join(f"2026-12-05,0.{n:02},EUR,,account 2,,C{n}\n" for n in range(1, 100)))
    send(anna, HEADER + "2026-12-06,1.00,EUR,,account 2,,D1\n2026-12-07,1.01,EUR,,account 2,,D2\n")
    page = anna.get("/console/ledger/accounts/2")
    assert len(re.findall(r'<th scope="row">2026-12', page.text)) == 100
    assert text_of(page).index("-1.01 EUR -26.51 EUR") < text_of(page).index("-1.00 EUR -25.50 EUR")
    earlier = text_of(anna.get("/console/ledger/accounts/2?skip=100"))
    assert "run 1 account 2 2026-12-31 25.00 EUR 25.00 EUR" in earlier


def test_wrongly_given_payment_is_taken_back_and_given_to_another(browser: Browsers, database: Database) -> None:
    anna = browser(Role.CLERK, name="anna")
    send(anna, HEADER + "2026-12-05,20.00,EUR,,account 1,,B1\n")
    assert balances(database)[:2] == [3400, 2500]
    with database.reads.begin() as connection:
        given, payment = entries_where(connection, C.kind == LedgerKind.ASSIGNMENT)[0], newest(connection) - 1
    assert decide(anna, "reverse", no=given.no)[0] == 303
    assert "there is nothing to do" in decide(anna, "reverse", no=given.no)[1]
    assert balances(database)[:2] == [5400, 2500]
    assert decide(anna, "assign", no=payment, account=2)[0] == 303
    assert balances(database)[:2] == [5400, 500]
    assert "no entry that can be taken back" in decide(anna, "reverse", no=1)[1], "a bill is cancelled with its run"


def test_returned_direct_debit_and_refund_are_of_their_accounts(browser: Browsers, database: Database) -> None:
    anna = browser(Role.CLERK, name="anna")
    assert "has to be a day from 2027-01-15" in decide(anna, "collect", day="2026-01-01")[1]
    assert decide(anna, "collect", day=LATER)[0] == 303
    assert "there is nothing to do" in decide(anna, "collect", day=LATER)[1], "a bill is collected once"
    assert decide(anna, "refund", day=LATER)[0] == 303
    names, dora = orders_of(anna), browser(Role.APPROVER, name="dora")
    assert [release(dora, each)[0] for each in names] == [303, 303]
    refunds, debits = (valid(anna.get(each).text, message) for each, message in zip(
        names, ("pain.001.001.09", "pain.008.001.08"), strict=True
    ))  # fmt: skip
    assert (debits.count(b"<DrctDbtTxInf>"), b'<InstdAmt Ccy="EUR">54.00</InstdAmt>' in debits) == (1, True)
    assert (refunds.count(b"<CdtTrfTxInf>"), b'<InstdAmt Ccy="EUR">7.00</InstdAmt>' in refunds) == (1, True)
    assert "Person 3 &amp; Söhne".encode() in refunds
    debit, refund = (re.search(rb"<EndToEndId>(\w+)<", each)[1].decode() for each in (debits, refunds))  # type: ignore[index]
    booked = [
        entry("54.00", part("54.00", "sun", "08", debit), "08", "B1"),
        entry("7.00", part("7.00", "sun", "08", refund, "DBIT"), "08", "B2", "DBIT"),
    ]
    assert "assigned 2 waiting 0" in send(anna, statement("".join(booked), "08"))
    assert balances(database) == [0, 2500, 0]
    returned = entry("54.00", part("54.00", "sun", "08", debit, "DBIT"), "08", "B3", "DBIT")
    assert "assigned 1 waiting 0 there already 2" in send(anna, statement("".join([*booked, returned]), "08"))
    assert balances(database) == [5400, 2500, 0]


def test_money_leaves_only_by_a_second_person_on_exactly_what_it_saw(
    browser: Browsers, database: Database, settings: UtilitySettings
) -> None:
    both = (Role.CLERK, Role.APPROVER)
    eve, dora, carl = browser(*both, name="eve"), browser(*both, name="dora"), browser(Role.APPROVER, name="carl")
    mona, tina = browser(*both, name="mona"), browser(*both, name="tina")
    send(mona, HEADER + "2026-12-05,25000.00,EUR,,account 3,,B1\n")
    with database.reads.begin() as connection:
        waits = newest(connection)
    assert decide(mona, "assign", no=waits, account=3, sure="true")[0] == 303
    with database.reads.begin() as connection:
        given, payment = entries_where(connection, C.kind == LedgerKind.ASSIGNMENT)[0], newest(connection) - 1
    assert decide(tina, "reverse", no=given.no)[0] == 303
    assert decide(eve, "assign", no=payment, account=3, sure="true")[0] == 303
    with database.writes.begin() as connection:
        audit_log.record(connection, replace(ANNA, name="dora"), NOW - 86_400, "contact.set", "account 3")
    assert decide(eve, "refund", day=LATER)[0] == 303
    (path,) = orders_of(eve)
    assert eve.get(path).status_code == 409
    seen = eve.get(f"{path}/look").text
    assert "changed in the last 30 days" in seen
    assert "Release these orders" not in seen
    fields = dict(re.findall(r'name="(file|digest)" value="([^"]+)"', carl.get(f"{path}/look").text))
    kept_out = ((eve, "ordered it"), (dora, "changed who account 3 is"), (mona, "imported a payment"))
    for person, why in (*kept_out, (tina, "took back a payment")):
        answer = person.post("/console/ledger/release", fields)
        assert (answer.status_code, why in text_of(answer)) == (409, True), why
    assert eve.get(path).status_code == 409
    with database.writes.begin() as connection:
        key = office_key(connection, settings.office)
        set_contact(connection, 3, 1, replace(newest_contacts(connection, key)[3], iban="GB33BUKB20201555555555"), key)
    answer = carl.post("/console/ledger/release", fields)
    assert (answer.status_code, "not those that you saw" in text_of(answer)) == (409, True)
    assert release(carl, path)[0] == 303
    assert "25007.00" in (left := eve.get(path).text)
    with database.writes.begin() as connection:
        set_contact(connection, 3, 2, replace(newest_contacts(connection, key)[3], iban="DE02120300000000202051"), key)
    assert eve.get(path).text == left, "what leaves is what was released"
    assert "carl has released it" in text_of(carl.post("/console/ledger/release", fields))


def test_direct_debit_is_of_who_the_account_is_on_its_day(
    browser: Browsers, database: Database, settings: UtilitySettings
) -> None:
    anna, zone = browser(Role.CLERK, name="anna"), database.read(zone_of)
    with database.writes.begin() as connection:
        key = office_key(connection, settings.office)
        who = newest_contacts(connection, key)[1]
        for day, name in ((date(2027, 3, 1), "Heir of the day"), (date(2027, 3, 2), "Heir of later")):
            set_contact(connection, 1, midnight(day, zone), replace(who, name=name), key)
        set_contact(connection, 3, midnight(date(2027, 3, 2), zone), replace(who, iban=""), key)
    assert decide(anna, "collect", day=LATER)[0] == 303
    assert decide(anna, "refund", day=LATER)[0] == 303, "the IBAN is gone on the next day"
    said = "".join(anna.get(f"{path}/look").text for path in orders_of(anna))
    assert "Heir of the day" in said
    assert "Person 3" in said
    assert "Heir of later" not in said


def test_order_of_a_cancelled_bill_is_in_no_file_and_the_new_bill_is_not_collected_beside_it(
    browser: Browsers, database: Database
) -> None:
    anna = browser(Role.CLERK, name="anna")
    assert decide(anna, "collect", day=LATER)[0] == 303
    (path,) = orders_of(anna)
    assert release(browser(Role.APPROVER, name="dora"), path)[0] == 303
    assert anna.get(path).status_code == 200
    with database.reads.begin() as connection:
        (order,) = entries_where(connection, C.kind == LedgerKind.ORDER)
    assert "a bill is ordered once" in decide(anna, "reverse", no=order.no)[1]
    with database.writes.begin() as connection:
        post_cancel(connection, 1, "2026-12-10", "ben", NOW)
        post(connection, [billed(2, 1, "2026-12-10", "2027-01-10", {"energy": 5000}, is_final=False)], "ben", NOW)
    assert anna.get(path).status_code == 404
    assert "there is nothing to do" in decide(anna, "collect", day=LATER)[1], "perhaps the bank has the first one"
    assert decide(anna, "reverse", no=order.no)[0] == 303, "the clerk says that it has not"
    assert decide(anna, "collect", day=LATER)[0] == 303


def test_refund_that_the_bank_has_not_booked_yet_is_not_paid_twice(
    browser: Browsers, database: Database, settings: UtilitySettings
) -> None:
    anna = browser(Role.CLERK, name="anna")
    assert decide(anna, "refund", day=LATER)[0] == 303
    with database.writes.begin() as connection:
        post(connection, [billed(2, 3, "2026-12-31", "2027-01-30", {"energy": -200}, is_final=True)], "ben", NOW)
    assert "there is nothing to do" in decide(anna, "refund", day=LATER)[1]
    with database.reads.begin() as connection:
        (order,) = entries_where(connection, C.kind == LedgerKind.ORDER)
    send(anna, HEADER + f"2027-01-14,-7.00,EUR,CW{order.no},,,B1\n")
    later = NOW + 60 * 86_400
    decisions.decide(database, settings, "refund", decisions.Asked(day="2027-06-01"), ANNA, later)
    with database.reads.begin() as connection:
        assert [each.cents for each in entries_where(connection, C.kind == LedgerKind.ORDER)] == [-700, -200]


def proposal(browser: Browser) -> str:
    (found,) = re.findall(r'name="of" value="([^"]+)"', browser.get("/console/ledger").text)
    return str(found)


@databases.on_both_kinds
def test_month_is_closed_by_two_people_and_stays_byte_equal(
    browser: Browsers, database: Database, settings: UtilitySettings
) -> None:
    anna, ben = browser(Role.CLERK, Role.APPROVER, name="anna"), browser(Role.APPROVER, name="ben")
    codes = settings.office.codes
    assert "Propose to close 2026-12" in text_of(anna.get("/console/ledger")), "the only month that can be closed now"
    assert decide(anna, "propose", day="2026-12")[0] == 303
    seen = proposal(ben)
    assert "anna proposed it" in text_of(anna.post("/console/ledger/close", {"of": seen}))
    send(anna, HEADER + "2026-12-05,20.00,EUR,,account 1,,B1\n")
    assert decide(anna, "propose", day="2026-12")[0] == 303
    changed = ben.post("/console/ledger/close", {"of": seen})
    assert (changed.status_code, "is not proposed as it is now" in text_of(changed)) == (409, True), "not as ben saw it"
    assert ben.post("/console/ledger/close", {"of": proposal(ben)}).status_code == 303
    with database.reads.begin() as connection:
        before = exported(connection, "2026-12", codes)
    assert anna.get("/console/ledger/months/2026-12.csv").content == before
    send(anna, HEADER + "2026-12-06,30.00,EUR,,account 1,,B2\n")
    with database.reads.begin() as connection:
        assert exported(connection, "2026-12", codes.model_copy(update={"bank": "9999"})) == before
        assert entries_where(connection)[-1].day == "2027-01-01", "what comes later is of the open month"
    assert balances(database)[0] == 400
    page = text_of(anna.get("/console/ledger"))
    assert "2027-01 is the next one to close, once it is over." in page
    assert "Propose to close" not in page
    for month in ("2026-12", "2027-06", "x"):
        assert decide(anna, "propose", day=month)[0] == 422


def test_residents_and_viewers_have_no_door(browser: Browsers) -> None:
    for person in (browser(Role.RESIDENT, account=1), browser(Role.VIEWER), browser(Role.OPERATOR)):
        for path in ("", "/accounts/1", "/months/2026-12.csv", "/orders/CW-2026-12-01-1"):
            assert person.get(f"/console/ledger{path}").status_code == 403
    approver = browser(Role.APPROVER)
    assert decide(approver, "collect", day=LATER)[0] == 403
    assert browser(Role.CLERK).post("/console/ledger/close", {"of": f"2026-12 {64 * '0'}"}).status_code == 403


def test_payers_stand_nowhere_in_the_clear(browser: Browsers, database: Database, settings: UtilitySettings) -> None:
    anna = browser(Role.CLERK, name="anna")
    send(anna, HEADER + "2026-12-05,20.00,EUR,,my secret words,Eva Unmistakable,B1\n")
    with database.reads.begin() as connection:
        rows = connection.execute(text("SELECT * FROM ledger_entry")).all()
        log = list(audit_log.entries(connection, audit_log.AuditFilter(), 100))
        export = exported(connection, "2026-12", settings.office.codes)
    for said in (str(rows), str(log), str(export)):
        assert "Unmistakable" not in said
        assert "secret words" not in said


@databases.on_both_kinds
def test_ledger_only_grows(database: Database) -> None:
    for change in ("UPDATE ledger_entry SET cents = 1", "DELETE FROM ledger_entry"):
        with pytest.raises(SQLAlchemyError, match="the ledger only grows"), database.writes.begin() as connection:
            connection.execute(text(change))


def test_next_bill_begins_with_what_was_owed(database: Database) -> None:
    with database.writes.begin() as connection:
        post(connection, [bill_entry(2, "2027-01", 1, {"energy": 100})], "ben", NOW)
        assert [owed_before(connection, 1, run) for run in (1, 2, 3)] == [0, 5400, None]
        post_cancel(connection, 1, "2027-01-02", "ben", NOW)
        assert owed_before(connection, 1, 2) == 5400, "a printed bill stays as it was"
        assert [balance(connection, 1), balance(connection, 2), balance(connection, 1, "2026-12-31")] == [100, 0, 5400]


def test_job_reminds_by_the_tariff_of_the_account(database: Database, settings: UtilitySettings) -> None:
    with database.writes.begin() as connection:
        remind(connection, "town", NOW)
        remind(connection, "town", NOW + 10 * 86_400)
        remind(connection, "town", NOW + 20 * 86_400)
        made = entries_where(connection, C.kind == LedgerKind.REMINDER)
        assert [(each.account, each.cents) for each in made] == [(1, 0), (2, 0), (1, 500), (2, 500)]
        months = {month: exported(connection, month, settings.office.codes) for month in ("2026-12", "2027-02")}
    assert months["2027-02"].count(b",fees,4100,-500\n") == 2
    assert {each.day for each in made[2:]} == {"2027-02-04"}
    with database.writes.begin() as connection:
        post_cancel(connection, 1, "2027-02-05", "ben", NOW)
        assert [balance(connection, n) for n in (1, 2)] == [0, 0], "the fees of cancelled bills are taken back"
        assert open_items(entries_where(connection, C.account == 1)) == []


def test_each_overdue_bill_of_an_account_has_its_reminder(database: Database) -> None:
    with database.writes.begin() as connection:
        post(connection, [billed(2, 1, "2026-12-02", "2026-12-31", {"energy": 100}, is_final=False)], "ben", NOW)
        made = remind(connection, "town", NOW)
    assert made == [(1, "run 1 account 1"), (1, "run 2 account 1"), (2, "run 1 account 2")]


def test_file_imported_with_another_key_of_the_office_does_not_count_twice(
    browser: Browsers, database: Database, settings: UtilitySettings
) -> None:
    anna, row = browser(Role.CLERK, name="anna"), "2026-12-05,54.00,EUR,,account 1,Person 1,B1\n"
    send(anna, HEADER + row)
    kept = settings.office.key.read_text()
    settings.office.key.write_text("ab" * 32)
    assert "put the copy back" in send(anna, HEADER + row)
    assert balances(database)[0] == 0
    settings.office.key.write_text(kept)
    assert "there already 1" in send(anna, HEADER + row)
