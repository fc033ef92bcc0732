"""A bank's file is read as what it says, or refused with the place where it is wrong; unsafe XML is refused."""

import pytest

from commonwatt.model.exceptions import ConfigError
from tests.unit.utility.ledger.statements import OWN, entry, part, statement
from utility.ledger.bank import MAX_BOOKINGS, MAX_BYTES, bookings
from utility.ledger.reference import accounts_in, rf_reference

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
