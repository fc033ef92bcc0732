"""The list of controllers, and their reports."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from commonwatt.model.time import Trust
from commonwatt.protocol.controller_commands import MAX_OUTCOME_BYTES, MAX_REPORT_BYTES, ControllerOutcome
from commonwatt.protocol.reports import compressed, report_of
from harness.console import Browser, text_of
from harness.surroundings.messages import a_heartbeat
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.alarms.alarm import KINDS
from utility.control.store import newest_changes
from utility.database.database import Database
from utility.fleet import cli
from utility.fleet.fleet import Cared, Sort, cared_for, chosen, ordered
from utility.fleet.store import KEPT_S, drop_reports, reports_of
from utility.outbox.changes import CloseCommand, OpenCommand
from utility.outbox.store import add_command, open_commands
from utility.outbox.tables import command as commands
from utility.readings.sending import Sending
from utility.readings.store.writer import Writer

KINDS_OF = {"r001": "residential", "r002": "residential", "a001": "apartment", "p001": "public", "r003": "residential"}


def said(release: str | None = "0.4.0", **program: Any) -> Any:
    fields = {} if release is None else {"program": {"release": release} | program}
    return a_heartbeat(trust=Trust.NETWORK, **fields)


FLEET = cared_for(
    KINDS_OF,
    {
        "r001": (500, said(cert_days=80, starts=3)),
        "r002": (900, said("0.4.1", cert_days=2, disk_days=9, starts=40)),
        "a001": (800, said(None)),
        "p001": (100, said(cert_days=61, disk_days=300, starts=1)),
    },
    [
        KINDS["GatewayCertificateExpired"].alarm("", controller="r002"),
        KINDS["GatewayReleaseDiffers"].alarm("", controller="r002"),
        KINDS["GatewaySilent"].alarm("", controller="r003"),
        KINDS["GatewayDiskFills"].alarm("", controller="p001"),
        KINDS["UtilityDisconnected"].alarm(""),
    ],
)


def names(fleet: list[Cared]) -> list[str]:
    return [one.microgrid for one in fleet]


def test_a_controller_is_as_bad_as_its_worst_alarm() -> None:
    assert {one.microgrid: one.state for one in FLEET} == {
        "r001": "good",
        "r002": "bad",
        "a001": "good",
        "p001": "warning",
        "r003": "bad",
    }
    assert [len(one.wrong) for one in FLEET] == [0, 2, 0, 1, 1]


def test_the_worst_stand_first_in_each_order() -> None:
    orders: dict[Sort, list[str]] = {
        "name": ["r001", "r002", "a001", "p001", "r003"],
        "release": ["r003", "a001", "r001", "p001", "r002"],
        "certificate": ["r002", "p001", "r001", "a001", "r003"],
        "disk": ["r002", "p001", "r001", "a001", "r003"],
        "starts": ["r002", "r001", "p001", "a001", "r003"],
        "heard": ["r003", "p001", "r001", "a001", "r002"],
    }
    assert {by: names(ordered(FLEET, by)) for by in orders} == orders


def test_it_is_filtered_by_name_kind_release_and_alarm() -> None:
    assert names(chosen(FLEET, name="r")) == ["r001", "r002", "r003"]
    assert names(chosen(FLEET, kind="residential", wrong=True)) == ["r002", "r003"]
    assert names(chosen(FLEET, release="0.4.0")) == ["r001", "p001"]
    assert names(chosen(FLEET, release="0.3 or older")) == ["a001"]


TEXT = "== report of r001\n== doctor\nbad disk: full <b>\n"


def reported(database: Database, name: str = "x", text: str = TEXT, created: int = NOW) -> None:
    """Ask r001 for a report, and take its outcome in as the service does."""
    message = json.dumps({"v": 1, "id": name, "cmd": "report", "until": created + 3600})
    asked = OpenCommand(id=name, controller="r001", message=message, until=created + 3600)
    database.write(add_command, asked, created)
    answer_with_report(database, name, text)


def answer_with_report(database: Database, name: str, text: str = TEXT) -> None:
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
    assert operator.post("/console/fleet/reports", {"microgrid": "r001"}).headers["location"].startswith(path)
    (change,) = database.read(newest_changes, 9)
    (asked,) = database.read(open_commands)
    assert (str(change.action), asked.controller) == ("report", "r001")
    answer_with_report(database, asked.id)
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
