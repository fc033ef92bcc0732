"""Devices that a controller hears: asked for once at a time, kept until the next answer, checked as foreign text."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import func, select

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import ControllerOutcome
from commonwatt.protocol.reports import compressed, report_of
from harness.console import Browser
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.database.database import Database
from utility.discovery.cards import UNREADABLE
from utility.discovery.decisions import VALID_S, ask
from utility.discovery.store import newest
from utility.fleet.store import reports_of
from utility.outbox.store import open_commands
from utility.outbox.tables import command, controller_report
from utility.overview.store.microgrid import newest_commands
from utility.readings.sending import Sending
from utility.readings.store.writer import Writer
from utility.webkit.rights import CSRF_HEADER

CARD: dict[str, Any] = {
    "key": "victron c0619ab1/battery/512 276",
    "title": "Victron",
    "name": "c0619ab1/battery/512",
    "role": "battery",
    "power_w": -800.0,
    "level_percent": 64.0,
    "total_kwh": 8412.6,
    "age_s": 3,
    "incoming": ["register", "through"],
    "outgoing": [],
    "meter": {"preset": "victron", "source": "c0619ab1/battery/512", "channel": "276"},
    "rules": [],
    "commands": [],
    "share": {"topic": "W/c0619ab1/vebus/276/Hub4/L1/AcPowerSetpoint", "ends": "watchdog", "ends_s": 60},
    "reduce": None,
    "note": "",
}


def answered(database: Database, said: object, at: int = NOW) -> None:
    """Ask r001, and take its answer in as the service does."""
    assert ask(database, "r001", at)
    (asked,) = database.read(open_commands)
    report = said if isinstance(said, str) else report_of(compressed(json.dumps(said)))
    outcome = ControllerOutcome(id=asked.id, cmd="discover", result="done", time=at, report=report)
    sending = Sending()
    sending.due([asked], at)
    Writer(database).commit([effect.change for effect in sending.answered("r001", outcome, ()).effects])  # type: ignore[union-attr]


def found(database: Database) -> tuple[int | None, dict[str, Any]]:
    """Return the newest answer of r001."""
    return database.read(newest, "r001")


def test_a_controller_is_asked_once_at_a_time(database: Database) -> None:
    assert ask(database, "r001", NOW)
    assert not ask(database, "r001", NOW + VALID_S - 1)
    (asked,) = database.read(open_commands)
    message = json.loads(asked.message)
    assert (asked.controller, message["cmd"], message["until"]) == ("r001", "discover", NOW + VALID_S)
    assert ask(database, "r002", NOW)
    assert ask(database, "r001", NOW + VALID_S)
    with pytest.raises(ConfigError, match="x9: is no registered controller"):
        ask(database, "x9", NOW)


def test_the_newest_answer_is_kept_alone_and_shows_on_no_page_of_reports_or_commands(database: Database) -> None:
    assert found(database)[0] is None
    for n in range(4):
        answered(database, {"cards": [CARD | {"age_s": n}], "unknown": [], "sources": [], "left_out": 2}, NOW + n)
    at, said = found(database)
    assert (at, said["left_out"], said["fault"], said["cards"]) == (NOW + 3, 2, "", [CARD | {"age_s": 3}])
    with database.reads.begin() as connection:
        counts = [connection.scalar(select(func.count()).select_from(one)) for one in (controller_report, command)]
        assert newest_commands(connection, "r001", 9) == []
    assert max(number or 0 for number in counts) <= 2
    assert database.read(reports_of, "r001", 9) == []


def test_a_controller_without_an_adapter_says_why(database: Database) -> None:
    answered(database, {"cards": [], "fault": "this controller has no adapter"})
    nothing = {"sources": [], "cards": [], "unknown": [], "left_out": 0}
    assert found(database) == (NOW, nothing | {"fault": "this controller has no adapter"})


RULE = {"preset": "x", "topic": "a", "kind": "register", "unit": "kWh", "format": "plain"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"role": "king"},
        {"power_w": 1e30},
        {"level_percent": -1},
        {"age_s": -1},
        {"title": "a\nb"},
        {"note": "x" * 257},
        {"incoming": True},
        {"meter": {"preset": "../x", "source": "a", "channel": "0"}},
        {"share": {"topic": "a", "ends": "never", "ends_s": 1}},
        {"rules": [RULE | {"unit": "miles"}]},
        {"rules": [RULE | {"topic": "a" * 5000}]},
        {"rules": [RULE] * 11},
        {"commands": [{"preset": "x", "kind": "reduce", "topic": "a/#", "on": "1", "off": "0"}]},
    ],
    ids=str,
)
def test_an_answer_that_breaks_its_bounds_is_not_believed(database: Database, wrong: dict[str, Any]) -> None:
    answered(database, {"cards": [CARD | wrong]})
    assert found(database)[1]["fault"] == UNREADABLE


@pytest.mark.parametrize("said", ["", "no report", report_of(b"x"), report_of(compressed("[" * 100_000))])
def test_an_answer_that_is_none_is_not_believed(database: Database, said: str) -> None:
    answered(database, said)
    assert found(database)[1]["fault"] == UNREADABLE


def test_more_cards_than_an_adapter_sends_are_not_believed(database: Database) -> None:
    answered(database, {"cards": [CARD] * 201})
    assert found(database)[1]["fault"] == UNREADABLE


def test_the_api_asks_and_shows_to_operators_and_administrators(
    database: Database, browser: Callable[..., Browser]
) -> None:
    for role, status in ((Role.OPERATOR, 200), (Role.ADMIN, 200), (Role.VIEWER, 403)):
        person = browser(role)
        asked = person.send("POST", "/discovery/r001", headers={CSRF_HEADER: person.csrf})
        assert (asked.status_code, person.get("/discovery/r001").status_code) == (status, status)
    admin = browser(Role.ADMIN)
    assert admin.get("/discovery/r001").json()["time"] is None
    gone = admin.send("POST", "/discovery/x9", headers={CSRF_HEADER: admin.csrf})
    assert gone.status_code == 404
