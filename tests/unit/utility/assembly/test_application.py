"""All services of a process share its routes, and nothing of one shows in another."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from commonwatt.town.loading import load_town
from harness.console import PASSWORD, Browser, standing_api
from harness.routes import ruled
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.assembly.application import collect_routes, make_app
from utility.database.database import open_database
from utility.registry.store.registration import fill_registry


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FastAPI]:
    """The application of another town, which has three microgrids."""
    path = tmp_path / "other.toml"
    path.write_text('microgrid = [{id = "s", kind = "residential", count = 3, houses = 2}]\n')
    database = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path))
    yield make_app(standing_api(database, NOW))
    database.close()


def microgrids(browser: Browser) -> list[str]:
    answer = browser.get("/status")
    assert answer.status_code == 200
    return sorted(answer.json()["microgrids"])


def test_two_services_of_a_process_answer_each_for_its_own_town(app: FastAPI, other: FastAPI) -> None:
    one, two = Browser(app, Role.VIEWER, name="ann"), Browser(other, Role.VIEWER, name="ann")
    for _ in range(2):
        assert microgrids(one) == ["r001", "r002"]
        assert microgrids(two) == ["s001", "s002", "s003"]
    one.cookies, two.cookies = two.cookies, one.cookies
    assert [each.get("/status").status_code for each in (one, two)] == [401, 401], "a session is of one service"


def test_what_a_service_counts_and_keeps_is_its_own(
    app: FastAPI, other: FastAPI, browser: Callable[..., Browser]
) -> None:
    Browser(app, Role.VIEWER, name="ann")
    Browser(other, Role.VIEWER, name="ann")
    answers = [
        browser().post("/console/login", {"name": "ann", "password": f"wrong {n}", "next": ""}).status_code
        for n in range(20)
    ]
    assert 429 in answers, "guesses are slowed down"
    right = {"name": "ann", "password": PASSWORD, "next": ""}
    assert Browser(other).post("/console/login", right).status_code == 303
    towns = [Browser(each, Role.VIEWER, name="bob").get("/console/town").text for each in (app, other)]
    assert [("r001" in text, "s003" in text) for text in towns] == [(True, False), (False, True)]


def test_a_route_of_one_service_is_none_of_another_and_collecting_anew_finds_the_same(
    app: FastAPI, other: FastAPI
) -> None:
    before = ruled(other)
    app.add_api_route("/planted", lambda: None)
    assert ruled(other) == before
    anew = FastAPI(openapi_url=None)
    anew.router.routes.extend(collect_routes())
    assert ruled(anew) == before
