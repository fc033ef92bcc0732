"""Accounts: a clerk's table with its dates and mistakes, places that must not be cut, and how one is found."""

import csv
import io
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from commonwatt.town.town import Direction, Function, Town
from harness.commands import logged_in, shown
from harness.console import Browser
from harness.surroundings import databases
from tests.unit.utility.conftest import NOW
from tests.unit.utility.supply.test_buying import FACTS
from tests.unit.utility.supply.test_rationing import HOUSES
from utility.access.people import Role
from utility.billing.store.views import find_accounts
from utility.database.database import Database
from utility.outbox.changes import ToldAccount
from utility.outbox.store import open_commands, repeat_commands, tell, to_tell
from utility.outbox.tables import command
from utility.registry.accounts import Account, DatedRegistry, Holding, Installed, functions_of
from utility.registry.changes import date_text, differences, parse_quarter
from utility.registry.cli import app
from utility.registry.importing import apply_facts
from utility.registry.store.accounts import changes_of, load_dated_registry, load_for_change, save_dated_registry
from utility.registry.store.registry import MOST_OF_A_METER, account_differences, count_differences
from utility.registry.store.statements import AGAIN_S, meters_of, wanted_spared
from utility.registry.table import COLUMNS, Fault, read_table, write_table
from utility.supply.deciding import rations_of
from utility.supply.rationing import RATIONING
from utility.supply.store import members

Run = Callable[..., str]

MOVE = """what,account,meter,microgrid,place,from,to,value
account,9,,,,,,
holder,1,,r001,house 1,,2026-11-15T14:15,
holder,9,,r001,house 1,2026-11-15T14:15,,
minimum,9,,,,2026-11-15T14:15,,75
"""


@pytest.fixture
def run(tmp_path: Path, url: str, kind: str, database: Database) -> Run:
    """Run a command of accounts, which must exit with ``code``; return its output."""
    config = tmp_path / "utility.toml"
    url = url if kind == "sqlite" else url.replace("@", ":secret@")
    config.write_text(f'[utility]\ndatabase = "{url}"\n')

    def command(*words: str, code: int = 0) -> str:
        with logged_in(database, config, words) as left:
            done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*left, "--config", str(config)])
        assert done.exit_code == code, done.output
        return done.output

    return command


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "moves.csv"
    path.write_text(MOVE)
    return path


@databases.on_both_kinds
def test_a_move_is_previewed_imported_and_kept_with_its_person(run: Run, table: Path, database: Database) -> None:
    preview = run("check", str(table))
    assert "meter 10001\n  - account 1\n  + account 1 to 15 Nov 2026 14:15 EST\n" in preview
    with database.reads.begin() as connection:
        assert 9 not in load_dated_registry(connection).accounts
    assert run("import", str(table)).startswith(preview.partition(str(table))[0])
    assert "nothing new" in run("import", str(table))
    config = table.with_name("utility.toml")
    changes = shown(config, "accounts", "changes", "subject=account 9", "subject=meter 10002")["changes"]
    assert {one["subject"] for one in changes} == {"account 9", "meter 10002"}
    assert all(one["person"].endswith("@this-machine") for one in changes)
    assert any("minimum 75 from 15 Nov 2026 14:15 EST" in one["after"] for one in changes)
    # The house is between its accounts by the clock: the new one has it, from 2026-11-15 on.
    rows = {row["account"]: row for row in shown(config, "accounts")["accounts"]}
    assert rows[2]["meters"] == ["10003", "10004"]
    there = [row for row in rows.values() if any(place.startswith("r001 ") for place in row["places"])]
    assert shown(config, "accounts", "microgrid=r001")["accounts"] == there
    exported = table.with_name("all.csv")
    exported.write_text(run("export"))
    assert "nothing new" in run("import", str(exported))
    exported.write_text(run("export", "--account", "9"))
    assert (exported.read_text().count("holder"), exported.read_text().count("\naccount")) == (4, 2)
    assert "nothing new" in run("import", str(exported))


@pytest.mark.parametrize("words", [("export", "--microgrid", "r009"), ("export", "--account", "99")])
def test_a_name_that_is_not_registered_is_told(run: Run, words: tuple[str, ...]) -> None:
    assert f"{words[1]}: " in (told := run(*words, code=2))
    assert "is not registered" in told


def test_with_a_mistake_nothing_changes(run: Run, table: Path, database: Database) -> None:
    with database.reads.begin() as connection:
        before = load_dated_registry(connection)
    table.write_text(MOVE + "holder,1,10003,,,2027-03-14T02:30,,\nholder,77,10004,,,,,\n")
    for word in ("check", "import"):
        told = run(word, str(table), code=2)
        assert f"{table}: row 6, column from: 2027-03-14T02:30 does not exist in America/New_York" in told
        assert f"{table}: row 7, column account: account 77 is unknown" in told
        assert "2 mistakes; nothing changed" in told
    table.write_text(MOVE)
    with database.reads.begin() as connection:
        assert load_dated_registry(connection) == before


@databases.on_both_kinds
def test_two_changes_at_once_are_made_one_after_the_other(database: Database) -> None:
    def move(number: int) -> None:
        with database.writes.begin() as connection:
            before = load_for_change(connection)
            holdings = (Holding(account=number, start=0),)
            after = replace(before, meters={**before.meters, number: replace(before.meters[number], holdings=holdings)})
            save_dated_registry(connection, before, after, "anna", number, ZoneInfo("UTC"))

    with database.reads.begin() as connection:
        revision = load_dated_registry(connection).revision
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(move, (10001, 10002, 10003, 10004)))
    with database.reads.begin() as connection:
        registry = load_dated_registry(connection)
        assert len(changes_of(connection, [f"meter {n}" for n in range(10001, 10005)], 99)) == 4
    assert registry.revision == revision + 4
    assert [registry.meters[n].account_at(0) for n in range(10001, 10005)] == list(range(10001, 10005))


def test_differences_are_bounded_for_each_meter(database: Database) -> None:
    found = [ToldAccount(meter=2**64 - 1, told=n, registered=3, time=100 - n) for n in range(20)]
    for some in (found[:5], found, found[2:3]):
        with database.writes.begin() as connection:
            count_differences(connection, some)
    with database.reads.begin() as connection:
        rows = account_differences(connection, 99)
    assert len(rows) == MOST_OF_A_METER + 1
    assert next(row for row in rows if row.told == 2).reports == 3
    assert dict(next(row for row in rows if row.told == "others")) == {
        "meter": str(2**64 - 1),
        "told": "others",
        "registered": 3,
        "first": 81,
        "last": 90,
        "reports": 10,
    }


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


Make = Callable[..., Browser]


def told(database: Database, now: int = NOW) -> list[str]:
    """Do the work of the job once; return what waits for gateways."""
    with database.writes.begin() as connection:
        tell(connection, wanted_spared(connection, now), now)
        return [each.message for each in open_commands(connection)]


def answered(database: Database) -> None:
    with database.writes.begin() as connection:
        connection.execute(command.update().values(state="done", result="done"))


def flag(clerk: Browser, account: int, wanted: str = "true") -> int:
    form = {"account": account, "wanted": wanted, "csrf": clerk.csrf}
    return int(clerk.send("POST", "/console/spared", data=form).status_code)


def decide(person: Browser, account: int, agrees: str = "true", wanted: str = "true") -> int:
    form = {"agrees": agrees, "wanted": wanted, "csrf": person.csrf}
    return int(person.send("POST", f"/console/spared/{account}", data=form).status_code)


@databases.on_both_kinds
def test_a_flag_takes_two_people_and_only_then_the_gateway_is_told(database: Database, browser: Make) -> None:
    clerk, approver = browser(Role.CLERK), browser(Role.APPROVER)
    both = browser(Role.CLERK, Role.APPROVER)
    assert flag(both, 1) == 303
    assert told(database) == []
    assert decide(both, 1) == 409, "not the one who asked"
    assert decide(clerk, 1) == 403
    assert flag(approver, 2) == 403
    assert decide(approver, 1) == 303
    (message,) = told(database)
    with database.reads.begin() as connection:
        ((microgrid, meters),) = meters_of(connection, NOW // 900).items()
        assert all(f'"{meter}"' in message for meter in meters)
    assert told(database) == [message], "once"
    answered(database)
    assert told(database) == []
    assert flag(clerk, 1, "false") == 303
    assert decide(approver, 1) == 409, "another one was asked for since the page was shown"
    assert '<input type="hidden" name="wanted" value="false">' in approver.get("/console/spared").text
    assert decide(approver, 1, "false", "false") == 303, "refused: it stays"
    assert told(database) == []
    flag(clerk, 1, "false")
    decide(approver, 1, wanted="false")
    assert '"spared":[]' in told(database, NOW + 1)[0].replace(" ", "")
    assert microgrid


def test_it_is_told_to_the_next_manager_and_again_while_a_place_is_left(database: Database, browser: Make) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    told(database)
    answered(database)
    with database.writes.begin() as connection:
        (microgrid,) = meters_of(connection, NOW // 900)
        repeat_commands(connection, microgrid, "+1", NOW + 20)
        (again,) = open_commands(connection)
        assert '"spare"' in again.message
        assert to_tell(connection, wanted_spared(connection, NOW + 20), NOW + 20) == []
    answered(database)
    assert told(database, NOW + AGAIN_S - 1) == []
    assert len(told(database, NOW + AGAIN_S)) == 1, "the gateway may have been replaced or restored"
    flag(browser(Role.CLERK), 1, "false")
    decide(browser(Role.APPROVER), 1, wanted="false")
    assert len(told(database, NOW + 2 * AGAIN_S)) == 1
    answered(database)
    assert told(database, NOW + 9 * AGAIN_S) == [], "none is left"


@pytest.mark.parametrize(
    ("role", "status"), [(Role.OPERATOR, 200), (Role.CLERK, 200), (Role.VIEWER, 403), (Role.ADMIN, 403)]
)
def test_only_operators_and_the_office_see_who_it_is(browser: Make, role: Role, status: int) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    seen = browser(role).send("GET", "/console/spared")
    assert seen.status_code == status
    assert ("Not cut, whatever is short" in seen.text) == (status == 200)


def test_no_import_limit_is_below_what_such_a_place_uses(database: Database, browser: Make) -> None:
    flag(browser(Role.CLERK), 1)
    decide(browser(Role.APPROVER), 1)
    with database.reads.begin() as connection:
        found = members(connection, NOW // 900, (), frozenset())
    assert [each.spared_w > 0 for each in found if each.spared_w] == [True]
    street = replace(HOUSES, spared_w=1_200)
    empty = replace(FACTS, seen=(FACTS.now, FACTS.seen[1].model_copy(update={"supply": "empty"})))  # type: ignore[index]
    limits = {m.spared_w: rations_of(RATIONING["aces"], empty, [m])["r001"].import_limit_w for m in (street, HOUSES)}
    assert limits == {1_200: 1_200, 0: 0}


def test_an_account_is_found_by_number_place_or_name(database: Database, town: Town, app: object) -> None:
    home = next(meter for meter in town.meters if meter.account)
    Browser(app, Role.RESIDENT, name="zelda", account=home.account)  # type: ignore[arg-type]

    def found(text: str) -> list[int]:
        with database.reads.begin() as connection:
            return [each.account for each in find_accounts(connection, text, NOW // 900)]

    assert found(str(home.account)) == [home.account]
    assert found("Zelda") == [home.account]
    assert home.account in found(home.location.upper())
    with database.reads.begin() as connection:
        (one,) = find_accounts(connection, "zel", NOW // 900)
    assert home.location in one.place
    assert one.people == "Zelda"
    assert found("%") == found("_") == found("no such place") == found(" ") == []
