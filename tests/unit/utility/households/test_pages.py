"""A resident sees the own account, whole and with its dates, and nothing of anybody else's."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlalchemy import select

from commonwatt.model.time.local_calendar import month_quarters
from commonwatt.model.units import QUARTER_S, quarter_of
from commonwatt.town.loading import load_town
from harness.console import Browser, text_of
from harness.furnished import furnished
from harness.household import AFTER, APARTMENT, BEFORE, HOUSE, MONTH, TOWN, moved_at
from harness.surroundings.utility import register_in
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.billing.store.billing import newest_issued
from utility.billing.store.entries import cancel_run
from utility.database.database import Database
from utility.jobs.calendar_periods import NEW_YORK
from utility.ledger.entry import Entry, Kind, billed
from utility.ledger.store.entries import post
from utility.readings import tables
from utility.registry.accounts import Installed
from utility.registry.store.accounts import load_for_change, load_registry_around, save_dated_registry
from utility.registry.tables import controller, meter
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
    assert "It is below that since 15 Jan 2027 00:15:00 or before. Its gateway does not say now who helps it." in words
    assert f"{MONTH}" in words
    words += text_of(resident(HOUSE).get("/console/settings"))
    assert "Your sharing weight is 1" in words
    assert all(word not in words for word in ("house 1", "r002", "account 1"))


def test_month_and_day_have_rows_and_series(resident: Callable[[int], Browser]) -> None:
    person = resident(HOUSE)
    month = text_of(person.get("/console/home/month?month=2027-01"))
    assert "2027-01-01" in month
    assert "2027-01-15" in month
    assert "2027-01-16" not in month, "days to come have no row"
    assert "Received from neighbours" in text_of(person.get("/console/home/month/sums"))
    plot = person.get("/console/home/day.json?day=2027-01-14").json()
    assert [one["label"] for one in plot["series"]] == ["sun", "town and neighbours"]
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
    assert [one["label"] for one in series][-1] == "the town"
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
    paid = Entry(day="2027-01-02", kind=Kind.ASSIGNMENT, of="a", account=HOUSE, cents=-500, about=3)
    money = Entry(day="2027-01-02", kind=Kind.PAYMENT, of="p", cents=500, lines={"bank": 500, "suspense": -500})
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
    assert "Your building&#39;s battery, shared by all its apartments" in words
    assert "shall keep at least 75 % for the building" in words
    assert "Your building&#39;s solar today" in words
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
    assert "Your sharing weight is 3 from 20 January 2027 on." in words
    assert "Your sharing weight is 1 ." in words
    with database.reads.begin() as connection:
        (dated,) = load_registry_around(connection, HOUSE).accounts[HOUSE].weights
        assert load_registry_around(connection, BEFORE).accounts[BEFORE].weights == ()
        (entry,) = audit_log.entries(connection, audit_log.Wanted(action="weight"), 9)
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
