"""The registry's dates as a clerk's table: what it may say, and every mistake by row and column."""

import csv
import io
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.town.town import Direction, Function
from utility.registry.accounts import Account, DatedRegistry, Holding, Installed, functions_of
from utility.registry.changes import differences
from utility.registry.dates import date_text, parse_quarter
from utility.registry.importing import apply_facts
from utility.registry.table import COLUMNS, Fault, read_table, write_table

ZONE = ZoneInfo("America/New_York")
NOVEMBER = parse_quarter("2026-11-01", ZONE)


def meter(number: int, place: str, function: Function = Function.HOUSE, account: int = 0) -> Installed:
    direction = Direction.OUTGOING if number % 2 else Direction.INCOMING
    holdings = (Holding(account=account, start=0),) if account else ()
    return Installed(
        id=number, microgrid="r001", place=place, function=function, direction=direction, holdings=holdings
    )


METERS = {
    one.id: one
    for one in (
        meter(1, "house 1", account=7),
        meter(2, "house 1", account=7),
        meter(3, "house 2", account=8),
        meter(4, "house 2", account=8),
        meter(5, "building 1", Function.BUILDING),
        meter(6, "flat", Function.APARTMENT, account=9),
        meter(8, "house 1"),
        meter(11, "boundary", Function.BOUNDARY),
    )
}
METERS[8] = replace(METERS[8], start=NOVEMBER)
METERS[2] = replace(METERS[2], end=NOVEMBER, holdings=(Holding(account=7, start=0, end=NOVEMBER),))
REGISTRY = DatedRegistry(
    revision=1,
    meters=METERS,
    accounts={number: Account(number=number, function=f) for number, f in functions_of(METERS).items()},
)


def applied(*rows: str, head: str = ",".join(COLUMNS)) -> tuple[DatedRegistry | None, list[str]]:
    facts, faults = read_table("\n".join([head, *rows]).encode(), ZONE)
    after, found = apply_facts(REGISTRY, facts, faults, ZONE)
    return after, [str(fault) for fault in found]


def good(*rows: str, head: str = ",".join(COLUMNS)) -> DatedRegistry:
    after, found = applied(*rows, head=head)
    assert after is not None, found
    return after


def test_move_gives_each_reading_to_the_account_of_its_time() -> None:
    after = good(
        "account,,,,,10,,,",
        "holder,r001,house 1,,,7,,2026-11-15T14:15,",
        "holder,r001,house 1,,,10,2026-11-15T14:15,,",
    )
    moved = parse_quarter("2026-11-15T14:15", ZONE)
    assert [after.meters[1].account_at(q) for q in (0, moved - 1, moved)] == [7, 7, 10]
    # The meters of the place were exchanged in between: each has its part.
    assert after.meters[2].holdings == (Holding(account=7, start=0, end=NOVEMBER),)
    assert after.meters[8].holdings == (
        Holding(account=7, start=NOVEMBER, end=moved),
        Holding(account=10, start=moved),
    )
    assert after.meters[3] == REGISTRY.meters[3], "what a table does not name stays"
    assert after.accounts[10].function is Function.HOUSE
    assert [change.subject for change in differences(REGISTRY, after, ZONE)] == [
        "meter 1",
        "meter 8",
        "account 10",
    ]


def test_terms_of_an_account_have_dates() -> None:
    after = good(
        "tariff,,,,,7,2026-11-01,,night",
        "tariff,,,,,7,,,household",
        "minimum,,,,,7,,,75",
        "weight,,,,,7,1793494800,,3",
    )
    (account,) = (change for change in differences(REGISTRY, after, ZONE))
    assert list(account.lines) == [
        "+ tariff household",
        "+ tariff night from 1 Nov 2026 00:00 EDT",
        "+ minimum 75",
        "+ weight 3 from 31 Oct 2026 21:00 EDT",
    ]


def test_a_spreadsheets_own_csv_is_read() -> None:
    rows = ("", ";;;;;", "7;HOLDER;3;;2026-11-01 00:00;", "#8;;;;;", "8;holder;3;2026-11-01 00:00;;")
    after = good(*rows, head="\ufeffAccount; What;meter;from;to;")
    assert [held.account for held in after.meters[3].holdings] == [7, 8]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (("holder,,,,3,7,,,", "holder,,,,3,8,2026-11-01,,"),
         ("row 3, column from: meter 3: overlaps row 2 (account 7); "
         "let row 2 end with `to` 2026-11-01T00:00-04:00")),
        (("meter,,house 9,,3,,,,", "meter,,house 8,,3,,2026-11-01,,"),
         ("row 3, column place: meter 3 is already at house 9 "
         "by row 2: a meter has one place")),
        (("meter,,house 2,,1,,,,",), "row 2, column from: meters 1 and 3 are both the outgoing meter of house 2"),
        (("holder,,,,3,7,2026-11-01T00:10,,",), "row 2, column from: 2026-11-01T00:10 is not on a quarter-hour"),
        (("holder,,,,3,7,2026-11-01T01:30,,",), ("column from: 2026-11-01T01:30 exists twice in America/New_York: "
         "clocks go back then; write 2026-11-01T01:30-04:00 or 2026-11-01T01:30-05:00")),
        (("holder,,,,3,7,11/1/2026,,",), "column from: '11/1/2026' is no time; give ISO 8601"),
        (("holder,,,,3,7,2026-11-02,2026-11-01,",), "column to: 2026-11-01 is not after `from`"),
        (("holder,,,,99,7,,,",), "row 2, column meter: meter 99 is unknown: register it with"),
        (("holder,,,,1.8E+19,7,,,",), "column meter: '1.8E+19' is no meter's id: a spreadsheet shows long numbers so"),
        (("holder,,,,11,7,,,",), "column meter: meter 11 is at the boundary"),
        (("holder,,,,3,70,,,",), "column account: account 70 is unknown; a new one needs an `account` row"),
        (("holder,,,,3,70000,,,",), "column account: '70000' is no whole number from 0 to 65535"),
        (("holder,,,,8,7,2026-10-01,,",), "column from: meter 8 is at house 1 only from 2026-11-01T00:00-04:00 on"),
        (("holder,,,,2,7,2026-12-01,,",), "column to: meter 2 is at house 1 only to 2026-11-01T00:00-04:00"),
        (("holder,r001,house 9,,,7,,,",), "column place: r001 has no meter at 'house 9' in that time"),
        (("holder,,house 9,,3,7,,,",), "column place: meter 3 is at house 2"),
        (("holder,r002,,,3,7,,,",), "column microgrid: meter 3 is in r001"),
        (("holder,,house 1,,,7,,,",), "column meter: is needed, or else microgrid and place"),
        (("meter,r002,house 9,,3,,,,",), "column microgrid: meter 3 is registered in r001"),
        (("meter,,flat,house 1,6,,,,",), "column building: 'house 1' is no place of a building's meter in r001"),
        (("meter,,flat,building 1,6,,,2026-11-01,",), "column meter: meter 6 has holders outside its new dates"),
        (("tariff,,,,,7,,,a", "tariff,,,,,7,,,b"), "row 3, column from: row 2 has another tariff from the same time"),
        (("tariff,,,,,7,,,",), "row 2, column value: is needed in a `tariff` row"),
        (("tariff,,,,,7,,2026-11-01,a",), "column to: has no meaning in a `tariff` row"),
        (("minimum,,,,,7,,,101",), "column value: '101' is no whole number from 0 to 100"),
        (("weight,,,,,7,,,1.5",), "column value: '1.5' is no whole number from 1 to 1000"),
        (("rate,,,,,7,,,1",), "row 2, column what: 'rate' is not one of: meter, account, holder"),
        (("account,,,,,7,,,,,x",), "row 2: has more cells than there are columns"),
        (('account,,,,,"7',), "row 2: can't be read as CSV"),
    ],
)  # fmt: skip
def test_mistake_is_named_with_its_row_and_column(rows: tuple[str, ...], told: str) -> None:
    after, found = applied(*rows)
    assert after is None
    assert any(told in fault for fault in found), found
    assert len(found) == 1, found


def test_all_mistakes_are_told_at_once() -> None:
    _, found = applied("holder,,,,3,70,2026-11-01T00:01,,", "holder,,,,99,7,,,", "x,,,,,,,,", "weight,,,,,8,,,0")
    assert [fault.partition(":")[0] for fault in found] == [
        "row 2, column from",
        "row 3, column meter",
        "row 4, column what",
        "row 5, column value",
    ]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", Fault(row=1, text=f"must name the columns, `what` among them; they are: {', '.join(COLUMNS)}")),
        (b"what,when\n", Fault(row=1, column="when", text=f"is not one of the columns: {', '.join(COLUMNS)}")),
        (b"what,from,from\n", Fault(row=1, column="from", text="is there twice")),
        (b"what\nmeter\xe9\n", Fault(row=2, text="is not UTF-8: save the table as CSV UTF-8")),
    ],
)
def test_file_that_is_no_table_is_named(content: bytes, fault: Fault) -> None:
    assert read_table(content, ZONE) == ([], [fault])


@given(st.binary(max_size=200) | st.text(alphabet='what,;\n"0é#\0-:T', max_size=200).map(str.encode))
def test_no_file_makes_the_import_fail(content: bytes) -> None:
    apply_facts(REGISTRY, *read_table(b"what,meter,account,from\n" + content, ZONE), ZONE)


ROWS = st.tuples(st.sampled_from((1, 3, 4, 6)), st.integers(0, 4), st.sampled_from((7, 8, 9)))


@given(st.lists(ROWS, max_size=6, unique_by=lambda row: row[:2]))
def test_what_is_exported_is_imported_without_a_change(rows: list[tuple[int, int, int]]) -> None:
    spans = (f"holder,,,,{m},{a},{1_800_000_000 + 900 * n},{1_800_000_000 + 900 * n + 900}," for m, n, a in rows)
    after = good("weight,,,,,9,2026-12-01,,4", "tariff,,,,,7,,,day", *spans)
    facts, faults = read_table("".join(write_table(after, ZONE)).encode(), ZONE)
    assert apply_facts(after, facts, faults, ZONE) == (after, [])


@pytest.mark.parametrize("place", ["=cmd|'/C calc'!A0", "-1+1", "@x", "'=x", "+49 1", "a"])
def test_a_place_that_looks_like_a_formula_is_text_for_a_spreadsheet_and_the_same_for_the_import(place: str) -> None:
    first = min(REGISTRY.meters)
    after = replace(REGISTRY, meters={**REGISTRY.meters, first: replace(REGISTRY.meters[first], place=place)})
    table = "".join(write_table(after, ZONE))
    cells = [row["place"] for row in csv.DictReader(io.StringIO(table))]
    assert not [cell for cell in cells if cell[:1] in ("=", "+", "-", "@")]
    facts, faults = read_table(table.encode(), ZONE)
    assert [fact.place for fact in facts if fact.what == "meter" and fact.meter == first] == [place]
    assert faults == []


@given(st.integers(0, (2**32 - 1) // 900))
def test_written_date_is_read_as_the_same_quarter(quarter: int) -> None:
    assert parse_quarter(date_text(quarter, ZONE), ZONE) == quarter
