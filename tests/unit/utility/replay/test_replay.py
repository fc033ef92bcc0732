"""Stored days of the demonstration's past again: as they were, with a gap, with a dead feeder and other batteries."""

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from typer.testing import CliRunner

from commonwatt.demo.past import unpack
from commonwatt.model.exceptions import ConfigError
from commonwatt.town.scenario import ChangedBattery, Outage, Scenario
from harness.console import Browser
from scenarios.cli import app
from utility.access.roles import Role
from utility.database.database import Database, open_database
from utility.replay import decisions
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


def test_with_nothing_changed_days_are_as_they_were_settled(database: Database) -> None:
    found = again(database)
    # What settlement makes of the rounded readings of buildings is more than 1 % of the apartments' export.
    assert [(row.microgrid, row.why) for row in found.left_out] == [("apt", "differs by 1.1 % from what was settled")]
    assert found.near["days_of_microgrids"] == 3
    assert found.near["worst_percent"] <= 1
    assert {row.more for row in found.accounts} == {0}
    assert any(row.was for row in found.accounts), "the month has bills"
    homes = [row for row in found.places if row.microgrid == "r001"]
    assert all((row.gave, row.received) == (row.would_give, row.would_receive) for row in homes)
    assert sum(row.gave for row in homes) == sum(row.received for row in homes) > 10**7
    assert not any(row.would_be_dark_h for row in found.places)


def test_a_dead_feeder_leaves_homes_dark_and_neighbours_help_otherwise(database: Database) -> None:
    outage = Outage(what="feeder", microgrid="r001", from_hour=2, for_hours=16)
    battery = ChangedBattery(microgrid="r001", kwh=4)
    found = again(database, outage=[outage], battery=[battery])
    dark = {row.microgrid for row in found.places if row.would_be_dark_h}
    assert dark == {"r001"}
    assert not any(row.was_dark_h for row in found.places)
    others = [row for row in found.places if row.microgrid == "r002"]
    assert all((row.gave, row.received) == (row.would_give, row.would_receive) for row in others)
    # Of ten homes that exported all day; each is of one account.
    assert {row.account for row in found.accounts if row.more} <= set(range(1, 11))


def test_without_sharing_no_home_helps(database: Database) -> None:
    found = again(database, policy="no-sharing")
    assert sum(row.gave for row in found.places) > 0
    assert sum(row.would_give + row.would_receive for row in found.places) == 0


def test_a_day_that_lacks_a_reading_is_left_out_by_name(past: Path, database: Database) -> None:
    engine = create_engine(f"sqlite:///{past}")
    with engine.begin() as connection:
        number = connection.execute(text("SELECT no FROM meter WHERE id = 20001")).scalar()
        where = f"quarter = {QUARTER} AND meter_no = {number} AND record_type = 2"
        kept = connection.execute(text(f"SELECT * FROM compacted WHERE {where}")).mappings().one()
        connection.execute(text(f"DELETE FROM compacted WHERE {where}"))
    found = again(database)
    with engine.begin() as connection:
        names = ", ".join(f":{name}" for name in kept)
        connection.execute(text(f"INSERT INTO compacted ({', '.join(kept.keys())}) VALUES ({names})"), dict(kept))
    engine.dispose()
    assert ("r002", "lacks readings") in {(row.microgrid, row.why) for row in found.left_out}
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
    assert "battery" in viewer.post("/console/replay", {"from": str(DAY), "to": str(DAY), "battery.kwh": "x"}).text
    begun = viewer.post("/console/replay", {"from": str(DAY), "to": str(DAY), "policy": "no-sharing"})
    work = viewer.app.state.console.api.works.newest()[0]
    while work.is_open:
        work = viewer.app.state.console.api.works.find(work.id)
    assert (begun.status_code, work.fault) == (303, "")
    page = viewer.get(work.path).text
    assert "3</b> days of microgrids count" in page
    assert "Who goes dark, who helps" in page
    assert "Who pays" not in page, "a viewer sees how many accounts pay more, and no account"
    assert "Accounts by how much more" in page
    assert "Who pays" in clerk.get(work.path).text
    both = [set(each.get(f"{work.path}/rows.json").json()) for each in (viewer, clerk)]
    assert both[1] - both[0] == {"who pays"}
    assert {"left out", "worst_percent"} <= both[0]
    assert browser(Role.RESIDENT, account=1).get("/console/replay").status_code == 403
    assert viewer.get("/console/replay/none").status_code == 404


def test_a_form_is_a_scenario() -> None:
    given = {
        "from": "2026-12-01",
        "to": "2027-02-28",
        "outage.from_hour": "18",
        "outage.for_hours": "2",
        "battery.kwh": "",
    }
    made = scenario_of(given | {"battery.minimum_percent": "30"})
    assert (made.days, made.outage[0].what, made.battery[0].minimum_percent) == (90, "feeder", 30)


def test_the_command_writes_the_rows_of_the_page_beside_what_was(past: Path, tmp_path: Path) -> None:
    (tmp_path / "utility.toml").write_text(f'[utility]\ndatabase = "sqlite:///{past}"\n')
    (tmp_path / "cut.toml").write_text(
        'title = "The line of r002 is cut"\nstart = 2020-01-01\nstart_hour = 20\n'
        '[[outage]]\nwhat = "feeder"\nmicrogrid = "r002"\nfrom_hour = 2\nfor_hours = 20\n'
        '[[battery]]\nmicrogrid = "r002"\nkwh = 3\n'
    )
    words = ["run", str(tmp_path / "cut.toml"), "--readings", str(DAY), str(DAY), "--policy", "aces"]
    words += ["--config", str(tmp_path / "utility.toml"), "--out", str(tmp_path)]
    done = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "days of microgrids 3, worst percent 0." in done.output
    made = json.loads((tmp_path / "cut.json").read_text())
    assert list(made["policies"]) == ["as it was", "aces"]
    assert {row["microgrid"] for row in made["who goes dark, who helps"] if row["would_be_dark_h"]} == {"r002"}
    assert "<h2>who pays</h2>" in (tmp_path / "cut.html").read_text()
    wrong = CliRunner().invoke(app, ["run", "--readings", "2026-06-16", "2026-06-15"])
    assert "the second day is before the first" in " ".join(wrong.output.split())
