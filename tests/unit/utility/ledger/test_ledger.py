"""The ledger: bank files read as they are, payments and reminders, random histories, issued runs."""

import csv
import os
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import xmlschema
from typer.testing import CliRunner

from commonwatt.model.exceptions import ConfigError
from harness.billing.worlds import found_in_store, published, tariff, world_of
from harness.commands import token_for
from harness.ledger.checker import faults, main
from harness.ledger.histories import history, memory, template
from tests.unit.utility.conftest import NOW
from tests.unit.utility.tariffs.test_corrected_prices import correcting
from utility.access.decisions import Second
from utility.access.people import Actor, Role, Via
from utility.billing import decisions as runs
from utility.billing.bill import Bill, EntryKind, LineKind
from utility.billing.run import bills_of
from utility.billing.store.runs import bills_of_run
from utility.database.database import Database
from utility.exports.cli import app
from utility.ledger import store as entries
from utility.ledger.bank import MAX_BOOKINGS, MAX_BYTES, accounts_in, bookings, rf_reference
from utility.ledger.entry import Entry, LedgerKind, open_items, reminders, reversal
from utility.ledger.store import balances, entries_where, exported, post
from utility.settings import LedgerCodes

SCHEMAS = Path(__file__).parent / "schemas"
OWN = "DE89370400440532013000"


@cache
def _schema(message: str) -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(SCHEMAS / f"{message}.xsd")


def valid(text: str, message: str) -> bytes:
    """Return a document that the published schema of its message allows."""
    _schema(message).validate(text)
    return text.encode()


def name_of(name: str, version: str) -> str:
    return f"<Nm>{name}</Nm>" if version == "02" else f"<Pty><Nm>{name}</Nm></Pty>"


def part(amount: str, text: str, version: str, order: str = "NOTPROVIDED", sign: str = "CRDT") -> str:
    """Return the details of one payment; of a debit, that it was returned."""
    money = f'<Amt Ccy="EUR">{amount}</Amt>'
    whole = f"<AmtDtls><TxAmt>{money}</TxAmt></AmtDtls>" if version == "02" else f"{money}<CdtDbtInd>{sign}</CdtDbtInd>"
    why = "<RtrInf><Rsn><Cd>AC04</Cd></Rsn></RtrInf>" if sign == "DBIT" else ""
    refs = f"<Refs><EndToEndId>{order}</EndToEndId></Refs>"
    side = f"<RltdPties><Dbtr>{name_of('Eva Müller', version)}</Dbtr></RltdPties>"
    return f"<TxDtls>{refs}{whole}{side}<RmtInf><Ustrd>{text}</Ustrd></RmtInf>{why}</TxDtls>"


def entry(
    amount: str,
    parts: str,
    version: str,
    bank: str = "",
    sign: str = "CRDT",
    status: str = "BOOK",
) -> str:
    """Return a booking."""
    said = status if version == "02" else f"<Cd>{status}</Cd>"
    ref = f"<AcctSvcrRef>{bank}</AcctSvcrRef>" if bank else ""
    code = "<BkTxCd><Prtry><Cd>NTRF</Cd></Prtry></BkTxCd>"
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{sign}</CdtDbtInd><Sts>{said}</Sts>'
        f"<BookgDt><Dt>2026-12-05</Dt></BookgDt>{ref}{code}<NtryDtls>{parts}</NtryDtls></Ntry>"
    )


def statement(entries: str, version: str, iban: str = OWN, number: str = "S1") -> bytes:
    """Return a valid statement of the town's account."""
    balances = "".join(
        f'<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">0.00</Amt><CdtDbtInd>CRDT</CdtDbtInd>'
        "<Dt><Dt>2026-12-05</Dt></Dt></Bal>"
        for code in ("OPBD", "CLBD")
    )
    message = f"camt.053.001.{version}"
    text = (
        f'<?xml version="1.0" encoding="UTF-8"?><Document xmlns="urn:iso:std:iso:20022:tech:xsd:{message}">'
        "<BkToCstmrStmt><GrpHdr><MsgId>M1</MsgId><CreDtTm>2026-12-05T20:00:00</CreDtTm></GrpHdr>"
        f"<Stmt><Id>{number}</Id><CreDtTm>2026-12-05T20:00:00</CreDtTm><Acct><Id><IBAN>{iban}</IBAN></Id></Acct>"
        f"{balances}{entries}</Stmt></BkToCstmrStmt></Document>"
    )
    return valid(text, message)


HEADER = "day,amount,currency,reference,text,payer,bank_reference\n"


@pytest.mark.parametrize("version", ["02", "08"])
def test_bookings_of_a_statement_are_what_the_bank_booked(version: str) -> None:
    odd = [
        entry("12.50", part("12.50", "account 7", version), version, bank="B1"),
        entry("30.00", part("10.00", "a", version) + part("20.00", "b", version), version, bank="B2"),
        entry("30.00", part("10.00", "a", version), version, bank="B3"),
        entry("9.99", part("9.99", "back", version, order="CW12", sign="DBIT"), version, "B4", "DBIT"),
        entry("5.00", part("5.00", "soon", version), version, status="PDNG"),
        entry("1.00", part("1.00", "same", version), version) * 2,
    ]
    found = bookings(statement("".join(odd), version), f"{OWN[:4]} {OWN[4:]}")
    assert [(str(each.amount), each.text) for each in found] == [
        ("12.50", "account 7"),
        ("10.00", "a"),
        ("20.00", "b"),
        ("30.00", "a"),
        ("-9.99", "back CW12"),
        ("5.00", "soon"),
        ("1.00", "same"),
        ("1.00", "same"),
    ]
    assert [each.reference for each in found if each.amount < 0] == ["CW12"]
    assert [each.is_booked for each in found] == [True] * 5 + [False, True, True]
    assert {(each.day, each.currency, each.payer) for each in found} == {("2026-12-05", "EUR", "Eva Müller")}
    assert len({each.identity() for each in found}) == len(found), "two equal payments are two"


def test_booking_in_two_versions_and_files_is_the_same() -> None:
    one, other = (
        bookings(statement(entry("1.00", part("1.00", text, version), version, bank="B1"), version, number=text), OWN)
        for version, text in (("02", "x"), ("08", "y"))
    )
    assert one[0].identity() == other[0].identity()


def test_a_table_of_a_spreadsheet_is_read_with_its_semicolons_commas_and_letters() -> None:
    rows = "2026-12-05;1.254,50;EUR;;Konto 7;Eva Müller;B1\n2026-12-05;-2,5;EUR;;;;\n2026-12-05;1,254.50;EUR;;;;\n"
    found = bookings((HEADER.replace(",", ";") + rows).encode("latin-1"), OWN)
    assert [str(each.amount) for each in found] == ["1254.50", "-2.5", "1254.50"]
    assert found[0].payer == "Eva Müller"


def test_a_booking_is_the_same_in_each_format_by_the_banks_reference() -> None:
    table = HEADER + "2026-12-05,12.50,EUR,,,,B4711\n"
    named = entry("12.50", part("12.50", "account 7", "08", order="E1"), "08", bank="B4711")
    (one,), (other,) = bookings(table.encode(), OWN), bookings(statement(named, "08"), OWN)
    assert (one.identity(), one.named()) == (other.identity(), other.named())


def test_a_booking_that_stands_in_two_statements_of_a_file_is_kept_and_told() -> None:
    one = entry("27.00", part("27.00", "account 7", "08"), "08", bank="NONREF")
    content = statement(one, "08").decode()
    begin, end = content.index("<Stmt>"), content.index("</BkToCstmrStmt>")
    found = bookings((content[:end] + content[begin:end] + content[end:]).encode(), OWN)
    assert [(each.nth, each.repeats) for each in found] == [(1, False), (2, True)]
    other = content[begin:end].replace(OWN, "DE02120300000000202051")
    with pytest.raises(ConfigError, match="two accounts"):
        bookings((content[:end] + other + content[end:]).encode(), "")


def test_the_banks_reference_may_stand_beside_the_parts() -> None:
    of_part = part("12.50", "account 7", "08").replace("<Refs>", "<Refs><AcctSvcrRef>B4711</AcctSvcrRef>")
    (found,) = bookings(statement(entry("12.50", of_part, "08"), "08"), OWN)
    assert found.bank_reference == "B4711"


def test_a_reference_of_the_bank_that_comes_twice_with_the_same_amount_is_told() -> None:
    parts = part("5.00", "a", "08") + part("5.00", "b", "08")
    whole = entry("10.00", parts, "08", bank="B2")
    assert [each.repeats for each in bookings(statement(whole, "08"), OWN)] == [False, False], "parts of one booking"
    twice = bookings(statement(whole * 2, "08"), OWN)
    assert [each.repeats for each in twice] == [False, False, True, True]
    assert len({each.identity() for each in twice}) == 4
    row = "2026-12-05,5.00,EUR,,,,B2\n"
    assert [each.repeats for each in bookings((HEADER + row + row).encode(), OWN)] == [False, True]


def test_a_reference_that_is_none_names_no_booking_in_a_table_either() -> None:
    rows = "2026-12-05,5.00,EUR,,account 7,,NONREF\n2026-12-05,5.00,EUR,,account 8,,NONREF\n"
    one, other = bookings((HEADER + rows).encode(), OWN)
    assert one.named() != other.named()
    assert (one.bank_reference, other.repeats) == ("", False)


def test_a_booking_of_very_many_details_is_read_once() -> None:
    """Each detail was compared with all others: no answer in a minute."""
    details = "<NtryDtls>" + "<TxDtls/>" * 200_000 + "</NtryDtls>"
    named = entry("1.00", part("1.00", "a", "02"), "02", bank="B1")
    content = statement(named, "02").decode().replace("</Ntry>", details + "</Ntry>", 1).encode()
    with pytest.raises(ConfigError, match="more than 20,000 bookings"):
        bookings(content, OWN)


def test_payment_that_the_bank_may_still_change_does_not_make_an_equal_one_another() -> None:
    soon, booked = (entry("1.00", part("1.00", "a", "08"), "08", status=status) for status in ("PDNG", "BOOK"))
    first, later = (bookings(statement(each, "08"), OWN) for each in (soon + booked, booked))
    assert first[-1].identity() == later[0].identity()


LAUGHS = '<!DOCTYPE d [<!ENTITY a "ha">' + "".join(
    f'<!ENTITY {new} "{("&" + old + ";") * 10}">' for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (LAUGHS + "]><d>&h;</d>", "document type"),
        ('<!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>', "document type"),
        ("<d/>", "no statement"),
        ("<d>", "neither camt.053 nor CSV"),
        (HEADER + "2026-13-01,1,USD,,,,\n", "row 2, column day: '2026-13-01'; write a day such as"),
        (HEADER + "2026-12-01,1,USD,,,,\n2026-12-01,NaN,USD,,,,\n", "row 3, column amount: 'NaN'; write an amount"),
        (HEADER + "2026-12-01,1e99999,USD,,,,\n", "row 2, column amount"),
        (HEADER + '2026-12-01,"12,500",USD,,,,\n', "row 2, column amount"),
        (HEADER + "2026-12-01,1.000,USD,,,,\n", "row 2, column amount"),
        (HEADER + "2026-12-01,1_0.0,USD,,,,\n", "row 2, column amount"),
        (HEADER + "2026-12-01,1e999999999,USD,,,,\n", "row 2, column amount"),
        (HEADER + "2026-12-01,1,USD\n", "row 2: it has more cells or fewer"),
        (HEADER + "2026-12-01,1,USD,,,,,,,\n", "row 2: it has more cells or fewer"),
        ("day;amount\n2026-12-01;1\n", "row 1 lacks the columns currency, reference"),
        (HEADER.replace("day", "date") + "2026-12-01,1,USD,,,,\n", "row 1 lacks the columns day;"),
        (b"\xff\xfe1", "row 1 lacks the columns day"),
        ("<a>" * 41 + "</a>" * 41, "or 40 within each other"),
        ("<a>" + "<b/>" * 1_000_000 + "</a>", "more than 1,000,000 elements"),
        (HEADER + "2026-12-01,1.00,EUR,,,,\n" * (MAX_BOOKINGS + 1), "more than 20,000 bookings"),
        (b" " * (MAX_BYTES + 1), "more than"),
    ],
)
def test_wrong_file_is_refused_and_says_where(content: str | bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        bookings(content if isinstance(content, bytes) else content.encode(), OWN)
    assert "Müller" not in str(caught.value)


def test_statement_of_another_account_is_refused() -> None:
    content = statement(entry("1.00", part("1.00", "a", "02"), "02"), "02", iban="DE02120300000000202051")
    with pytest.raises(ConfigError, match="ends with 2051"):
        bookings(content, OWN)


def test_reference_has_check_digits_and_is_found_as_people_write_it() -> None:
    assert rf_reference(17, "2026-11") == "RF390000017202611"
    assert accounts_in("rf39 0000 0172 0261 1 thanks") == {17}
    assert accounts_in("RF390000071202611") == set(), "two digits were exchanged"
    assert accounts_in("RF390000071202611 account 5") == {5}
    assert accounts_in("Konto Nr. 17, and cuenta 4") == {17, 4}
    assert accounts_in("RF18 5390 0754 7034") == set(), "the standard's own example is no bill of ours"
    assert accounts_in("my discount 17") == set()


LEVELS = [(7, 0), (14, 500)]


def bill(no: int, due: str, cents: int, kind: LedgerKind = LedgerKind.BILL, about: int = 0) -> Entry:
    lines = {"receivables": cents, "energy": -cents}
    return Entry(
        no=no, day="2026-11-01", kind=kind, of=str(no), account=1, cents=cents, due=due, about=about, lines=lines
    )


def paid(no: int, cents: int) -> Entry:
    return bill(no, "", -cents, LedgerKind.ASSIGNMENT)


def left(*entries: Entry) -> list[tuple[int, int]]:
    return [(entry.no, cents) for entry, cents in open_items(entries)]


def test_payment_settles_the_oldest_due_bill_first() -> None:
    late, early = bill(1, "2026-12-31", 500), bill(2, "2026-11-30", 300)
    assert left(late, early) == [(2, 300), (1, 500)]
    assert left(late, early, paid(3, 400)) == [(1, 400)]
    assert left(late, early, paid(3, 900)) == []
    assert left(late, early, paid(3, 900), replace(reversal(paid(3, 900), "2026-12-01"), no=4)) == [(2, 300), (1, 500)]


def test_cancelled_bill_leaves_what_was_paid_to_the_others() -> None:
    first, second = bill(1, "2026-11-30", 300), bill(2, "2026-12-31", 500)
    cancelled = replace(reversal(first, "2026-12-01"), no=4)
    assert left(first, second, paid(3, 300), cancelled) == [(2, 200)]


def test_returned_direct_debit_is_open_again() -> None:
    assert left(bill(1, "2026-11-30", 300), paid(2, 300), paid(3, -300)) == [(1, 300)]
    assert left(bill(1, "2026-11-30", 300), paid(2, 300), paid(3, -400)) == [(3, 100), (1, 300)], "more went back"


def test_reminders_follow_the_levels_and_end_with_them() -> None:
    entries, days = [bill(1, "2026-11-30", 300)], []
    for day in [f"2026-12-{n:02}" for n in range(1, 32)]:
        for new in reminders(entries, day, LEVELS):
            entries.append(replace(new, no=len(entries) + 1))
            days.append((day, new.of, new.cents))
    assert days == [("2026-12-07", "bill 1 level 1", 0), ("2026-12-21", "bill 1 level 2", 500)]
    assert left(*entries) == [(1, 300), (3, 500)], "the fee is owed too, and is not reminded of"
    assert reminders([bill(1, "2026-11-30", 300), paid(2, 300)], "2027-11-30", LEVELS) == []
    assert reminders([bill(1, "2026-11-30", 300)], "2027-11-30", []) == [], "the tariff has no reminders"


def test_instalments_that_an_earlier_version_stored_stay_in_the_history_and_change_nothing(database: Database) -> None:
    plan = bill(2, "2026-12-15", 300, LedgerKind.INSTALMENT, about=1)
    with database.writes.begin() as connection:
        post(connection, [bill(1, "2026-11-30", 300), replace(plan, lines={})], "anna", NOW)
        assert balances(connection) == {1: 300}
        stored = entries_where(connection)
    assert [(each.kind, each.due) for each in stored] == [
        (LedgerKind.BILL, "2026-11-30"),
        (LedgerKind.INSTALMENT, "2026-12-15"),
    ]
    assert left(*stored) == [(1, 300)]
    assert [each.about for each in reminders(stored, "2026-12-07", LEVELS)] == [1]


HISTORIES = int(os.environ.get("HISTORIES", "50"))  # ``make soak`` has more


def test_random_histories_balance_after_every_step() -> None:
    with TemporaryDirectory(dir=memory()) as name:
        content, done = template(Path(name)), Counter[str]()
        for seed in range(1, HISTORIES + 1):
            done.update(history(seed, content, Path(name), steps=15))
    assert len(done) == 12, f"each kind of step was done: {done}"


def test_histories_find_entries_in_a_closed_month(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "month_after", lambda month: month)
    with TemporaryDirectory(dir=memory()) as name:
        content = template(Path(name))
        with pytest.raises(AssertionError, match=r"should owe|the bank says"):
            _all(content, Path(name))


def _all(content: bytes, folder: Path) -> None:
    for seed in range(25, 51):  # the first one that finds them
        history(seed, content, folder)


def test_checker_says_what_is_out_of_balance() -> None:
    line = {"entry": "1", "day": "2026-11-05", "kind": "bill", "of": "", "account": "1", "due": "", "about": "0"}
    rows = [line | {"key": "receivables", "cents": "500"}, line | {"key": "energy", "cents": "-500"}]
    bills = [{"run": "1", "account": "1", "cents": "500", "taxes": "0", "state": "issued"}]
    assert faults({"2026-11": rows}, bills, []) == []
    assert faults({"2026-11": rows}, [bills[0] | {"taxes": "80"}], []) == ["taxes are 0, and should be 80"]
    assert faults({"2026-11": rows[:1]}, bills, []) == ["entry 1 is out of balance by 500"]
    assert faults({"2026-12": rows}, bills, [])[0] == "entry 1 of 2026-11-05 stands in 2026-12"
    assert faults({"2026-11": rows}, [], []) == ["account 1 owes 500, and should owe 0"]
    fee = line | {"entry": "2", "kind": "reminder", "about": "1"}
    fees = [fee | {"key": "receivables", "cents": "5"}, fee | {"key": "fees", "cents": "-5"}]
    named = [each | {"of": "run 1 account 1"} for each in rows]
    assert faults({"2026-11": [*named, *fees]}, bills, []) == []
    cancelled = faults({"2026-11": [*named, *fees]}, [bills[0] | {"state": "cancelled"}], [])
    assert cancelled[0] == "reminder 2 of a cancelled bill costs 5"
    assert "the bank says 100" in faults({"2026-11": rows}, bills, [{"cents": "100", "account": "1"}])[-1]


def someone(name: str) -> Actor:
    return Actor(name=name, roles=frozenset({Role.CLERK, Role.APPROVER}), account=None, via=Via.SESSION, address="")


publish = partial(published, now=NOW)


def issue(database: Database, number: int, month: str) -> None:
    runs.draft(database, month, "town", someone("anna"), NOW)
    runs.check(database, number, someone("anna"), NOW)
    runs.issue(database, number, Second(actor=someone("ben"), now=NOW, wait_days=0), 14)


def test_issued_run_is_posted_and_the_export_balances_with_its_bills(
    database: Database, monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path
) -> None:
    found_in_store(monkeypatch, world_of())
    for name in ("anna", "ben"):
        token_for(database, name, NOW)
    publish(database, tariff())
    issue(database, 1, "2026-10")
    with database.reads.begin() as connection:
        bills, owed = bills_of_run(connection, 1), balances(connection)
    assert owed == {each.account: int(each.total * 100) for each in bills if each.total}
    (tmp_path / "payments.csv").write_text("cents,account\n")
    rows = [f"1,{each.account},{int(each.total * 100)},0" for each in bills]
    (tmp_path / "bills.csv").write_text("run,account,cents,taxes,state\n" + "".join(f"{row},issued\n" for row in rows))
    out = tmp_path / "ledger-2027-01.csv"
    words = ["ledger", "--month", "2027-01", "--out", str(out), "--config", str(config)]
    assert CliRunner().invoke(app, words).exit_code == 0
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert {line["due"] for line in lines} == {"2027-01-29"}
    assert main(tmp_path) == 0
    no = runs.enter(database, EntryKind.CANCEL, 1, Decimal(0), "a wrong price", someone("anna"), NOW)
    runs.approve_entry(database, no, Second(actor=someone("ben"), now=NOW, wait_days=0))
    with database.reads.begin() as connection:
        assert balances(connection) == {}, "the run is cancelled"
    assert CliRunner().invoke(app, words).exit_code == 0
    assert main(tmp_path) == 1, "the bills are still said to be issued"
    (tmp_path / "bills.csv").write_text(
        "run,account,cents,taxes,state\n" + "".join(f"{row},cancelled\n" for row in rows)
    )
    assert main(tmp_path) == 0


def taxes_of(bill: Bill) -> int:
    return int(sum(line.amount for line in bill.lines if line.kind is LineKind.TAX) * 100)


def test_a_corrected_price_corrects_its_taxes_in_the_ledger(
    database: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world, tax = found_in_store(monkeypatch, world_of()), {"name": "VAT", "percent": "20"}
    for name in ("anna", "ben"):
        token_for(database, name, NOW)
    old, new = tariff(tax=[tax]), correcting(tax=[tax | {"percent": "7"}])
    publish(database, old)
    issue(database, 1, "2026-10")
    publish(database, new)
    issue(database, 2, "2026-11")
    both = [
        bill_of.bill
        for month in ("2026-10", "2026-11")
        for bill_of in bills_of(replace(world.inputs, month=month, tariffs=(old, new)), world.load).billed.values()
    ]
    rows = [f"1,{each.account},{int(each.total * 100)},{taxes_of(each)},issued" for each in both]
    (tmp_path / "bills.csv").write_text("\n".join(["run,account,cents,taxes,state", *rows]))
    (tmp_path / "payments.csv").write_text("cents,account\n")
    with database.reads.begin() as connection:
        (tmp_path / "ledger-2027-01.csv").write_bytes(exported(connection, "2027-01", LedgerCodes()))
    assert main(tmp_path) == 0, "what is owed, and taxes, are those of the corrected price"
