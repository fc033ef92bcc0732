"""A bank's file is read as what it says, or refused with the place where it is wrong; unsafe XML is refused."""

import pytest

from commonwatt.model.exceptions import ConfigError
from tests.unit.utility.ledger.statements import OWN, entry, part, statement
from utility.ledger.bank import MAX_BYTES, bookings
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
        (HEADER + "2026-13-01,1,USD,,,,\n", "booking 1: its day"),
        (HEADER + "2026-12-01,1,USD,,,,\n2026-12-01,NaN,USD,,,,\n", "booking 2: its day, amount"),
        (HEADER + "2026-12-01,1e99999,USD,,,,\n", "booking 1"),
        (HEADER + "2026-12-01,1e999999999,USD,,,,\n", "booking 1"),
        (HEADER + "2026-12-01,1,USD\n", "booking 1"),
        (HEADER + "2026-12-01,1,USD,,,,,,,\n", "booking 1"),
        ("day;amount\n2026-12-01;1\n", "booking 1"),
        (HEADER.replace("day", "date") + "2026-12-01,1,USD,,,,\n", "booking 1"),
        (b"\xff\xfe1", "neither"),
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
