"""A resident sees the own account, whole and with its dates, and nothing of anybody else's."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.calendar import month_quarters, parse_time
from commonwatt.model.records import RecordType
from commonwatt.model.units import QUARTER_S, quarter_of
from commonwatt.town.loading import load_town
from commonwatt.town.town import Direction
from harness.console import Browser, standing_api, text_of
from harness.furnished import AFTER, APARTMENT, BEFORE, HOUSE, MONTH, TOWN, furnished, moved_at
from harness.surroundings.messages import a_heartbeat, register_in
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.assembly.application import make_app
from utility.billing.store.entries import cancel_run
from utility.billing.store.runs import newest_issued
from utility.database.database import Database, read_setting, save_setting
from utility.database.town_zone import TOWN as TOWN_FIGURES
from utility.energy.quarters import Quantity, SettledQuality, SettledQuarters
from utility.exports.selection import HeldMeter
from utility.households.course import (
    Course,
    Recording,
    by_day,
    course_of,
    figures_of,
    helped_now,
    home_now,
    settled_until,
    together,
)
from utility.households.store import AccountBattery, AccountDay, StoredBatteries
from utility.jobs.plans import NEW_YORK
from utility.ledger.entry import Entry, LedgerKind, billed
from utility.ledger.store import post
from utility.readings import tables
from utility.readings.flows import EnergyLine
from utility.registry.accounts import Installed
from utility.registry.store.accounts import load_for_change, load_registry_around, save_dated_registry
from utility.registry.tables import controller, meter
from utility.settings import UtilitySettings
from utility.settlement.shared_quarter import SharedQuarter
from utility.settlement.store.sharing import Due, save_sharing

CHECKER = Path(__file__).parents[4] / "docs/examples/check_bill.py"

Browsers = Callable[..., Browser]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with furnished(tmp_path, NOW) as made:
        yield made


@pytest.fixture
def resident(browser: Browsers) -> Callable[[int | None], Browser]:
    return lambda account: browser(Role.RESIDENT, name=f"resident{account}", account=account)


def test_page_shows_today_battery_bill_so_far_and_sharing(resident: Callable[[int], Browser]) -> None:
    words = text_of(resident(HOUSE).get("/console/home"))
    assert "house 2 in r001" in words
    for part in (
        "Solar",
        "Used",
        "Taken",
        "Given",
        "Your battery:",
        "So far $",
        "Today, energy alone $",
    ):
        assert part in words
    assert "of what your home used today was not taken: it came from your own sun and battery" in words
    assert "mean of the quarter-hour from" in words
    assert "shall keep at least 75 % for you, as its meter reported 2 hours ago" in words
    assert "It is below that since 15 Jan 2027 00:15 or before. Its gateway does not say now who helps it." in words
    assert "The bill of December 2026" in words
    words += text_of(resident(HOUSE).get("/console/settings"))
    assert "Your sharing weight is 1" in words
    assert all(word not in words for word in ("house 1", "r002", "account 1"))


def test_resident_of_a_street_reads_its_name_and_where_the_minimum_is_set(database: Database, tmp_path: Path) -> None:
    with database.writes.begin() as connection:
        figures = json.loads(read_setting(connection, TOWN_FIGURES) or "{}")
        save_setting(connection, TOWN_FIGURES, json.dumps(figures | {"street": "r001", "name": "Sunny Lane"}))
    settings = UtilitySettings(second_factor="optional", site=tmp_path)
    app = make_app(standing_api(database, NOW, settings=settings))
    words = text_of(Browser(app, Role.RESIDENT, account=HOUSE).get("/console/home"))
    assert "house 2 in Sunny Lane" in words
    assert "It is set on the setup pages of your street" in words
    assert "at the battery's meter" not in words


def test_month_and_day_have_rows_and_series(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    month = text_of(person.get("/console/home/month?month=2027-01"))
    assert "2027-01-01" in month
    assert "2027-01-15" in month
    assert "2027-01-16" not in month, "days to come have no row"
    assert "Received from neighbours" in text_of(person.get("/console/home/month/sums"))
    plot = person.get("/console/home/day.json?day=2027-01-14").json()
    assert [one["label"] for one in plot["series"]] == ["sun", "grid and neighbours"]
    assert all(len(one["x"]) == 96 for one in plot["series"])
    days = person.get("/console/home/month.json?month=2027-01").json()["series"]
    assert [len(one["x"]) for one in days] == [15, 15], "a bar for each day that has begun"
    sums = text_of(person.get("/console/home/month?month=2027-01"))
    assert "by the readings of 3 days" in sums
    assert "Saved by" not in sums, "no settled day has all its readings"
    assert "What is exchanged with neighbours is of 14 settled days" in sums
    worth = re.search(r"Received from neighbours (\S+) kWh.*Worth of what neighbours gave you \$(\S+)", sums)
    assert worth
    assert float(worth[2]) == pytest.approx(0.2 * float(worth[1]), abs=0.01), "of the same days"
    assert person.get("/console/home/year.json?year=2027").json()["stack"]
    assert person.get("/console/home?of=day&at=0001-01-01").status_code == 422


def test_plot_goes_by_day_month_and_year_with_arrows(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    page = person.get("/console/home").text
    assert 'data-plot="/console/home/day.json?day=2027-01-15"' in page
    assert "The day after" not in page, "nothing is known of tomorrow"
    month = person.get("/console/home/course?of=month&at=2027-01-14").text
    assert 'data-plot="/console/home/month.json?month=2027-01"' in month
    assert 'href="/console/home?of=month&amp;at=2026-12-31#course"' in month, "works without scripts"
    assert (
        'data-plot="/console/home/month.json?month=2026-12"' in person.get("/console/home?of=month&at=2026-12-31").text
    )
    year = person.get("/console/home/course?of=year&at=2026-12-31").text
    assert 'hx-get="/console/home/course?of=year&amp;at=2025-12-31"' in year
    assert 'hx-get="/console/home/course?of=year&amp;at=2027-01-01"' in year
    assert person.get("/console/home/course?of=decade&at=2026-12-31").status_code == 422


def test_a_month_whose_readings_are_gone_shows_what_was_settled(
    resident: Callable[[int], Browser], database: Database
) -> None:
    with database.writes.begin() as connection:
        for readings in (tables.compacted, tables.batch, tables.part):
            connection.execute(readings.delete())
    series = resident(2).get("/console/home/month.json?month=2027-01").json()["series"]
    assert [one["label"] for one in series][-1] == "the grid"
    assert any(series[-1]["high"])


def test_page_counts_neighbours_helped_and_says_what_the_weight_did(
    resident: Callable[[int], Browser], database: Database
) -> None:
    first = month_quarters(MONTH, NEW_YORK)[0]
    with database.writes.begin() as connection:
        numbers = dict(
            connection.execute(
                select(meter.c.location, meter.c.no).where(meter.c.microgrid == "r001", meter.c.battery_capacity > 0)
            ).all()
        )
        (owner,) = connection.execute(select(controller.c.number).where(controller.c.id == "r001")).scalars()
        mine, other = numbers["house 2"], numbers["house 1"]
        helps = SharedQuarter(given={mine: 3_000_000}, received={other: 2_900_000}, complete=True)
        helped = SharedQuarter(given={other: 1_000_000}, received={mine: 900_000}, complete=True)
        for quarter, shared in ((first, helps), (first + 1, helped), (quarter_of(NOW) - 4, helped)):
            save_sharing(connection, [(Due(quarter=quarter, owner_no=owner, marks=1), shared)], NOW)
    person = resident(HOUSE)
    words = text_of(person.get("/console/home/weight/past"))
    assert "In December 2026, with weight 1, your battery gave 3.0 kWh , 75 % of what" in words
    assert "and helped 1 neighbour." in words
    before = text_of(person.get(f"/console/home/month?month={MONTH}"))
    assert "1 helping you" in before
    assert "1 helped by your battery" in before
    now = text_of(person.get("/console/home/month/sums"))
    assert "1 helping you" in now
    assert "0 helped by your battery" in now
    assert all(place not in words + before + now for place in ("house 1", "account 1")), "no neighbour is named"


def test_page_says_nothing_of_the_weight_when_no_sharing_was_recorded(resident: Callable[[int], Browser]) -> None:
    assert "your battery gave" not in text_of(resident(HOUSE).get("/console/home/weight/past"))


def test_who_moved_in_sees_nothing_of_the_time_before(resident: Callable[[int], Browser]) -> None:
    after, before = resident(AFTER), resident(BEFORE)
    assert "2027-01-05" in text_of(after.get("/console/home/month?month=2027-01"))
    assert "2027-01-04" not in text_of(after.get("/console/home/month?month=2027-01"))
    assert "2027-01-05" not in text_of(before.get("/console/home/month?month=2027-01"))
    assert "had no meter in this month" in text_of(after.get("/console/home/month?month=2026-12"))
    assert after.get("/console/home/month?month=2099-12").status_code == 200
    assert after.get(f"/console/home/bills/{MONTH}").status_code == 404
    assert before.get(f"/console/home/bills/{MONTH}").status_code == 200
    assert "This account has no meter now" in text_of(before.get("/console/home"))
    assert before.get("/console/home/day.json?day=2027-01-14").json()["series"] == []
    assert "Your sharing weight is 2" in text_of(after.get("/console/settings"))
    query = "start=2026-12-01&end=2027-01-15&form=spreadsheet"
    files = {who: person.get(f"/console/home/energy?{query}").text for who, person in (("a", after), ("b", before))}
    rows = {who: [line.split(",") for line in text.splitlines()[1:]] for who, text in files.items()}
    known = {who: {row[0] for row in of if row[4]} for who, of in rows.items()}
    assert min(known["a"]) == "2027-01-05" > max(known["b"]) == "2027-01-04"
    assert moved_at() * QUARTER_S < NOW


def test_the_home_page_says_what_is_owed_once_payments_are_booked(
    resident: Callable[[int], Browser], database: Database
) -> None:
    def said(*entries: Entry) -> list[str]:
        with database.writes.begin() as connection:
            post(connection, entries, "anna", NOW)
        return re.findall(
            r"You owe.*?far\.|\$\S+ are in your.*?far\.|All your.*?far\.", text_of(resident(HOUSE).get("/console/home"))
        )

    bill = f"/console/home/bills/{MONTH}"
    assert "due by" in text_of(resident(HOUSE).get(bill))
    bills = [billed(n, HOUSE, "2027-01-01", f"2027-0{n}-15", {"energy": 2000}, is_final=False) for n in (1, 2)]
    assert said(*bills) == [], "the town books no payments"
    paid = Entry(day="2027-01-02", kind=LedgerKind.ASSIGNMENT, of="a", account=HOUSE, cents=-500, about=3)
    money = Entry(day="2027-01-02", kind=LedgerKind.PAYMENT, of="p", cents=500, lines={"bank": 500, "suspense": -500})
    assert said(money, paid) == ["You owe $35.00, of it $15.00 by 2027-01-15, by the payments booked so far."]
    assert said(replace(paid, of="b", cents=-3500)) == ["All your bills are paid, by the payments booked so far."]
    assert "due by" not in text_of(resident(HOUSE).get(bill)), "it is paid, as nothing of it is open"
    assert said(replace(paid, of="c", cents=-100)) == ["$1.00 are in your favour, by the payments booked so far."]


def test_the_home_page_proves_one_bill_and_the_list_all(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    page = person.get("/console/home").text
    assert 'hx-get="/console/home/bills"' in page
    assert f'href="/console/home/bills/{MONTH}"' in page, "works without scripts"
    listed = person.get("/console/home/bills").text
    assert f'href="/console/home/bills/{MONTH}"' in listed
    assert "61 Dec" in text_of(person.get("/console/home/bills")), "a bar with its dollars"


def test_a_resident_sees_a_cancelled_bill_marked(resident: Callable[[int], Browser], database: Database) -> None:
    person = resident(HOUSE)
    assert person.get(f"/console/home/bills/{MONTH}").status_code == 200
    with database.writes.begin() as connection:
        ((run, *_),) = newest_issued(connection, 1)
        cancel_run(connection, run)
    assert person.get(f"/console/home/bills/{MONTH}").status_code == 404, "no bill of the month is issued now"
    assert f"of run {run} was cancelled" in text_of(person.get("/console/home/bills"))
    words = text_of(person.get(f"/console/home/bills/{MONTH}?run={run}"))
    assert "Cancelled bill, December 2026" in words
    assert person.get(f"/console/home/bills/{MONTH}/pdf?run={run}").content.startswith(b"%PDF")
    assert person.get(f"/console/home/bills/2026-11?run={run}").status_code == 404
    assert resident(AFTER).get(f"/console/home/bills/{MONTH}?run={run}").status_code == 404


def test_receipt_passes_the_stand_alone_checker(resident: Callable[[int], Browser], tmp_path: Path) -> None:
    answer = resident(HOUSE).get(f"/console/home/bills/{MONTH}/receipt")
    assert answer.headers["content-disposition"] == f'attachment; filename="receipt-{MONTH}-{HOUSE}.json"'
    assert json.loads(answer.content)["leaf"]["account"] == HOUSE
    path = tmp_path / "receipt.json"
    path.write_bytes(answer.content)
    done = subprocess.run([sys.executable, str(CHECKER), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_bill_is_explained_and_comes_as_pdf_and_green_button(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    words = text_of(person.get(f"/console/home/bills/{MONTH}"))
    assert "Bill, December 2026" in words
    assert "2026-12-31" in words
    assert "To pay" in words
    assert person.get(f"/console/home/bills/{MONTH}/pdf").content.startswith(b"%PDF")
    page = person.get(f"/console/home/bills/{MONTH}").text
    assert page.split('class="heat"')[1].split("</svg>")[0].count("z") == 31 * 24
    bill = person.get(f"/console/home/bills/{MONTH}/receipt").json()["leaf"]["bill"]
    assert f"${Decimal(bill['total']):,.2f}" in words
    assert not re.search(r"\d\.\d{4,}", words), "pages round"
    assert all(isinstance(line["energy"] or 0, int) for line in bill["lines"]), "the receipt has whole milliwatt-hours"
    green = person.get("/console/home/energy?start=2026-12-01&end=2026-12-02")
    assert green.headers["content-type"].startswith("application/atom+xml")
    assert "Green Button usage of account 2" in green.text
    assert person.get("/console/home/energy?start=2026-12-02&end=2026-12-01").status_code == 422
    assert person.get("/console/home/bills/2026-11").status_code == 404


def test_apartment_sees_its_buildings_battery_and_not_its_neighbours(resident: Callable[[int], Browser]) -> None:
    person = resident(APARTMENT)
    words = text_of(person.get("/console/home"))
    assert "Your building's battery, shared by all its apartments" in words
    assert "shall keep at least 75 % for the building" in words
    assert "Your building's solar today" in words
    assert "apartment 1 in a" in words
    assert "apartment 2" not in words
    assert "has no battery of its own now, so it has no weight" in text_of(person.get("/console/settings"))
    answer = person.post("/console/home/weight", {"weight": 3, "start": "2027-01-20"})
    assert (answer.status_code, "no battery of its own" in answer.text) == (422, True)


def test_weight_is_set_with_a_date_and_audited(resident: Callable[[int], Browser], database: Database) -> None:
    person = resident(HOUSE)
    wrong: list[dict[str, Any]] = [
        {"weight": 0, "start": "2027-01-20"},
        {"weight": 3, "start": "2027-01-15"},
        {"weight": "x", "start": "y"},
        {"weight": 3, "start": "0001-01-01"},
    ]
    assert [person.post("/console/home/weight", fields).status_code for fields in wrong] == [422] * 4
    done = person.post("/console/home/weight", {"weight": 3, "start": "2027-01-20"})
    assert done.status_code == 303
    words = text_of(person.get(done.headers["location"]))
    assert "Your sharing weight is 3 from 2027-01-20 on." in words
    assert "Your sharing weight is 1 ." in words
    with database.reads.begin() as connection:
        (dated,) = load_registry_around(connection, HOUSE).accounts[HOUSE].weights
        assert load_registry_around(connection, BEFORE).accounts[BEFORE].weights == ()
        (entry,) = audit_log.entries(connection, audit_log.AuditFilter(action="weight"), 9)
    assert dated.value == 3
    assert (entry["person"], entry["subject"]) == (f"resident{HOUSE}", f"account {HOUSE}")


def test_resident_without_an_account_is_told_whom_to_ask(resident: Callable[[int | None], Browser]) -> None:
    for account in (None, 4444):
        answer = resident(account).get("/console/home")
        assert answer.status_code == 404
        assert "not linked with an account yet" in answer.text


def test_api_of_the_own_home_has_the_same_figures_and_rules(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    found = person.get("/home").json()
    assert (found["account"], found["minimum_percent"], found["weight"]) == (HOUSE, [75], 1)
    assert found["until"] == "2027-01-15T09:15:00Z"
    assert all(isinstance(found[name], int) for name in ("solar", "used", "taken", "given", "level"))
    assert found["used"] == found["solar"] + found["taken"] - found["given"], "the level stays the same here"

    def post(content: dict[str, Any]) -> Any:
        return person.send("POST", "/home/weight", json=content, headers={"X-CSRF": person.csrf})

    assert post({"weight": 3, "start": "2027-01-15"}).status_code == 422
    assert post({"weight": 1001, "start": "2027-01-20"}).status_code == 422
    assert post({"weight": 3, "start": "0001-01-01"}).status_code == 422
    done = post({"weight": 3, "start": "2027-01-20"}).json()
    assert done["dated"] == [{"start": "2027-01-20T05:00:00Z", "weight": 3}]
    assert person.get("/home/weights").json() == done
    assert resident(APARTMENT).get("/home").json()["minimum_percent"] == [], "the building's is not its own"


def test_level_is_the_present_one_on_the_day_on_which_the_household_leaves(
    resident: Callable[[int], Browser], database: Database
) -> None:
    staying = resident(HOUSE).get("/home").json()
    assert staying["level_time"] == staying["until"] == "2027-01-15T09:15:00Z"
    with database.writes.begin() as connection:
        before = load_for_change(connection)
        end = quarter_of(NOW) + 8

        def left(one: Installed) -> Installed:
            ended = (replace(held, end=end) if held.account == HOUSE else held for held in one.holdings)
            return replace(one, holdings=tuple(ended))

        after = replace(before, meters={meter: left(one) for meter, one in before.meters.items()})
        save_dated_registry(connection, before, after, "ben", NOW, NEW_YORK)
    assert resident(HOUSE).get("/home").json() == staying


def test_days_of_the_own_home_are_those_of_the_town(
    resident: Callable[[int], Browser], database: Database, tmp_path: Path
) -> None:
    (tmp_path / "town.toml").write_text(TOWN)
    register_in("America/Los_Angeles", database, load_town(tmp_path / "town.toml"))
    person = resident(HOUSE)
    plot = person.get("/console/home/day.json?day=2027-01-14").json()
    assert plot["series"][0]["x"][0] == int(datetime.fromisoformat("2027-01-14T08:00Z").timestamp())
    asked = {"json": {"weight": 3, "start": "2027-01-20"}, "headers": {"X-CSRF": person.csrf}}
    done = person.send("POST", "/home/weight", **asked).json()
    assert done["dated"] == [{"start": "2027-01-20T08:00:00Z", "weight": 3}]


@pytest.mark.parametrize("account", [HOUSE, APARTMENT])
def test_the_form_of_files_is_filled_so_that_there_is_data(resident: Callable[[int], Browser], account: int) -> None:
    person = resident(account)
    page = person.get("/console/settings").text
    asked = dict(re.findall(r'type="date" name="(start|end)" value="([^"]*)"', page.partition('id="files"')[2]))
    asked["of"] = "readings" if 'value="readings" selected' in page else "settled"
    answer = person.get(f"/console/home/energy?form=spreadsheet&{urlencode(asked)}")
    assert answer.status_code == 200, asked
    assert any(line.split(",")[4] for line in answer.text.splitlines()[1:])


def test_a_file_without_data_is_refused_without_the_words_of_a_command_line(resident: Callable[[int], Browser]) -> None:
    refused = resident(HOUSE).get("/console/home/energy?start=2026-10-01&end=2026-10-02")
    assert (refused.status_code, "--of" in refused.text) == (422, False)
    assert "is settled in that time" in refused.text


FIRST = parse_time("2026-10-31", "", NEW_YORK) // 900
OUT, IN = 10001, 10002
KINDS = {OUT: frozenset({RecordType.GENERATION, RecordType.STORED, RecordType.THROUGH}), IN: {RecordType.THROUGH}}


def blocks_of(first: int, end: int, seed: int, missing: float = 0.0) -> Blocks:
    rng = np.random.default_rng(seed)
    keys = [
        (meter, int(kind), quarter) for meter in KINDS for kind in sorted(KINDS[meter]) for quarter in range(first, end)
    ]
    shape = len(keys), 60
    there = np.repeat(rng.random(len(keys)) >= missing, 60).reshape(shape)
    return make_blocks(keys, rng.integers(0, 1000, shape), np.where(there, 2, 0))


def recordings(start: int, end: int) -> list[Recording]:
    directions = {OUT: Direction.OUTGOING, IN: Direction.INCOMING}
    return [
        Recording(held=HeldMeter(meter=m, direction=directions[m], first=start, end=end), kinds=frozenset(KINDS[m]))
        for m in KINDS
    ]


def value(blocks: Blocks, meter: int, kind: RecordType, quarter: int) -> np.ndarray | None:
    rows = (blocks.meter == meter) & (blocks.record_type == kind) & (blocks.quarter == quarter)
    (row,) = np.flatnonzero(rows)
    return None if not blocks.quality[row].any() else blocks.values[row]


@given(
    seed=st.integers(0, 999), moved=st.integers(-5, 12), leaves=st.integers(3, 20), missing=st.sampled_from([0, 0.2])
)
def test_course_is_that_of_the_meters_while_the_account_had_them(
    seed: int, moved: int, leaves: int, missing: float
) -> None:
    start, end = FIRST + moved, FIRST + moved + leaves
    blocks = blocks_of(FIRST - 1, FIRST + 10, seed, missing)
    course = course_of(blocks, recordings(start, end), FIRST, FIRST + 10)
    for n, quarter in enumerate(range(FIRST, FIRST + 10)):
        found = [value(blocks, IN, RecordType.THROUGH, quarter), value(blocks, OUT, RecordType.THROUGH, quarter)]
        found.append(value(blocks, OUT, RecordType.GENERATION, quarter))
        if not start <= quarter < end:
            found = [None] * 3
        taken, given_, solar = (0 if each is None else int(each.sum()) for each in found)
        assert (course.taken.energy[n], course.given.energy[n], course.sun.energy[n]) == (taken, given_, solar)
        level, before = (
            value(blocks, OUT, RecordType.STORED, quarter),
            value(blocks, OUT, RecordType.STORED, quarter - 1),
        )
        is_known = start < quarter < end and None not in [*map(type, found)] and all(f is not None for f in found)
        if is_known and level is not None and before is not None:
            assert course.used.is_whole[n]
            assert course.used.energy[n] == solar + taken - given_ - int(level[-1] - before[-1])
        else:
            assert not course.used.is_whole[n], "a gap, or the level of the one before, is no use of ours"
            assert course.used.energy[n] == course.used.slots[n] == 0, "half of the sum would be a lie"


def test_newest_level_is_the_last_slot_of_a_battery_that_is_still_there() -> None:
    blocks = blocks_of(FIRST - 1, FIRST + 3, 1)
    course = course_of(blocks, recordings(FIRST, FIRST + 99), FIRST, FIRST + 10)
    assert course.newest is not None
    assert course.newest.time == (FIRST + 3) * 900
    level = value(blocks, OUT, RecordType.STORED, FIRST + 2)
    assert level is not None
    assert course.newest.energy == level[-1]
    gone = course_of(blocks, recordings(FIRST, FIRST + 2), FIRST, FIRST + 10)
    assert gone.newest is None, "the next household's battery is not ours"


def test_sums_say_how_much_of_their_time_has_readings() -> None:
    course = course_of(blocks_of(FIRST - 1, FIRST + 6, 2), recordings(FIRST, FIRST + 99), FIRST, FIRST + 10)
    assert course.until == FIRST + 6
    whole, part, none = (figures_of(course, FIRST + a, FIRST + b) for a, b in ((1, 6), (0, 8), (6, 10)))
    assert whole.used is not None
    assert whole.used.permille == 1000
    assert whole.used.energy == course.used.energy[1:6].sum()
    assert part.taken is not None
    assert (part.taken.energy, part.taken.permille) == (course.taken.energy.sum(), 750)
    assert none.taken is not None
    assert none.taken.energy is None, "nothing has come yet: no zero"
    empty = course_of(blocks_of(FIRST - 1, FIRST + 6, 2), [], FIRST, FIRST + 10)
    assert (figures_of(empty, FIRST, FIRST + 6).all, empty.until, empty.newest) == ([], None, None)


def settled(days: int, seed: int) -> SettledQuarters:
    rng = np.random.default_rng(seed)
    shape = 2, days * 96 + 4
    return SettledQuarters(
        meters=np.array([OUT, IN], np.uint64),
        first=FIRST,
        energies={quantity: rng.integers(0, 9, shape) for quantity in Quantity},
        quality=rng.integers(0, 5, shape).astype(np.uint8),
        provisional=np.zeros(shape, np.bool_),
        version=(np.arange(shape[1]) < shape[1] - 30).astype(np.int32) * np.ones(shape, np.int32),
    )


@given(seed=st.integers(0, 99), moved=st.integers(-3, 250))
def test_settled_days_add_up_and_begin_with_the_move(seed: int, moved: int) -> None:
    found = settled(3, seed)
    end = FIRST + found.quality.shape[1]
    held = [one.held for one in recordings(FIRST + moved, end)]
    days = by_day(found, held, NEW_YORK)
    assert [day.start for day in days] == [(FIRST + n) * 900 for n in (0, 96, 196)], "1 November has 25 hours"
    assert [day.expected for day in days if day.start + 100 * 900 < (FIRST + moved) * 900] == [0] * sum(
        day.start + 100 * 900 < (FIRST + moved) * 900 for day in days
    )
    whole, columns = together(days, 0), slice(max(0, moved), found.quality.shape[1] - 30)
    for name, quantity in (
        ("got", Quantity.SHARED_IN),
        ("given", Quantity.SHARED_OUT),
        ("imported", Quantity.IMPORTED),
    ):
        assert getattr(whole, name) == found.energies[quantity][:, columns].sum()
    assert whole.estimated == (found.quality[:, columns] <= SettledQuality.ESTIMATED).sum()
    assert settled_until(found, held) == end - 30
    assert settled_until(found, []) is None


def line(*energies: int) -> EnergyLine:
    whole = np.full(len(energies), 60)
    return EnergyLine(energy=np.array(energies), slots=whole, expected=whole)


def test_own_part_is_never_more_than_all_though_a_battery_jumps() -> None:
    """A battery that is exchanged for a fuller one seems to gain what no source gave."""
    course = Course(
        first=0,
        sun=line(1_000, 1_000),
        taken=line(0, 0),
        given=line(0, 0),
        level=line(5_000, 50_000),
        charge=line(0, 45_000),
        newest=None,
    )
    now = home_now(course)
    assert now is not None
    assert now.own_permille == 1000


def test_the_own_part_is_what_was_not_taken_of_the_use_that_stands_beside_it() -> None:
    """A home gives and takes in one quarter-hour, and a reading of its panels lacks in another."""
    solar = EnergyLine(energy=np.array([6_000, 0, 500]), slots=np.array([60, 60, 59]), expected=np.full(3, 60))
    course = Course(
        first=0,
        sun=solar,
        taken=line(2_000, 4_000, 9_000),
        given=line(3_000, 0, 0),
        level=line(0, 0, 0),
        charge=line(0, 0, 0),
        newest=None,
    )
    now, shown = home_now(course), dict(figures_of(course.whole, 0, 3).all)
    used, taken = shown["Used"].energy, shown["Taken"].energy
    assert (used, taken, shown["Solar"].energy, shown["Given"].energy) == (9_000, 6_000, 6_000, 3_000)
    assert now is not None
    assert now.own_permille == 1000 * (9_000 - 6_000) / 9_000


def battery(minimum: int | None) -> AccountBattery:
    return AccountBattery(
        meter=8, microgrid="r001", place="a", capacity=100, minimum=minimum, reported=None, is_shared=False
    )


@pytest.mark.parametrize(
    ("levels", "since"),
    [
        ((60, 50, 40, 45), (12 * 900, True)),
        ((40, 60, 40), (12 * 900, True)),
        ((40, 45), (10 * 900, False)),
        ((60, 40, 50), None),
        ((), None),
    ],
)
def test_a_level_below_the_minimum_says_since_when(levels: Sequence[int], since: tuple[int, bool] | None) -> None:
    # The first quarter is number 9; the end of a quarter has its level.
    none = line(*(0 for _ in levels))
    course = Course(first=9, sun=none, taken=none, given=none, level=line(*levels), charge=none, newest=None)
    day = AccountDay(course=course, sums=figures_of(course, 9, 9), until=None, level=None)
    stored = StoredBatteries(batteries=[battery(50)], level=None, permille=None, today=day)
    assert stored.low_since == since
    assert StoredBatteries(batteries=[battery(50)] * 2, level=None, permille=None, today=day).low_since is None
    assert StoredBatteries(batteries=[battery(None)], level=None, permille=None, today=day).low_since is None


def test_a_battery_below_its_minimum_says_who_helps() -> None:
    def said(**sharing: str) -> str:
        beat = a_heartbeat(time=1_000, sharing={int(meter[1:]): code for meter, code in sharing.items()})
        return helped_now(beat, 8, 1_100)

    assert said(m8="low", m9="helps") == "A neighbour's battery helps it."
    assert said(m8="low", m9="helps", m10="helps?") == "2 of the neighbours' batteries help it."
    assert said(m8="alone", m9="rests") == "Below its minimum, but no other battery can share."
    assert said(m8="low-island", m9="no-need").startswith("Below its minimum; in an island")
    assert said(m9="helps") == helped_now(None, 8, 0) == "Its gateway does not say now who helps it."
    old = a_heartbeat(time=1_000, sharing={8: "low", 9: "helps"})
    assert helped_now(old, 8, 3_000) == "Its gateway does not say now who helps it."
