"""The reports of controllers at the utility: asked for, stored, shown, printed, and deleted after 90 days."""

import json
from collections.abc import Callable

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from commonwatt.protocol.controller_commands import MAX_OUTCOME_BYTES, MAX_REPORT_BYTES, ControllerOutcome
from commonwatt.protocol.reports import compressed, report_of
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.control.store.control_changes import newest_changes
from utility.database.database import Database
from utility.fleet import cli
from utility.fleet.store.reports import KEPT_S, drop_reports, reports_of
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.outbox.store.commands import add_command, open_commands
from utility.outbox.tables import command as commands
from utility.readings.sending import Sending
from utility.readings.store.writer import Writer

TEXT = "== report of r001\n== doctor\nbad disk: full <b>\n"


def reported(database: Database, name: str = "x", text: str = TEXT, created: int = NOW) -> None:
    """Ask r001 for a report, and take its outcome in as the service does."""
    message = json.dumps({"v": 1, "id": name, "cmd": "report", "until": created + 3600})
    asked = OpenCommand(id=name, controller="r001", message=message, until=created + 3600)
    database.write(add_command, asked, created)
    answer(database, name, text)


def answer(database: Database, name: str, text: str = TEXT) -> None:
    outcome = ControllerOutcome(id=name, cmd="report", result="done", time=NOW, report=report_of(compressed(text)))
    sending = Sending()
    sending.due(database.read(open_commands), NOW)
    Writer(database).commit([effect.change for effect in sending.answered("r001", outcome, ()).effects])  # type: ignore[union-attr]


def test_the_largest_report_fits_into_an_outcome() -> None:
    report = report_of(bytes(range(256)) * (MAX_REPORT_BYTES // 256))
    outcome = ControllerOutcome(id="x" * 64, cmd="report", result="done", time=2**32 - 1, report=report)
    assert len(outcome.pack()) <= MAX_OUTCOME_BYTES


def test_a_report_is_stored_by_itself_and_its_command_keeps_the_rest(database: Database) -> None:
    reported(database)
    reported(database, "y", "later", NOW + 5)
    found = database.read(reports_of, "r001", 9)
    assert [(each.command, each.time) for each in found] == [("y", NOW + 5), ("x", NOW)]
    with database.reads.begin() as connection:
        rows = connection.execute(select(commands.c.state, commands.c.result, commands.c.outcome)).all()
    assert {row.state for row in rows} == {row.result for row in rows} == {"done"}
    assert all("report" not in json.loads(row.outcome) for row in rows)
    assert database.read(reports_of, "r002", 9) == []


def test_a_report_is_kept_for_90_days(database: Database) -> None:
    reported(database)
    database.write(drop_reports, NOW + KEPT_S)
    assert len(database.read(reports_of, "r001", 9)) == 1
    database.write(drop_reports, NOW + KEPT_S + 1)
    assert database.read(reports_of, "r001", 9) == []


def test_the_page_asks_for_a_report_shows_it_and_gives_it_as_a_file(
    browser: Callable[..., Browser], database: Database
) -> None:
    operator, path = browser(Role.OPERATOR), "/console/fleet/r001"
    assert "No report was asked for" in text_of(operator.get(path))
    assert operator.post(f"{path}/reports").headers["location"].startswith(path)
    (change,) = database.read(newest_changes, 9)
    (asked,) = database.read(open_commands)
    assert (str(change.action), asked.controller) == ("report", "r001")
    answer(database, asked.id)
    page = operator.get(path)
    assert "bad disk: full &lt;b&gt;" in page.text
    file = operator.get(f"{path}/reports/{asked.id}")
    assert (file.text, file.headers["content-type"]) == (TEXT, "text/plain; charset=utf-8")
    assert operator.get("/console/fleet/r009").status_code == 404
    assert operator.get(f"{path}/reports/other").status_code == 404


def test_the_command_prints_the_newest_report(
    config: object, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    none = CliRunner().invoke(cli.app, ["report", "r001", "--config", str(config)])
    assert none.exit_code == 1
    reported(database)
    assert TEXT in CliRunner().invoke(cli.app, ["report", "r001", "--config", str(config)]).stdout
    assert "commonwatt utility command r001 report" in none.output + capsys.readouterr().err


def test_a_controller_steers_no_operators_terminal_and_fills_no_page(
    config: object, database: Database, browser: Callable[..., Browser]
) -> None:
    reported(database, text="== report\n\x1b]0;title\x07\x1b]52;c;cm0=\x07fine\tx\n" + "<" * 1_000_000)
    shown = CliRunner().invoke(cli.app, ["report", "r001", "--config", str(config)]).stdout
    assert "\x1b" not in shown
    assert "fine" in shown
    page = browser(Role.VIEWER).get("/console/fleet/r001").text
    assert len(page) < 2_000_000
    assert "Only its beginning is shown" in page


def test_a_report_that_is_none_closes_its_command_and_is_no_fault_of_the_page(
    browser: Callable[..., Browser], database: Database
) -> None:
    message = json.dumps({"v": 1, "id": "x", "cmd": "report", "until": NOW + 3600})
    database.write(add_command, OpenCommand(id="x", controller="r001", message=message, until=NOW + 3600), NOW)
    closing = CloseCommand(id="x", controller="r001", state="done", outcome="{}", report='not base 85 ~~ "')
    Writer(database).commit([closing])
    assert "can&#39;t be read" in browser(Role.OPERATOR).get("/console/fleet/r001").text
