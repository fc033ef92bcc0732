"""A release goes to one controller, then to others, by two people; it stops at the first that goes back."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from commonwatt.protocol.controller_commands import Action, ControllerCommand, ControllerOutcome
from harness.console import Browser, text_of
from harness.surroundings import databases
from tests.unit.utility.conftest import NOW
from utility.access.decisions import NotSecondError, Second
from utility.access.people import Actor, Role, Via
from utility.alarms.store import ROLLOUT_STOPPED
from utility.database.database import Database, read_setting
from utility.fleet import store
from utility.fleet.decisions import ASKS_AGAIN_S, VALID_S, advance, approve, begin, stop
from utility.fleet.fleet import RolloutMember, planned, to_send
from utility.fleet.store import Rollout
from utility.outbox.changes import CloseCommand
from utility.outbox.store import open_commands
from utility.outbox.tables import command as commands
from utility.readings.store.writer import Writer
from utility.settings import UtilitySettings
from utility.webkit.rights import CSRF_HEADER

RELEASE = "0.4.1", "a" * 64  # its version, and the checksum of its package
ANNA = Actor(name="anna", account=None, via=Via.SESSION, address="127.0.0.1", roles=frozenset({Role.OPERATOR}))
R001, R002 = "r001", "r002"


def sent(database: Database) -> dict[str, ControllerCommand]:
    with database.reads.begin() as connection:
        return {
            each.controller: ControllerCommand.model_validate_json(each.message)
            for each in open_commands(connection)
            if json.loads(each.message)["cmd"] == Action.UPGRADE
        }


def answer(database: Database, controller: str, result: str, reason: str = "", name: str = "") -> str:
    """A gateway answers; return the command's id."""
    name = name or sent(database)[controller].id
    outcome = ControllerOutcome.model_validate(
        {"id": name, "cmd": "upgrade", "result": result, "time": NOW, "reason": reason or None}
    )
    closing = CloseCommand(id=name, controller=controller, state="done", outcome=outcome.pack().decode())
    Writer(database).commit([closing])
    return name


def now_is(database: Database) -> tuple[Rollout, dict[str, str | None]]:
    with database.reads.begin() as connection:
        found = store.newest(connection)
        assert found is not None
        return found, {each.controller: each.verdict for each in store.members_of(connection, found.no)}


def alarm(database: Database) -> str:
    return database.read(read_setting, ROLLOUT_STOPPED) or ""


def second(name: str) -> Second:
    actor = Actor(name=name, account=None, via=Via.SESSION, address="127.0.0.1", roles=frozenset({Role.APPROVER}))
    return Second(actor=actor, now=NOW, wait_days=0)


@pytest.fixture
def people(browser: Callable[..., Browser]) -> None:
    browser(Role.OPERATOR, Role.APPROVER, name="anna")
    browser(Role.APPROVER, name="ben")


@databases.on_both_kinds
@pytest.mark.usefixtures("people")
def test_each_step_waits_for_the_verdict_and_the_second_person(database: Database) -> None:
    begin(database, ANNA, *RELEASE, R002, NOW)
    assert list(sent(database)) == [R002]
    command = sent(database)[R002]
    assert (command.release, command.sha256) == ("0.4.1", "a" * 64)
    name = answer(database, R002, "partial", "it is being fetched")
    advance(database, [], NOW + 60)
    assert sent(database) == {}
    answer(database, R002, "done", name=name)
    advance(database, [], NOW + 120)
    assert now_is(database)[1] == {R002: "done", R001: None}
    assert sent(database) == {}, "one person is not enough for more than one controller"
    with pytest.raises(NotSecondError, match="anna began it"):
        approve(database, second("anna"), 1, RELEASE[1])
    approve(database, second("ben"), 1, RELEASE[1])
    advance(database, [], NOW + 180)
    answer(database, R001, "done")
    advance(database, [], NOW + 240)
    assert now_is(database)[0].state == "done"


@pytest.mark.usefixtures("people")
def test_an_approval_is_of_the_rollout_that_was_seen(database: Database) -> None:
    begin(database, ANNA, *RELEASE, R001, NOW)
    stop(database, ANNA, NOW)
    begin(database, ANNA, "0.4.2", "b" * 64, R001, NOW)
    for number, sha256 in ((1, RELEASE[1]), (2, RELEASE[1]), (1, "b" * 64)):
        with pytest.raises(ConfigError, match="not the one that you saw"):
            approve(database, second("ben"), number, sha256)
    assert now_is(database)[0].approved_by is None


@pytest.mark.usefixtures("people")
def test_a_release_has_one_first_controller_and_for_another_one_a_second_person_is_needed(database: Database) -> None:
    begin(database, ANNA, *RELEASE, R001, NOW)
    answer(database, R001, "done")
    advance(database, [], NOW + 30)
    stop(database, ANNA, NOW + 30)
    begin(database, ANNA, *RELEASE, R001, NOW + 60)
    assert list(sent(database)) == [R001], "the same one again"
    answer(database, R001, "done")
    advance(database, [], NOW + 90)
    stop(database, ANNA, NOW + 90)
    begin(database, ANNA, *RELEASE, R002, NOW + 120)
    advance(database, [], NOW + 180)
    assert sent(database) == {}
    approve(database, second("ben"), 3, RELEASE[1])
    advance(database, [], NOW + 240)
    assert list(sent(database)) == [R002]


@pytest.mark.usefixtures("people")
def test_the_first_that_goes_back_stops_it(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    approve(database, second("ben"), 1, RELEASE[1])
    name = answer(database, R001, "partial")
    answer(database, R001, "refused", "went back to 0.4.0: no meter is served", name)
    advance(database, [], NOW + 600)
    found, verdicts = now_is(database)
    assert (found.state, found.why) == ("failed", "r001: went back to 0.4.0: no meter is served")
    assert alarm(database) == "0.4.1: r001: went back to 0.4.0: no meter is served"
    assert verdicts == {R001: "failed", R002: None}
    advance(database, [], NOW + 660)
    assert sent(database) == {}
    stop(database, ANNA, NOW + 720)
    assert alarm(database) == "", "a person has seen it"


def test_an_older_gateway_that_has_no_such_command_stops_it(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    answer(database, R001, "unsupported", "this version has no command upgrade")
    advance(database, [], NOW + 60)
    assert now_is(database)[0].why == "r001: this version has no command upgrade"


def test_a_lost_outcome_is_asked_for_each_hour(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    name = answer(database, R001, "partial")
    advance(database, [], NOW + ASKS_AGAIN_S - 1)
    assert sent(database) == {}
    advance(database, [], NOW + ASKS_AGAIN_S + 5)
    assert sent(database)[R001].id == name


def test_without_a_verdict_within_a_week_it_stops(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    answer(database, R001, "partial")
    advance(database, [], NOW + VALID_S)
    assert now_is(database)[0].state == "failed"


def test_a_command_whose_row_is_gone_does_not_last_for_ever(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    with database.writes.begin() as connection:
        connection.execute(commands.delete())
    advance(database, [], NOW + VALID_S)
    assert now_is(database)[0].why == "r001: it did not answer in time"


def test_a_stopped_one_sends_nothing_and_another_may_begin(database: Database) -> None:
    begin(database, ANNA, *RELEASE, None, NOW)
    with pytest.raises(ConfigError, match=r"the rollout of 0\.4\.1 runs"):
        begin(database, ANNA, *RELEASE, None, NOW)
    stop(database, ANNA, NOW)
    begin(database, ANNA, "0.4.2", "b" * 64, R002, NOW + 5)
    assert now_is(database)[0].no == 2
    advance(database, [[R001, R002]], NOW + 10)
    assert set(sent(database)) == {R001}, "its neighbour of the clique is still under way"
    answer(database, R001, "done")
    advance(database, [[R001, R002]], NOW + 60)
    assert set(sent(database)) == {R002}


def test_a_later_rollout_may_begin_with_a_controller_that_never_answered_the_earlier_one(database: Database) -> None:
    begin(database, ANNA, *RELEASE, R001, NOW)
    stop(database, ANNA, NOW)
    begin(database, ANNA, "0.4.2", "b" * 64, R001, NOW + 5)
    advance(database, [[R001, R002]], NOW + 10)
    with database.reads.begin() as connection:
        releases = [json.loads(each.message)["release"] for each in open_commands(connection)]
    assert releases == ["0.4.2"], "the later command takes the place of the earlier one"


def test_an_unregistered_first_controller_is_refused(database: Database) -> None:
    with pytest.raises(ConfigError, match="r009: is no registered controller"):
        begin(database, ANNA, *RELEASE, "r009", NOW)


@pytest.fixture
def settings(tmp_path: Path) -> UtilitySettings:
    packages = tmp_path / "packages"
    packages.mkdir()
    content = {"package": "commonwatt-controller", "version": "0.4.1", "architecture": "arm64", "size_bytes": 9}
    (packages / f"{'a' * 64}.release").write_text(json.dumps(content | {"sha256": "a" * 64}) + "\n00\nx")
    return UtilitySettings(second_factor="optional", packages=packages)


def test_the_api_begins_approves_stops_and_shows_it(browser: Callable[..., Browser]) -> None:
    anna, ben = browser(Role.OPERATOR, Role.APPROVER, name="anna"), browser(Role.APPROVER, name="ben")

    def post(one: Browser, path: str, content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        answer = one.send("POST", f"/fleet/rollouts{path}", json=content, headers={CSRF_HEADER: one.csrf})
        return answer.status_code, answer.json()

    code, said = post(anna, "", {"release": "0.5.0"})
    assert (code, "0.5.0: is not published; there are: 0.4.1" in said["detail"]) == (409, True)
    code, said = post(anna, "", {"release": "0.4.1", "first": R002})
    assert (code, said["rollouts"][0]["controllers"][0]["controller"]) == (201, R002)
    seen = {"no": said["rollouts"][0]["no"], "sha256": said["rollouts"][0]["sha256"]}
    assert post(anna, "/approve", seen)[0] == 409
    assert post(ben, "/stop", {})[0] == 403
    assert post(ben, "/approve", seen | {"sha256": "b" * 64})[0] == 409
    assert post(ben, "/approve", seen)[1]["rollouts"][0]["approved_by"] == "ben"
    assert post(anna, "/stop", {})[1]["rollouts"][0]["state"] == "stopped"
    (shown,) = anna.get("/fleet/rollouts").json()["rollouts"]
    assert [each["verdict"] for each in shown["controllers"]] == ["under way", ""]


def test_the_page_begins_approves_stops_and_shows_it(browser: Callable[..., Browser]) -> None:
    anna, ben = browser(Role.OPERATOR, name="anna"), browser(Role.APPROVER, name="ben")
    path = "/console/fleet"
    assert "Begin a rollout" in anna.get(path).text
    anna.post(f"{path}/rollouts", {"release": "0.4.1", "first": R002})
    assert "Begin a rollout" not in anna.get(path).text
    assert "Approve 0.4.1 for all controllers" not in anna.get(path).text
    seen = dict(re.findall(r'name="(no|sha256)" value="(\w+)"', ben.get(path).text))
    assert "Approve 0.4.1 for all controllers" in ben.get(path).text
    assert ben.post(f"{path}/rollouts/stop").status_code == 403
    ben.post(f"{path}/rollouts/approve", seen)
    assert "approved by ben" in text_of(anna.get(path))
    anna.post(f"{path}/rollouts/stop")
    shown = text_of(anna.get(path))
    assert "stopped by anna" in shown
    assert "under way" in shown


def test_the_page_asks_the_chosen_controllers_for_reports(browser: Callable[..., Browser], database: Database) -> None:
    anna = browser(Role.OPERATOR, name="anna")
    assert anna.post("/console/fleet/reports").status_code == 409
    anna.post("/console/fleet/reports", {"microgrid": [R001, R002]})
    with database.reads.begin() as connection:
        assert [json.loads(each.message)["cmd"] for each in open_commands(connection)] == ["report", "report"]


NAMES = [f"r{number:03}" for number in range(1, 81)]


def test_eighty_controllers_are_one_then_four_then_the_rest() -> None:
    steps = [each.step for each in planned(NAMES, "r007")]
    assert [steps.count(step) for step in (1, 2, 3)] == [1, 4, 75]
    assert planned(NAMES, "r007")[0].controller == "r007"
    assert [each.step for each in planned(["r001"], None)] == [1]


@given(st.data())
def test_whatever_the_verdicts_no_two_of_a_clique_are_under_way_and_each_step_waits(data: st.DataObject) -> None:
    names = NAMES[: data.draw(st.integers(1, 30))]
    cliques = [names[at : at + 3] for at in range(0, len(names), 3)]
    members = planned(names, None)
    for _ in range(200):
        due = to_send(members, cliques, is_approved=True)
        members = [replace(m, command="x") if m.controller in due else m for m in members]
        busy = {m.controller for m in members if m.is_under_way}
        assert all(len(busy & set(clique)) <= 1 for clique in cliques)
        assert len({m.step for m in members if m.is_under_way}) <= 1
        if not busy:
            break
        ended = data.draw(st.sampled_from(sorted(busy)))
        members = [replace(m, verdict="done") if m.controller == ended else m for m in members]
    assert all(m.verdict == "done" for m in members)


def test_without_the_second_person_only_the_first_is_sent_it() -> None:
    members = planned(NAMES, None)
    assert to_send(members, [], is_approved=False) == ["r001"]
    members[0] = replace(members[0], command="x", verdict="done")
    assert to_send(members, [], is_approved=False) == []
    assert len(to_send(members, [], is_approved=True)) == 4


def test_after_a_bad_verdict_none_is_sent_it() -> None:
    bad = RolloutMember(controller="r001", step=1, command="x", verdict="failed")
    assert to_send([bad, *planned(NAMES[1:], None)], [], is_approved=True) == []
