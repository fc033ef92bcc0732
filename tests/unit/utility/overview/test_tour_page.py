"""The tour's page is there in a demonstration only; its buttons need an operator's login, and leave an order."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI

from commonwatt.demo.tour import ORDERS, STAGE, STEPS, Tour
from harness.console import Browser, faults_of_words, standing_api, text_of, words_of
from harness.routes import ruled
from tests.unit.utility.conftest import NOW
from utility.access.people import STAFF, Role
from utility.access.store.audit_log import AuditFilter, entries
from utility.assembly.application import make_app
from utility.database.database import Database
from utility.settings import UtilitySettings

PAGE = "/console/tour"
SAID = {"at": NOW - 60, "what": "r001 is an island.", "does": "Its switch is open.", "page": "/console/town"}


@pytest.fixture
def settings(settings: UtilitySettings, tmp_path: Path) -> UtilitySettings:
    """The settings of a demonstration."""
    return settings.model_copy(update={"clock": tmp_path / "clock.json"})


@pytest.fixture
def tour(tmp_path: Path) -> Tour:
    """What the supervisor shows."""
    shown = Tour(STEPS)
    (tmp_path / ORDERS).mkdir()
    show(shown, tmp_path)
    return shown


def show(tour: Tour, folder: Path, is_good: bool = True) -> None:
    audit = {"is_good": is_good, "words": "audit: it is as it is"}
    (folder / STAGE).write_text(json.dumps({"audit": audit, "said": [SAID], "steps": tour.shown()}))


def ordered(folder: Path) -> list[str]:
    return [one.name for one in (folder / ORDERS).iterdir()]


@pytest.mark.parametrize("changes", [{"clock": None}, {"http": "0.0.0.0:8080"}])
def test_without_a_demonstration_on_this_machine_there_is_no_tour(
    database: Database, settings: UtilitySettings, changes: dict[str, object]
) -> None:
    app = make_app(standing_api(database, NOW, settings=settings.model_copy(update=changes)))
    operator = Browser(app, Role.OPERATOR)
    assert operator.get(PAGE).status_code == 404
    assert operator.post(f"{PAGE}/feeder").status_code == 404
    assert PAGE not in operator.get("/console/account").text


def test_the_page_is_for_staff_and_its_buttons_for_operators_who_are_logged_in(app: FastAPI) -> None:
    found = {route.method: route for route in ruled(app) if route.path.startswith(PAGE)}
    assert found["GET"].roles == frozenset(STAFF)
    assert (found["POST"].roles, found["POST"].session) == (frozenset({Role.OPERATOR}), True)


@pytest.mark.usefixtures("tour")
@pytest.mark.parametrize("role", [None, *(role for role in Role if role is not Role.OPERATOR)])
def test_nobody_but_an_operator_orders_a_step(
    browser: Callable[..., Browser], tmp_path: Path, role: Role | None
) -> None:
    person = browser(*[role] if role else [])
    answer = person.post(f"{PAGE}/feeder")
    assert answer.status_code == (403 if role else 303)
    assert ordered(tmp_path) == []
    assert f'action="{PAGE}/' not in person.get(PAGE).text


@pytest.mark.usefixtures("tour")
def test_a_button_without_the_secret_of_its_session_orders_nothing(
    browser: Callable[..., Browser], tmp_path: Path
) -> None:
    answer = browser(Role.OPERATOR).send("POST", f"{PAGE}/feeder", data={"csrf": "another"})
    assert answer.status_code == 403
    assert ordered(tmp_path) == []


def test_an_operator_orders_a_step_which_the_audit_log_has_and_a_running_one_is_refused(
    browser: Callable[..., Browser], database: Database, tour: Tour, tmp_path: Path
) -> None:
    operator = browser(Role.OPERATOR)
    page = operator.get(PAGE)
    assert faults_of_words(words_of(page.text)) == []
    shown = text_of(page)
    for words in ("● audit: it is as it is", "r001 is an island.", "1. Cut a feeder", "○ idle", "8. Make a release"):
        assert words in shown
    assert f'href="{PAGE}" aria-current="page"' in page.text, "it is in the navigation"
    answer = operator.post(f"{PAGE}/feeder")
    assert "Cut a feeder: the supervisor does it now" in operator.get(answer.headers["location"]).text
    assert ordered(tmp_path) == ["feeder"]
    with database.reads.begin() as connection:
        (row,) = entries(connection, AuditFilter(action="tour."), 9)
    assert (row["person"], row["subject"]) == ("operator", "step feeder")
    tour.handle(["feeder"], NOW, "")
    show(tour, tmp_path, is_good=False)
    shown = text_of(operator.get(PAGE))
    assert "▲ audit: it is as it is" in shown
    assert "▲ running since" in shown
    assert "It takes 30 min of the town's time, and up to half an hour more until the switch closes" in shown
    again = operator.post(f"{PAGE}/feeder")
    assert (again.status_code, "this runs already; wait until it is well again" in again.text) == (409, True)
    unknown = operator.post(f"{PAGE}/price")
    assert (unknown.status_code, "does no such step" in unknown.text) == (409, True)


def test_a_supervisor_that_does_not_run_is_said(browser: Callable[..., Browser]) -> None:
    operator = browser(Role.OPERATOR)
    assert operator.get(PAGE).status_code == 404
    answer = operator.post(f"{PAGE}/feeder")
    assert (answer.status_code, "not the stage of a demonstration that runs" in answer.text) == (409, True)


@pytest.mark.usefixtures("tour")
def test_bills_are_checked_by_the_console_itself(browser: Callable[..., Browser], tmp_path: Path) -> None:
    operator = browser(Role.OPERATOR)
    answer = operator.post(f"{PAGE}/bill")
    assert "no issued bills yet: nothing was checked" in operator.get(answer.headers["location"]).text
    assert ordered(tmp_path) == []
