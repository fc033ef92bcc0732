"""People see who manages each microgrid, since when and why: on pages, by the API and at the terminal."""

from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from commonwatt.model.time.times import iso
from commonwatt.runtime.metric_families import AtEachScrape
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.commands import run_as, shown
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.takeover.test_groups import begun
from utility.access.roles import Role
from utility.database.database import Database
from utility.takeover.grants import Granted
from utility.takeover.history import BEGAN, GRANTED, Handover
from utility.takeover.metrics import takeover_metrics
from utility.takeover.store import KEEP_S, explained, keep_orders, save

WHY = "granted: r001 gave no sign for 4.3 s"


@pytest.fixture
def town(tmp_path: Path) -> Town:
    path = tmp_path / "town.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 4, houses = 2}]\n')
    return load_town(path)


@pytest.fixture
def taken(database: Database) -> Database:
    """The microgrid r001 was taken over by r002 ten minutes ago; r004 is in no clique."""
    names = ("r001", "r002", "r003")
    first = Handover(microgrid="r001", epoch=(1, 1), controller="r001", before="", how=BEGAN, why="first start")
    second = Handover(microgrid="r001", epoch=(2, 2), controller="r002", before="r001", how=GRANTED, why=WHY)
    with database.writes.begin() as connection:
        keep_orders(connection, {name: names[at:] + names[:at] for at, name in enumerate(names)})
        save(connection, {}, [first], NOW - 86_400)
        save(connection, {"r001": Granted(adopted=(2, 2), seen=(2, 2), top=2)}, [second], NOW - 600)
    return database


def test_the_api_says_who_manages_what_and_who_did(taken: Database, browser: Callable[..., Browser]) -> None:
    del taken
    viewer = browser(Role.VIEWER)
    rows = {one["microgrid"]: one for one in viewer.get("/assignments").json()["assignments"]}
    assert rows["r001"] == {
        "microgrid": "r001", "order": ["r001", "r002", "r003"], "manager": "r002", "since": iso(NOW - 600),
        "why": WHY, "epoch": [2, 2], "unmanaged_s": 0,
    }  # fmt: skip
    assert (rows["r002"]["manager"], rows["r002"]["why"]) == ("", "no controller has confirmed that it manages it")
    assert (rows["r004"]["manager"], rows["r004"]["why"]) == ("r004", "it is in no clique")
    found = viewer.get("/assignments/r001").json()
    assert [(one["controller"], one["why"]) for one in found["history"]] == [("r002", WHY), ("r001", "first start")]
    assert viewer.get("/assignments/r009").status_code == 404


def test_pages_show_a_microgrid_that_another_controller_manages(
    taken: Database, browser: Callable[..., Browser]
) -> None:
    del taken
    viewer = browser(Role.VIEWER)
    page = text_of(viewer.get("/console/microgrids/r001"))
    assert "managed by r002" in page
    assert WHY in page
    page = text_of(viewer.get("/console/microgrids/r001?of=who"))
    assert "It may be managed by r001, then r002, then r003." in page
    assert "first start" in page
    assert "It may be managed" not in text_of(viewer.get("/console/microgrids/r004?of=who"))
    assert "managed by r002" in viewer.get("/console/town").text


def test_the_command_prints_the_table_and_explains_one(taken: Database, tmp_path: Path) -> None:
    config = tmp_path / "utility.toml"
    config.write_text(f'[utility]\ndatabase = "{taken.reads.url}"\n')
    listed = " ".join(run_as(config, "show", "assignments").split())
    assert "r001 r001, r002, r003 r002" in listed
    told = " ".join(run_as(config, "show", "assignments", "r001").split())
    assert WHY in told
    assert "first start" in told
    rows = shown(config, "assignments")["assignments"]
    assert [one["manager"] for one in rows] == ["r002", "", "", "r004"]


def test_the_history_is_kept_for_a_year_and_the_present_manager_for_ever(taken: Database) -> None:
    later = Handover(microgrid="r002", epoch=(1, 2), controller="r002", before="", how=BEGAN, why="first start")
    with taken.writes.begin() as connection:
        save(connection, {}, [later], NOW + 2 * KEEP_S)
        found = explained(connection, {}, "r001")
    assert (found.assignment.manager, len(found.history)) == ("r002", 1)


def test_metrics_count_managers_handovers_and_false_takeovers() -> None:
    town = begun()
    town.controllers["r001"].alive = False
    town.run(6)
    town.controllers["r001"].alive = True
    town.controllers["r001"].manages.discard("r001")
    town.run(10)
    registry = CollectorRegistry()
    registry.register(AtEachScrape(lambda: takeover_metrics(town.groups, {"repeated": 2}, town.now)))
    page = generate_latest(registry).decode()
    for line in (
        'managed_microgrids{controller="r002"} 2.0',
        'managed_by_another{controller="r001"} 1.0',
        'handovers_total{controller="r001"} 1.0',
        'handovers_total{controller="r003"} 0.0',
        'takeovers_total{how="granted"} 1.0',
        'unmanaged_seconds{controller="r001"} 0.0',
        "false_takeovers_total 1.0",
        'refused_datagrams_total{reason="repeated"} 2.0',
        'refused_datagrams_total{reason="of no session"} 0.0',
    ):
        assert f"commonwatt_utility_{line}\n" in page
