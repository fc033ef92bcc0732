"""Stored days of the demonstration's past again: as they were, with a gap, with a dead feeder and other batteries."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from commonwatt.demo.parts import unpack
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import Scenario
from harness.console import Browser
from harness.network.waiting import eventually
from scenarios.cli import app
from utility.access.people import Role
from utility.database.database import Database, open_database
from utility.replay import decisions, pages
from utility.replay.decisions import Replayed, replay
from utility.replay.pages import scenario_of

DAY = date(2026, 6, 15)
QUARTER = 20_619 * 96 + 40  # a quarter-hour of the day
Browsers = Callable[..., Browser]


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("past")
    unpack(folder)
    return folder / "utility" / "utility.db"


@pytest.fixture
def database(past: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{past}", create=False)
    yield opened
    opened.close()


def again(database: Database, policy: str = "spec", **changes: object) -> Replayed:
    scenario = Scenario.model_validate({"title": "again", "start": DAY, "days": 1, **changes})
    return replay(database, scenario, policy, None, "town", lambda *_: None)


@contextmanager
def a_reading_missing(past: Path) -> Iterator[None]:
    """Take a quarter-hour of house 2 of r002 away, and bring it back."""
    engine = create_engine(f"sqlite:///{past}")
    with engine.begin() as connection:
        number = connection.execute(text("SELECT no FROM meter WHERE id = 20001")).scalar()
        where = f"quarter = {QUARTER} AND meter_no = {number} AND record_type = 2"
        kept = connection.execute(text(f"SELECT * FROM compacted WHERE {where}")).mappings().one()
        connection.execute(text(f"DELETE FROM compacted WHERE {where}"))
    yield
    with engine.begin() as connection:
        names = ", ".join(f":{name}" for name in kept)
        connection.execute(text(f"INSERT INTO compacted ({', '.join(kept.keys())}) VALUES ({names})"), dict(kept))
    engine.dispose()


def test_with_nothing_changed_days_are_as_they_were_and_one_that_lacks_a_reading_is_left_out(
    past: Path, database: Database
) -> None:
    with a_reading_missing(past):
        found = again(database)
    # What settlement makes of the rounded readings of buildings is more than 1 % of the apartments' export.
    left_out = {(row.microgrid, row.why) for row in found.left_out}
    assert left_out == {("apt", "differs by 1.1 % from what was settled"), ("r002", "lacks readings")}
    assert found.near["days_of_microgrids"] == 2
    assert found.near["worst_percent"] <= 1
    assert {row.more for row in found.accounts} == {0}
    assert any(row.was for row in found.accounts), "the month has bills"
    homes = [row for row in found.places if row.microgrid == "r001"]
    assert all((row.gave, row.received) == (row.would_give, row.would_receive) for row in homes)
    assert sum(row.gave for row in homes) == sum(row.received for row in homes) > 10**7
    assert not any(row.would_be_dark_h for row in found.places)
    assert not any(row.gave for row in found.places if row.microgrid == "r002")


def test_what_the_town_does_not_have_is_refused_by_name(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    outage, battery = {"what": "feeder", "from_hour": 0, "for_hours": 1}, {"place": "house 77", "kwh": 3}
    with pytest.raises(ConfigError, match="no microgrid r9"):
        again(database, outage=[outage | {"microgrid": "r9"}])
    with pytest.raises(ConfigError, match=r"nothing changes at .* house 77"):
        again(database, battery=[battery])
    with pytest.raises(ConfigError, match="policy: there are none, no-sharing"):
        again(database, policy="mine")
    monkeypatch.setattr(decisions, "MOST_ENERGIES", 10**5)
    with pytest.raises(ConfigError, match="at most 4 days"):
        again(database, days=5)


def test_the_form_says_what_is_wrong_and_leads_to_the_result(browser: Browsers) -> None:
    viewer, clerk = browser(Role.VIEWER), browser(Role.CLERK)
    assert "Our own days, otherwise" in viewer.get("/console/replay").text
    wrong = viewer.post("/console/replay", {"from": "2026-06-15", "to": "tomorrow"})
    assert (wrong.status_code, "give two days" in wrong.text) == (422, True)
    for tariff in ("x v" + "9" * 5_000, "town v99999999999999999999", "town v\u0661\u0662"):
        asked = {"from": str(DAY), "to": str(DAY), "tariff": tariff}
        assert viewer.post("/console/replay", asked).status_code == 422, tariff
    assert "battery" in viewer.post("/console/replay", {"from": str(DAY), "to": str(DAY), "battery.kwh": "x"}).text
    begun = viewer.post("/console/replay", {"from": str(DAY), "to": str(DAY), "policy": "no-sharing"})
    works = viewer.app.state.console.api.works
    eventually(lambda: not works.newest()[0].is_open)
    work = works.newest()[0]
    assert (begun.status_code, work.fault) == (303, "")
    page = viewer.get(work.path).text
    assert "3</b> days of microgrids count" in page
    assert "Who goes dark, who helps" in page
    assert "Who pays" not in page, "a viewer sees how many accounts pay more, and no account"
    assert "Accounts by how much more" in page
    assert "Who pays" in clerk.get(work.path).text
    both = [each.get(f"{work.path}/rows.json").json() for each in (viewer, clerk)]
    assert both[1].keys() - both[0].keys() == {"who pays"}
    assert {"left out", "worst_percent"} <= both[0].keys()
    rows = both[0]["who goes dark, who helps"]
    assert sum(row["gave"] for row in rows) > 0
    assert sum(row["would_give"] + row["would_receive"] for row in rows) == 0, "no home gives or receives"
    assert browser(Role.RESIDENT, account=1).get("/console/replay").status_code == 403
    assert viewer.get("/console/replay/none").status_code == 404


def test_a_replay_is_cancelled_on_its_page_by_its_person_alone(
    browser: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer, clerk, go = browser(Role.VIEWER), browser(Role.CLERK), Event()

    def lasting(*asked: Any) -> None:
        for day in range(10**9):
            asked[-1](day, 10**9)
            go.wait(0.01)

    monkeypatch.setattr(pages, "replay", lasting)
    asked = {"from": "2026-01-01", "to": "2026-12-31"}
    assert "at most 366 days" in viewer.post("/console/replay", {**asked, "to": "2027-01-02"}).text
    path = viewer.post("/console/replay", asked).headers["location"]
    assert path in viewer.post("/console/replay", asked).text, "one of a person; the page of the other is named"
    assert ("Cancel it" in viewer.get(path).text, "Cancel it" in clerk.get(path).text) == (True, False)
    assert clerk.post(f"{path}/cancel").status_code == 409
    assert viewer.post(f"{path}/cancel").status_code == 303
    eventually(lambda: "viewer cancelled it" in viewer.get(path).text)
    assert viewer.post(f"{path}/cancel").status_code == 409


def test_a_form_is_a_scenario() -> None:
    given = {
        "from": "2026-12-01",
        "to": "2027-02-28",
        "outage.from_hour": "18",
        "outage.for_hours": "2",
        "battery.kwh": "",
    }
    made = scenario_of(given | {"battery.minimum_percent": "30"}, date(2027, 3, 1))
    with pytest.raises(ConfigError, match="to: has to be a day from 2007-01-31 to 2027-02-15"):
        scenario_of(given, date(2027, 2, 15))
    assert (made.days, made.outage[0].what, made.battery[0].minimum_percent) == (90, "feeder", 30)


def test_a_dead_feeder_leaves_homes_dark_and_the_command_writes_what_the_page_shows(past: Path, tmp_path: Path) -> None:
    (tmp_path / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{past}"\n')
    (tmp_path / "cut.toml").write_text(
        'title = "The line of r001 is cut"\nstart = 2020-01-01\nstart_hour = 20\n'
        '[[outage]]\nwhat = "feeder"\nmicrogrid = "r001"\nfrom_hour = 2\nfor_hours = 20\n'
        '[[battery]]\nmicrogrid = "r001"\nkwh = 3\n'
    )
    words = ["run", str(tmp_path / "cut.toml"), "--readings", str(DAY), str(DAY)]
    words += ["--config", str(tmp_path / "utility.toml"), "--out", str(tmp_path)]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "days of microgrids 3, worst percent 0." in done.output
    made = json.loads((tmp_path / "cut.json").read_text())
    assert list(made["policies"]) == ["as it was", "spec"]
    places, accounts = made["who goes dark, who helps"], made["who pays"]
    assert {row["microgrid"] for row in places if row["would_be_dark_h"]} == {"r001"}
    assert not any(row["was_dark_h"] for row in places)
    others = [row for row in places if row["microgrid"] == "r002"]
    assert all((row["gave"], row["received"]) == (row["would_give"], row["would_receive"]) for row in others)
    # Of ten homes that exported all day; each is of one account.
    assert {row["account"] for row in accounts if row["more"] not in (0, "0.00")} <= set(range(1, 11))
    wrong = CliRunner().invoke(app, ["run", "--readings", "2026-06-16", "2026-06-15"])
    assert "the second day is before the first" in " ".join(wrong.output.split())
