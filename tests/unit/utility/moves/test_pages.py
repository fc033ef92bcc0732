"""The clerk's page of an account: who it is and was, moves with their preview; nothing personal leaves it."""

import re
from collections.abc import Callable

import pytest

from commonwatt.town.town import Town
from harness.billing.worlds import published, tariff
from harness.console import Browser, text_of
from harness.surroundings.databases import on_both_kinds
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.billing.store.run_bills import prepared
from utility.customers.store import contact_of, digests_at, histories, office_key
from utility.database.database import Database
from utility.registry.store.accounts import changes_of, load_dated_registry
from utility.registry.store.statements import moved_out
from utility.settings import UtilitySettings

Browsers = Callable[..., Browser]

ANNA = {
    "name": "Anna Müller",
    "street": "Am Anger 3",
    "postcode": "07743",
    "city": "Jena",
    "country": "DE",
    "mail": "anna@example.org",
    "iban": "DE89 3704 0044 0532 0130 00",
}


@pytest.fixture(autouse=True)
def _tariff(database: Database, settings: UtilitySettings) -> None:
    published(database, tariff(settings.billing.tariff), NOW)


@pytest.fixture
def home(town: Town) -> int:
    return next(meter.account for meter in town.meters if meter.account)


def test_name_and_address_are_seen_before_they_are_stored(
    browser: Browsers, database: Database, home: int, settings: UtilitySettings
) -> None:
    clerk = browser(Role.CLERK, name="clara")
    page = f"/console/accounts/{home}"
    begun = clerk.get(page)
    assert (begun.status_code, 'role="alert"' in begun.text) == (200, False)
    assert "No name and address are known" in text_of(begun)
    asked = {"kind": "people", "at": "2026-11-01"} | ANNA
    seen = text_of(clerk.post(page, asked))
    assert "name: - → Anna Müller" in seen
    assert "No name and address are known" in seen, "nothing is stored yet"
    assert clerk.post(page, asked | {"action": "do"}).status_code == 303
    shown = text_of(clerk.get(page))
    assert "Anna Müller Am Anger 3, 07743 Jena, DE" in shown
    key = database.read(office_key, settings.office)
    with database.reads.begin() as connection:
        ((first, anna),) = histories(connection, key, home)[home]
        digest = digests_at(connection, NOW // 900)[home]
    assert anna.iban == "DE89370400440532013000"
    kept = settings.office.key.rename(settings.office.key.with_suffix(".kept"))
    missing = clerk.get(page)
    assert missing.status_code == 503
    assert f"{settings.office.key}: the office&#39;s key is missing" in text_of(missing)
    assert clerk.post(page, asked | {"name": "Other", "action": "do"}).status_code == 503, "no other key is made"
    kept.rename(settings.office.key)
    # A correction from the same day on: the bill with the digest of the first name is still printed with it.
    clerk.post(page, asked | {"name": "Anne Müller", "action": "do"})
    with database.reads.begin() as connection:
        assert [who.name for _, who in histories(connection, key, home)[home]] == ["Anna Müller", "Anne Müller"]
        assert contact_of(connection, key, digest) == anna
        assert digests_at(connection, NOW // 900)[home] != digest
    clerk.post(page, asked | {"at": "2026-11-02", "action": "do"})
    assert "no name and address from a time" in text_of(clerk.post(page, {"action": "delete", "until": "2026-10-31"}))
    assert clerk.post(page, {"action": "delete", "until": "2026-11-01"}).status_code == 303
    with database.reads.begin() as connection:
        assert contact_of(connection, key, digest) is None
        assert [since for since, _ in histories(connection, key, home)[home]] == [first + 100], "25 hours later"
    clerk.post(page, {"action": "delete"})
    assert "No name and address are known" in text_of(clerk.get(page))
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="contact."), 9)[::-1]
    assert [(e["person"], e["action"], e["subject"]) for e in entries] == [
        ("clara", f"contact.{what}", f"account {home}") for what in ("set", "set", "set", "delete", "delete")
    ]


def test_page_says_that_the_offices_key_is_another_one(browser: Browsers, home: int, settings: UtilitySettings) -> None:
    clerk, page = browser(Role.CLERK), f"/console/accounts/{home}"
    clerk.post(page, {"kind": "people", "at": "2026-11-01", "action": "do"} | ANNA)
    settings.office.key.write_text("00" * 32)
    for answer in (clerk.get(page), clerk.post("/console/accounts", {"text": "anna"})):
        assert (answer.status_code, "encrypted for another" in text_of(answer)) == (503, True)


def test_accounts_are_found_by_name_and_address(browser: Browsers, home: int) -> None:
    clerk = browser(Role.CLERK)
    clerk.post(f"/console/accounts/{home}", {"kind": "people", "at": "2026-11-01", "action": "do"} | ANNA)
    for text in ("müller", "ANGER 3", "07743 anna", "anna@example"):
        assert "Anna Müller" in text_of(clerk.post("/console/accounts", {"text": text})), text
    assert "No name and no address" in text_of(clerk.post("/console/accounts", {"text": "bert"}))
    for role in (Role.APPROVER, Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.RESIDENT):
        other = browser(role, account=home)
        assert other.get(f"/console/accounts/{home}").status_code == 403
        assert other.post("/console/accounts", {"text": "anna"}).status_code == 403


def test_table_is_taken_over_whole_or_not_at_all(browser: Browsers, home: int) -> None:
    clerk = browser(Role.CLERK)
    table = f"account;from;name;mail\n{home};2026-11-01;Anna Müller;anna@example.org\n"
    wrong = text_of(clerk.post("/console/accounts", {"table": table + "9999;x;;no mail\n"}))
    for fault in ("row 3, column account: is no registered account", "column from: is no local day", "column mail"):
        assert fault in wrong
    assert "no mail" not in wrong.replace("is no mail address", "").split("The table (CSV)")[0]
    seen = clerk.post("/console/accounts", {"table": table})
    assert "1 of the table's rows change something" in text_of(seen).replace("&#39;", "'")
    content = re.findall(r"<textarea name=\"table\" hidden>\n(.*?)</textarea>", seen.text, re.DOTALL)
    assert clerk.post("/console/accounts", {"table": content[0], "action": "do"}).status_code == 303
    assert "Anna Müller" in text_of(clerk.get(f"/console/accounts/{home}"))
    again = text_of(clerk.post("/console/accounts", {"table": table})).replace("&#39;", "'")
    assert "0 of the table's rows change something" in again, "twice the same table changes nothing"


@on_both_kinds
def test_move_is_seen_then_done(browser: Browsers, database: Database, home: int, settings: UtilitySettings) -> None:
    clerk = browser(Role.CLERK, name="clara")
    page = f"/console/accounts/{home}"
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    new = max(before.accounts) + 1
    asked = {"kind": "move", "at": "2026-12-15T14:15", "next": "new"} | ANNA
    seen = text_of(clerk.post(page, asked))
    assert f"+ account {new} from 15 Dec 2026 14:15" in seen
    assert "name: - → Anna Müller" in seen
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before, "nothing is changed yet"
    assert clerk.post(page, asked | {"action": "do"}).status_code == 303
    with database.reads.begin() as connection:
        after = load_dated_registry(connection)
        key = office_key(connection, settings.office)
        assert {who.name for _, who in histories(connection, key, new)[new]} == {"Anna Müller"}
        quarter = next(m.holdings[1].start for m in after.meters.values() if len(m.holdings) == 2)
        assert moved_out(connection, quarter - 1) == ()
        assert moved_out(connection, quarter) == (home,)
        subjects = {row["subject"] for row in changes_of(connection, [], 50) if row["person"] == "clara"}
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(action="move."), 9)
    assert f"account {new}" in subjects
    assert (entry["subject"], str(new) in entry["after"], "Anna" in entry["after"]) == (f"account {home}", True, False)
    for number, meter in before.meters.items():
        if meter.holdings and meter.holdings[0].account == home:
            assert [(h.account, h.end) for h in after.meters[number].holdings] == [(home, quarter), (new, None)]
    november, december = (prepared(database, month, settings.billing.tariff, NOW) for month in ("2026-11", "2026-12"))
    assert (november.finals, december.finals) == ((), (home,)), "the run of the month has its last bill"
    assert december.addressees is not None
    assert set(december.addressees) == {new}
    again = text_of(clerk.post(page, asked))
    assert "is dated already" in again or "has no meter just before" in again
    # The account comes back to another home: nothing is paid out as its last bill.
    clerk.post(f"/console/accounts/{new}", {"kind": "move", "at": "2027-01-01", "next": str(home), "action": "do"})
    with database.reads.begin() as connection:
        assert moved_out(connection, quarter + 9_999) == (new,)


def test_both_households_read_of_a_move_that_is_taken_back_before_its_day(
    browser: Browsers, database: Database, home: int, settings: UtilitySettings
) -> None:
    clerk, page = browser(Role.CLERK), f"/console/accounts/{home}"
    forward = {"to_street": "Neue Straße 1", "to_postcode": "99423", "to_city": "Weimar", "to_country": "DE"}
    asked = {"kind": "move", "at": "2027-12-15", "next": "new"} | ANNA | forward
    unknown = clerk.post(
        page, asked | {"name": "", "street": "", "postcode": "", "city": "", "country": "", "mail": "", "iban": ""}
    )
    assert "enter name and address first" in text_of(unknown)
    clerk.post(page, {"kind": "people", "at": "2026-11-01", "action": "do", "name": "Bert"})
    seen = text_of(clerk.post(page, asked))
    assert f"account {home}, street: - → Neue Straße 1" in seen
    out, comes = (
        "You move out on 2027-12-15. Your last bill ends then.",
        "You move in on 2027-12-15. Your bills begin then.",
    )
    assert out in seen
    assert comes in seen
    assert "Is no country" in text_of(clerk.post(page, asked | {"to_country": "Germany"}))
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    new = max(before.accounts) + 1
    assert clerk.post(page, asked | {"action": "do"}).status_code == 303
    residents = {number: browser(Role.RESIDENT, account=number, name=f"r{number}") for number in (home, new)}
    assert out in text_of(residents[home].get("/console/home"))
    assert comes in text_of(residents[new].get("/console/home"))
    assert "moves out on 15 Dec" in text_of(clerk.get(page))
    assert clerk.post(page, {"kind": "back"}).status_code == 303
    assert out not in text_of(residents[home].get("/console/home"))
    key = database.read(office_key, settings.office)
    with database.reads.begin() as connection:
        after = load_dated_registry(connection)
        assert moved_out(connection, 2**31 - 1) == ()
        assert [who.name for _, who in histories(connection, key)[home]] == ["Bert"]
        assert new not in histories(connection, key)
        (entry, _) = audit_log.entries(connection, audit_log.AuditFilter(action="move."), 9)
    assert after.meters == before.meters
    assert (entry["action"], "Bert" in str(entry)) == ("move.back", False)
    assert "has no move of a day to come" in text_of(clerk.post(page, {"kind": "back"}))


def test_home_stays_empty_and_is_moved_into(browser: Browsers, database: Database, home: int) -> None:
    clerk = browser(Role.CLERK)
    page = f"/console/accounts/{home}"
    assert clerk.post(page, {"kind": "empty", "at": "2026-12-01", "action": "do"}).status_code == 303
    into = {"kind": "in", "at": "2026-11-30", "next": "new"}
    assert "No home that account" in text_of(clerk.post(page, into))
    assert clerk.post(page, into | {"at": "2026-12-10", "action": "do"}).status_code == 303
    with database.reads.begin() as connection:
        registry = load_dated_registry(connection)
        assert moved_out(connection, 2**31 - 1) == (home,)
    new = max(registry.accounts)
    held = (tuple((h.account, h.start, h.end) for h in meter.holdings) for meter in registry.meters.values())
    (spans,) = {each for each in held if len(each) == 2}
    (_, _, left), (came, start, end) = spans
    assert (came, start - (left or 0), end) == (new, 9 * 96, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"at": "2026-11-01T01:30"}, "exists once"),
        ({"at": "2026-11-01T14:07"}, "exists once"),
        ({"next": "4711"}, "4711 is no registered account"),
        ({"next": "anna"}, "is no account's number"),
        ({"next": ""}, "give the account that comes"),
        ({"name": "x" * 71}, "is needed, with at most 70"),
        ({"name": "A", "mail": "a b"}, "Is no mail address"),
        ({"name": "A", "iban": "DE89370400440532013001"}, "check digits"),
        ({"name": "A", "mandate": "M1"}, "a mandate needs"),
        ({"name": "A", "mandate_day": "x"}, "is no day"),
        (ANNA | {"next": "2", "name": "Ada"}, "account 2 is of Anna Müller; leave the name empty"),
    ],
)
def test_wrong_field_is_told_and_nothing_is_done(
    browser: Browsers, database: Database, home: int, fields: dict[str, str], words: str
) -> None:
    clerk = browser(Role.CLERK)
    others = {"kind": "people", "at": "2026-11-01", "action": "do"} | ANNA
    assert clerk.post(f"/console/accounts/{home + 1}", others).status_code == 303
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    asked = {"kind": "move", "at": "2026-12-01", "next": "new", "action": "do"} | fields
    answer = clerk.post(f"/console/accounts/{home}", asked)
    assert words.lower() in text_of(answer).replace("&#39;", "'").lower()
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before
