"""The pages of the town, its microgrids and meters; its shared state, its outlook, and what Prometheus reads."""

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from commonwatt.look.palette import PowerFlow
from commonwatt.model.blocks import Blocks, make_blocks
from commonwatt.model.calendar import local_day
from commonwatt.model.records import EventRecord, State
from commonwatt.model.units import QUARTER_S, SLOTS
from commonwatt.protocol.controller_commands import Action, ControllerCommand
from commonwatt.runtime.clock import Clock
from commonwatt.town.town import Town
from harness.console import Browser, standing_api, text_of
from harness.surroundings.messages import a_heartbeat, append, register_in
from harness.surroundings.stored import sent, store
from tests.unit.utility.conftest import NOW
from tests.unit.utility.overview.test_overview import run as count_days
from utility.access.people import STAFF, Role
from utility.access.store.access import end_sessions
from utility.assembly.application import make_app
from utility.billing.store.witnesses import WITNESS
from utility.database.database import Database, read_setting, save_setting
from utility.database.town_zone import EMULATED_UNTIL, TOWN
from utility.outbox.changes import SawGateway
from utility.outbox.store import send
from utility.overview.pages.town import day_plot, figures_of, metrics_of
from utility.overview.pages.town_view import TownView
from utility.overview.town import SPAN, DayEnergy, QuarterEnergy, dear_spans, need_tomorrow, price_now
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.registry.store.accounts import end_places
from utility.settings import UtilitySettings
from utility.tariffs.tariff import parse_tariff
from utility.webkit.console.console import Console
from utility.webkit.console.live import SharedValue

QUARTER = NOW // QUARTER_S - 4  # of a day in New York with a readable hour: 15 January 2027, 04:23


def readings(meter: int, kind: int, value: int, quarters: range) -> Blocks:
    values = np.full((len(quarters), SLOTS), value)
    return make_blocks([(meter, kind, quarter) for quarter in quarters], values, np.full(values.shape, 2))


@pytest.fixture
def lively(database: Database, town: Town) -> Database:
    """A microgrid with readings, a report and a command's answer, and one that was never heard."""
    battery = next(m for m in town.microgrids["r001"].meters if m.battery)
    sharing = {battery.id: "too-close"}
    said = {"sharing": sharing, "levels": [750], "minima": {battery.id: (40, NOW - 600)}}
    power = {"end": NOW - 40, "sun_w": 4_000, "use_w": 2_500, "import_w": 0, "export_w": 300}
    seen = SawGateway(
        controller="r001",
        time=NOW - 20,
        heartbeat=a_heartbeat(
            time=NOW - 20,
            trust=3,
            band_permille=20,
            backlog_parts=7,
            power=power,
            saves={"line": ("quarters",)},
            **said,
        ),
        minima=((battery.id, 40, NOW - 600),),
    )
    shares = EventRecord(previous_state=1, new_state=1 | State.SHARING, record_id=1, meter_id=battery.id, time=NOW - 90)
    quarters = range(QUARTER - 8, QUARTER + 3)
    writer = Writer(database)
    writer.commit([seen, append(events=[(1, shares)])])
    for kind, value in ((1, 1_000), (2, 6_000_000), (3, 2_000)):
        writer.commit([sent("r001", readings(battery.id, kind, value, quarters))])
    compactor = Compactor(database)
    while (replacement := compactor.plan(NOW)) is not None:
        compactor.apply(replacement)
    return database


def test_every_page_opens_for_staff_and_for_nobody_else(app: FastAPI, lively: Database, town: Town) -> None:
    meter = town.microgrids["r001"].meters[0].id
    paths = ["town", "town/live", "microgrids", "microgrids/r001", "microgrids/r002/live", "meters", f"meters/{meter}"]
    paths += ["find?text=r00", "find/results?text=1"]
    for role in (Role.VIEWER, Role.RESIDENT):
        person = Browser(app, role, account=1 if role is Role.RESIDENT else None)
        codes = {person.get(f"/console/{path}").status_code for path in paths}
        assert codes == ({200} if role in STAFF else {403})


def test_the_town_shows_each_microgrid_and_then_only_what_changed(
    lively: Database, browser: Callable[..., Browser]
) -> None:
    viewer = browser(Role.VIEWER)
    page = viewer.get("/console/town")
    assert "1 late" in text_of(page)
    assert "r002 late" in text_of(page)
    assert 'id="m-r001" class="tile fresh battery-high heard-now line-unknown"' in page.text
    assert "use 2.5 kW; from sun 4.0 kW; to batteries 1.2 kW; to the town&#x27;s plant 0.3 kW" in page.text, (
        "the picture, in words"
    )
    assert "Mean of the minute that ended 40 seconds ago ; without 1 of 2 microgrids" in text_of(page)
    assert "Needs you ● Nothing" in text_of(page)
    live = viewer.get("/console/town/live?since=0")
    assert live.text.count('class="tile fresh') + live.text.count('class="tile late') == 2
    version = live.text.split("since=")[1].split('"')[0]
    assert 'class="tile' not in viewer.get(f"/console/town/live?since={version}").text


def test_a_browser_that_shows_the_town_asks_for_its_session_alone_and_is_dead_once_logged_out(
    lively: Database, browser: Callable[..., Browser]
) -> None:
    viewer, said = browser(Role.VIEWER), list[str]()
    live = viewer.get("/console/town/live?since=0").text
    event.listen(lively.reads, "before_cursor_execute", lambda *given: said.append(given[2]))
    assert viewer.get("/console/town/live?since=0").text == live, "made once for all browsers"
    (asked,) = (each for each in said if each != "BEGIN")
    assert "FROM session" in asked
    with lively.writes.begin() as connection:
        end_sessions(connection, viewer.name)
    assert viewer.get("/console/town/live?since=0").headers["location"].startswith("/console/login")


def test_a_microgrid_says_why_its_battery_does_not_share(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    viewer = browser(Role.VIEWER)
    text = text_of(viewer.get("/console/microgrids/r001"))
    assert "Less than 2 % of its capacity above its minimum: too close to share." in text
    assert "7 parts" in text
    assert "by itself, for the LTE line: whole quarter-hours are relayed" in text
    assert "If the line fails now Not projected: the first" in text
    capacity = next(m.battery.capacity for m in town.microgrids["r001"].meters if m.battery)
    level = f"{0.75e-6 * capacity:.1f} kWh"
    assert re.search(rf"{level} [0-9.]+ kWh [0-9.]+ kWh 20 seconds ago", text), "the level on which its gateway decided"
    for day in ("0001-01-01", "9999-12-31"):
        assert viewer.get(f"/console/microgrids/r001?day={day}").status_code == 422, day
    plot = viewer.get("/console/microgrids/r001/day.json?day=2027-01-15").json()
    assert {one["label"] for one in plot["series"]} <= {"sun", "batteries", "neighbours", "the town"}
    assert viewer.get("/console/microgrids/nowhere").status_code == 404


def test_a_day_of_a_changed_clock_has_92_or_100_quarter_hours(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    viewer, meter = browser(Role.VIEWER), town.microgrids["r001"].meters[0].id
    for day, quarters in (("2026-03-08", 92), ("2026-11-01", 100), ("2026-12-01", 96)):
        plot = viewer.get(f"/console/meters/{meter}/plot.json?what=through&from={day}&to={day}").json()
        assert (plot["end"] - plot["begin"]) // QUARTER_S == quarters


def test_times_of_pages_and_plots_are_those_of_the_town(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    register_in("America/Los_Angeles", lively, town)
    operator, meter = browser(Role.OPERATOR), town.microgrids["r001"].meters[0].id
    page = operator.get("/console/town")
    assert 'title="Town time: 15 Jan 2027 01:23:20"' in page.text
    assert 'data-zone="America/Los_Angeles"' in page.text, "for the plots"
    plot = operator.get(f"/console/meters/{meter}/plot.json?what=through&from=2027-01-14&to=2027-01-14").json()
    assert plot["begin"] == int(datetime.fromisoformat("2027-01-14T08:00Z").timestamp())
    assert 'value="2027-01-15T01:23"' in operator.get("/console/alarms/maintenance").text


def test_each_page_says_up_to_when_a_demonstration_is_emulated(
    lively: Database, browser: Callable[..., Browser]
) -> None:
    viewer = browser(Role.VIEWER)
    assert "emulated" not in text_of(viewer.get("/console/town"))
    with lively.writes.begin() as connection:
        save_setting(connection, EMULATED_UNTIL, str(NOW - 86_400))
    for page in ("/console/town", "/console/meters"):
        assert "Emulated: a program makes all of this town" in text_of(viewer.get(page))


def test_a_demonstration_says_how_fast_it_runs_and_shows_no_date_of_its_machine(lively: Database) -> None:
    with lively.writes.begin() as connection:
        save_setting(connection, EMULATED_UNTIL, str(NOW - 86_400))
    fast = Clock(origin=NOW, monotonic_origin=1e12, speed=60)
    in_2017 = datetime.fromisoformat("2017-07-14T00:00Z").timestamp()
    admin = Browser(make_app(standing_api(lively, NOW, clock=fast, machine_s=lambda: int(in_2017))), Role.ADMIN)
    for path in ("town", "account", f"users/{admin.name}", "users", "devices", "tokens", "account/second-factor"):
        page = text_of(admin.get(f"/console/{path}"))
        assert "15 Jan · 04:23 · 60 times as fast" in page, path
        assert "2017" not in page, path
    assert "Opened" in text_of(admin.get("/console/account"))


def test_a_meter_has_its_series_events_and_history(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    viewer = browser(Role.VIEWER)
    battery = next(m for m in town.microgrids["r001"].meters if m.battery)
    text = text_of(viewer.get(f"/console/meters/{battery.id}"))
    assert "began to share" in text
    assert f"{battery.location} in" in text
    assert "the beginning now" in text
    assert "Sharing minimum, as it reported: 40 % since 15 Jan 2027" in text
    address = f"/console/meters/{battery.id}/plot.json?what=generation&from=2027-01-15&to=2027-01-15"
    (line,) = viewer.get(address).json()["series"]
    values = [value for value in line["high"] if value is not None]
    assert (line["unit"], set(values)) == ("kW", {0.24})
    assert line["missing"] > 0
    five_years = f"/console/meters/{battery.id}/plot.json?what=settled&from=2022-01-16&to=2027-01-15"
    assert viewer.get(five_years).json()["series"] == []
    assert viewer.get(five_years.replace("settled", "through")).status_code == 422
    assert viewer.get(five_years.replace("2022", "2012")).status_code == 422
    assert viewer.get(f"/console/meters/{2**64}").status_code == 404


def test_the_newest_commands_of_a_microgrid_are_peoples_and_not_the_utilitys_own_requests(
    lively: Database, browser: Callable[..., Browser]
) -> None:
    asked = {"cmd": Action.WITNESS, "month": "2026-12", "code": 64 * "0"}
    with lively.writes.begin() as connection:
        reduce = ControllerCommand(id="a-person", cmd=Action.REDUCE, state="off", until=NOW + 60)
        send(connection, "r001", reduce, NOW - 600)
        for number in range(20):
            own = ControllerCommand.model_validate({"id": f"{WITNESS}-{number}", "until": NOW + 60, **asked})
            send(connection, "r001", own, NOW)
    page = browser(Role.VIEWER).get("/console/microgrids/r001")
    listed = page.text.partition("The newest commands to its gateway")[2].partition("</table>")[0]
    cells = re.findall(r'<th scope="row">(\w+)</th>', listed)
    assert "reduce" in cells
    assert "witness" not in cells


def test_search_lists_what_fits_and_goes_to_a_single_result(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    viewer, meter = browser(Role.VIEWER), town.microgrids["r002"].meters[0].id
    part = viewer.get("/console/find/results?text=r002")
    assert 'href="/console/microgrids/r002"' in part.text
    single = viewer.get(f"/console/find?text={meter}")
    assert (single.status_code, single.headers["location"]) == (303, f"/console/meters/{meter}")
    assert "Nothing is called so" in text_of(viewer.get("/console/find?text=%3Cscript%3E"))


def test_search_finds_accounts_first_and_the_pages_that_a_person_may_open(
    lively: Database, browser: Callable[..., Browser]
) -> None:
    def found(role: Role, text: str) -> list[str]:
        return re.findall(r'<a href="([^"]+)"', browser(role).get(f"/console/find/results?text={text}").text)

    assert found(Role.CLERK, "1")[0] == "/console/bills/1"
    assert found(Role.VIEWER, "1")[0].startswith("/console/meters/"), "the account's meter: a viewer opens no account"
    assert found(Role.CLERK, "bill")[:2] == ["/console/bills", "/console/runs"]
    assert "/console/bills" not in found(Role.VIEWER, "Bill")
    assert "/console/runs" in found(Role.VIEWER, "Bill")
    assert found(Role.VIEWER, "hours") == ["/console/lasting"]
    alarms = browser(Role.VIEWER).get("/console/find?text=alarm")
    assert (alarms.status_code, alarms.headers["location"]) == (303, "/console/alarms")


def test_completeness_of_days_is_asked_by_programs(lively: Database, browser: Callable[..., Browser]) -> None:
    viewer = browser(Role.VIEWER)
    asked = viewer.get("/completeness/days?first=2027-01-01&last=2027-01-31").json()
    assert (asked["days"], asked["total"]["expected"]) == ({}, 0), "no day is over that was counted"
    assert asked["pending"] == 1, "the compactor marked the day"
    assert viewer.get("/completeness/days?first=2027-01-31&last=2027-01-01").status_code == 422
    assert viewer.get("/console/completeness?month=2099-12").status_code == 200


def test_completeness_names_the_microgrids_that_lack_most(
    lively: Database, town: Town, browser: Callable[..., Browser]
) -> None:
    viewer = browser(Role.VIEWER)
    assert "No day of this month is counted yet." in text_of(viewer.get("/console/completeness"))
    battery = next(m for m in town.microgrids["r001"].meters if m.battery)
    yesterday = (QUARTER // 96 - 1) * 96
    store(lively, {"r001": readings(battery.id, 3, 5, range(yesterday, yesterday + 10))}, NOW)
    count_days(lively, NOW)
    text = text_of(viewer.get("/console/completeness"))
    assert "10.41 %" in text, "10 of 96 quarter-hours, never rounded up"
    assert f"{86 * 60:,}" in text
    assert "r001" in text
    assert viewer.get("/console/completeness?month=2027-13").status_code == 422
    assert "readings of the last month" not in viewer.get("/console/microgrids/r001").text
    with lively.writes.begin() as connection:
        figures = json.loads(read_setting(connection, TOWN) or "{}")
        save_setting(connection, TOWN, json.dumps(figures | {"street": "r001"}))
    assert f"{86 * 60:,} readings of the last month are not there" in text_of(viewer.get("/console/microgrids/r001"))


def test_page_of_a_street_that_runs_by_itself_has_a_households_words(lively: Database, tmp_path: Path) -> None:
    with lively.writes.begin() as connection:
        figures = json.loads(read_setting(connection, TOWN) or "{}")
        save_setting(connection, TOWN, json.dumps(figures | {"street": "r001", "name": "Sunny Lane"}))
    settings = UtilitySettings(second_factor="optional", site=tmp_path)
    viewer = Browser(make_app(standing_api(lively, NOW, settings=settings)), Role.VIEWER)
    pages = [text_of(viewer.get(f"/console/microgrids/r001{asked}")) for asked in ("", "?of=money", "?of=who", "/live")]
    for word in (
        "clique",
        "LTE",
        "Feeder",
        "Managed",
        "Managers",
        "Works by",
        "town",
        "Residential",
        "command",
        "Schedules",
    ):
        assert not [page for page in pages if re.search(rf"\b{word}", page, re.IGNORECASE)], word
    assert all("Last readings" in page for page in pages)
    assert "What energy from the grid costs" in pages[1]
    day = viewer.get(f"/console/microgrids/r001/day.json?day={local_day(NOW, ZoneInfo('UTC'))}").json()
    assert "the grid" in [line["label"] for line in day["series"]]


@pytest.mark.parametrize(
    ("codes", "says", "never"),
    [
        (
            ("low", "receiver"),
            ["but no other battery may share yet: they can only receive", "No battery gave in the last day"],
            "far enough",
        ),
        (
            ("low", "helps"),
            [" shares.", "Batteries share now. The first sums come a few minutes after"],
            "No battery",
        ),
    ],
)
def test_page_of_a_microgrid_does_not_contradict_itself_while_no_quarter_hour_is_over(
    database: Database, town: Town, browser: Callable[..., Browser], codes: tuple[str, str], says: list[str], never: str
) -> None:
    low, other = [m.id for m in town.microgrids["r001"].meters if m.battery][:2]
    beat = a_heartbeat(time=NOW - 20, trust=3, sharing=dict(zip((low, other), codes, strict=True)), levels=[300, 800])
    Writer(database).commit([SawGateway(controller="r001", time=NOW - 20, heartbeat=beat)])
    page = text_of(browser(Role.VIEWER).get("/console/microgrids/r001"))
    assert [words for words in says if words not in page] == []
    assert never not in page
    with database.writes.begin() as connection:
        end_places(connection, [other], "anna", NOW)
    gone = text_of(browser(Role.VIEWER).get("/console/microgrids/r001?of=who"))
    place = next(m.location for m in town.microgrids["r001"].meters if m.id == other)
    assert f"{other} {place} outgoing, removed" in gone
    assert gone.count(place) == 2, "in the list of meters alone"


class Counted:
    """A value that counts how often it was computed."""

    def __init__(self) -> None:
        self.now = 100
        self.times = 0

    def compute(self) -> int:
        self.times += 1
        return self.times

    def shared(self) -> SharedValue[int]:
        return SharedValue(self.compute, every_s=4, at_most_s=60, now=lambda: self.now)


def settled_after(shared: SharedValue[int], wanted: int) -> None:
    """Wait until the thread beside has computed a value."""
    ends = time.monotonic() + 10
    while shared.get() != wanted:
        assert time.monotonic() < ends
        threading.Event().wait(0.001)


def test_a_shared_value_is_computed_once_in_its_time() -> None:
    counted = Counted()
    shared = counted.shared()
    assert [shared.get() for _ in range(50)] == [1] * 50
    counted.now += 4
    assert shared.get() == 1, "a little old: nobody waits, the next is computed beside"
    settled_after(shared, 2)
    assert [shared.get() for _ in range(50)] == [2] * 50
    counted.now += 61
    assert shared.get() == 3, "too old: it is waited for"
    counted.now -= 1_000
    assert shared.get() == 4, "a clock that was set back must not keep an old value"


def test_a_value_that_is_too_old_is_computed_once_for_all_who_wait() -> None:
    begun, go_on, found = threading.Event(), threading.Event(), list[int]()
    counted = Counted()

    def compute() -> int:
        begun.set()
        assert go_on.wait(10)
        return counted.compute()

    shared = SharedValue(compute, every_s=4, at_most_s=60, now=lambda: counted.now)
    waiting = [threading.Thread(target=lambda: found.append(shared.get())) for _ in range(5)]
    for one in waiting:
        one.start()
    assert begun.wait(10)
    go_on.set()
    for one in waiting:
        one.join(10)
    assert found == [1] * 5


def test_a_fault_beside_is_met_by_the_request_that_finds_the_value_too_old(caplog: pytest.LogCaptureFixture) -> None:
    counted = Counted()

    def compute() -> int:
        if counted.compute() > 1:
            raise ValueError("damaged")
        return 1

    shared = SharedValue(compute, every_s=4, at_most_s=60, now=lambda: counted.now)
    assert shared.get() == 1
    counted.now += 10
    while counted.times < 2:
        assert shared.get() == 1
    counted.now += 100
    with pytest.raises(ValueError, match="damaged"):
        shared.get()
    assert "could not be computed" in caplog.text


@given(
    st.integers(1, 100),
    st.lists(st.integers(0, 300), min_size=1, max_size=30),
)
def test_every_quarter_of_the_day_is_read_soon_and_the_newest_often(passed: int, steps: list[int]) -> None:
    day, now, newest = DayEnergy(), 10**9, SPAN + passed - 1
    reads: dict[int, list[int]] = {}
    for step in [*steps, *[60] * 60]:
        now += step
        wanted = day.wanted(SPAN, newest, now)
        assert len(wanted) == len(set(wanted))
        for quarter in wanted[:7]:
            assert 0 <= quarter <= newest
            reads.setdefault(quarter, []).append(now)
            day.read(quarter, QuarterEnergy(net=1, blocks=5), now)
        assert now - reads[newest][-1] < 60
    assert set(reads) == set(range(SPAN + passed)), "the day, and the one before, are known after some looks"
    assert day.today(now).total.net == day.today(now).known == passed


def test_a_quarter_that_is_still_being_joined_is_not_the_present() -> None:
    day = DayEnergy()
    assert day.wanted(10, 11, 0)[:2] == [11, 10], "the newest comes first"
    for quarter, blocks in ((10, 1_000), (11, 400)):
        day.read(quarter, QuarterEnergy(net=900_000, sun=500_000, charged=400_000, blocks=blocks), 0)
    found = day.today(12 * 900)
    assert (found.quarter, found.start, found.known, found.passed) == (10, 9_000, 2, 2)
    assert (found.net_w, found.used_w) == (3_600, 4_000)
    day.read(11, QuarterEnergy(net=900_000, blocks=990), 60)
    assert day.today(12 * 900).quarter == 11
    assert 96 in day.wanted(96, 96, 97 * 900)
    found = day.today(97 * 900)
    assert (found.quarter, found.known, found.total.net, found.own_permille) == (11, 0, 0, None), (
        "a new day has nothing yet"
    )
    assert day.wanted(192, 192, 200 * 900)[0] == 192, "what is older than 24 hours is forgotten"
    assert day.today(200 * 900).quarter is None


def test_before_the_first_reading_no_quarter_has_passed_and_a_day_counts_from_it_on() -> None:
    day, now = DayEnergy(), 500 * 900
    assert day.today(now).passed == 0
    for quarter in day.wanted(480, 498, now):
        day.read(quarter, QuarterEnergy(net=1, blocks=5 * (quarter >= 497)), now)
    assert (day.today(now).known, day.today(now).passed) == (2, 3)


def test_tomorrows_sun_is_that_of_the_last_24_hours_if_they_are_known() -> None:
    day = DayEnergy()
    day.wanted(40, 95, 96 * 900)
    for quarter in range(5, 96):
        day.read(quarter, QuarterEnergy(sun=1_000, blocks=9), 0)
    assert day.today(96 * 900).sun_of_24_h is None
    day.read(4, QuarterEnergy(sun=1_000, blocks=9), 0)
    assert day.today(96 * 900).sun_of_24_h == 96_000


def test_the_own_part_of_the_towns_day_fits_the_figures_beside_it() -> None:
    day = DayEnergy()
    day.wanted(0, 1, 0)
    day.read(0, QuarterEnergy(net=3_000_000, blocks=10), 0)
    day.read(1, QuarterEnergy(net=-5_000_000, sun=12_000_000, blocks=10), 0)
    today = day.today(2 * 900)
    used, _, _, bought = (each["value"] for each in figures_of(today))
    assert (used, bought) == ("10.0 kWh", "3.0 kWh"), "what was given later takes nothing off"
    assert today.own_permille == 700


_ENERGY = st.integers(0, 10**9)


@given(st.integers(-(10**9), 10**9), _ENERGY, st.integers(-(10**9), 10**9), _ENERGY)
def test_what_was_used_is_the_sum_of_its_sources(net: int, sun: int, charged: int, given: int) -> None:
    energy = QuarterEnergy(net=net, sun=sun, charged=charged, given=given, blocks=1)
    found = energy.by_source()
    assert sum(found.values()) == max(0, energy.used)
    assert min(found.values()) >= 0
    assert found[PowerFlow.SUN] <= sun


def test_the_days_plot_leaves_a_gap_where_a_quarter_hour_is_unknown() -> None:
    day = DayEnergy()
    day.wanted(0, 2, 0)
    for quarter in (0, 2):
        day.read(quarter, QuarterEnergy(net=1_000_000, sun=500_000, charged=-250_000, blocks=10), 0)
    plot = day_plot(day.today(3 * 900))
    assert plot["note"] == "94 of 96 quarter-hours of the last day are not shown: without readings, or being read."
    assert {one["flow"]: one["high"][-3:] for one in plot["series"]} == {
        "sun": [2.0, None, 2.0],
        "battery": [1.0, None, 1.0],
        "neighbours": [0.0, None, 0.0],
        "plant": [4.0, None, 4.0],
    }


ZONE = ZoneInfo("America/New_York")
TARIFF = """
[tariff]
name = "town"
effective = "2026-01-01"
timezone = "America/New_York"
base = "15.00"
text = "All homes"
[policy]
name = "spec"
[[period]]
name = "peak"
import = "0.32"
credit = "0.32"
[[period]]
name = "off-peak"
import = "0.18"
credit = "0.18"
[[hours]]
period = "off-peak"
days = ["every"]
from = "00:00"
until = "15:00"
[[hours]]
period = "peak"
days = ["every"]
from = "15:00"
until = "19:00"
[[hours]]
period = "off-peak"
days = ["every"]
from = "19:00"
until = "24:00"
"""


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp())


def test_the_price_now_has_its_period_and_the_next_price() -> None:
    found = price_now([parse_tariff(TARIFF)], at("2026-11-24T14:10"))
    assert found is not None
    assert (found.period, str(found.dollars)) == ("off-peak", "0.18")
    assert found.until == at("2026-11-24T15:00")
    assert price_now([parse_tariff(TARIFF)], at("2025-11-24T14:10")) is None, "the tariff begins later"


def test_the_dear_hours_are_those_of_the_highest_price_alone() -> None:
    begin = at("2026-11-01T00:00") // 900  # a day of 25 hours
    assert dear_spans([parse_tariff(TARIFF)], begin, begin + 100) == [(at("2026-11-01T15:00"), at("2026-11-01T19:00"))]
    flat = parse_tariff(TARIFF.replace('"0.32"', '"0.18"'))
    assert dear_spans([flat], begin, begin + 100) == [], "one price all day has no dear hours"


def test_tomorrows_need_is_that_of_whole_days_of_its_kind() -> None:
    friday = at("2026-11-27T12:00")  # tomorrow is a Saturday
    net = dict.fromkeys(range(at("2026-11-21T00:00") // 900, at("2026-11-22T00:00") // 900), 1)
    net |= dict.fromkeys(range(at("2026-11-15T00:00") // 900, at("2026-11-16T00:00") // 900), 3)
    net |= dict.fromkeys(range(at("2026-11-23T00:00") // 900, friday // 900), 9)
    found = need_tomorrow(net, friday, ZONE)
    assert found is not None
    assert (found.expected, found.least, found.most, found.days) == (96, 96, 288, 2)
    del net[at("2026-11-21T10:00") // 900]
    half = need_tomorrow(net, friday, ZONE)
    assert half is not None
    assert (half.expected, half.days) == (288, 1), "a day that is not whole says nothing"
    assert need_tomorrow({}, friday, ZONE) is None


def test_microgrids_are_counted_by_state(app: FastAPI, browser: Callable[..., Browser]) -> None:
    shown = browser().get("/metrics").text
    # The town's two gateways have not reported yet.
    assert 'commonwatt_utility_microgrids{state="late"} 2.0' in shown
    assert 'commonwatt_utility_microgrids{state="fresh"} 0.0' in shown
    assert 'commonwatt_utility_missing_slots{period="yesterday"} 0.0' in shown
    assert "commonwatt_utility_town_watts{" not in shown, "without a reading there is no power"
    console: Console = app.state.console
    assert metrics_of(TownView(console.api).get())["town_watts"] == {}


def test_other_metrics_are_served_when_the_town_can_not_be_read(
    browser: Callable[..., Browser], monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(_: TownView) -> None:
        raise OperationalError("SELECT", {}, Exception("disk I/O error"))

    monkeypatch.setattr(TownView, "get", damaged)
    answer = browser().get("/metrics")
    assert answer.status_code == 200
    assert "commonwatt_utility_store_errors_total 0.0" in answer.text
    assert "commonwatt_utility_microgrids{" not in answer.text
