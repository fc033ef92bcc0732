"""Changes of gateways by pages and the API: previewed, made, put back, sent to the next manager again (R12)."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commonwatt.protocol.controller_commands import ControllerCommand, ControllerOutcome
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.town.loading import load_town
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.control.test_changes import answer, hear, heartbeat
from tests.unit.utility.corrections.test_pages import post
from utility.access.people import Role
from utility.cliques.grants import GRANTED, RENEWED, Handover
from utility.cliques.store import save
from utility.database.database import Database
from utility.outbox.changes import CloseCommand, EarlierCommand, OpenCommand, SawGateway, to_repeat
from utility.outbox.store import add_command, open_commands
from utility.readings.store.writer import Writer
from utility.readings.tables import relayed_day
from utility.registry.store.registration import fill_registry

Browsers = Callable[..., Browser]
PAGE = "/console/schedules"
SLOWER = {"action": "schedule", "which": "all", "relay_s": "900", "when": "now", "time": "", "seen": "0"}


def test_a_schedule_is_tuned_watched_and_put_back(browser: Browsers, database: Database) -> None:
    hear(database, lte=LineMonth(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000))
    operator = browser(Role.OPERATOR)
    table = text_of(operator.get(PAGE))
    assert "60 60 60 60 900 as it comes each record below the minimum, by weights" in table
    assert "ok 500.0 MB of 2.0 GB" in table
    assert "no report yet" in table
    assert 'name="seen" value="0"' in operator.get(f"{PAGE}/new?action=schedule&microgrid=r001").text
    preview = text_of(operator.post(f"{PAGE}/preview", SLOWER))
    assert "2 microgrids. Readings are relayed to the utility this often." in preview
    assert "not known: its batches were not counted for an hour yet" in preview
    assert "135 s 975 s" in preview
    made = operator.post(PAGE, SLOWER)
    assert (made.status_code, made.headers["location"]) == (303, f"{PAGE}/changes/1")
    path = f"{PAGE}/changes/1"
    assert 'hx-trigger="every 2s' in operator.get(path).text
    answer(database, microgrid="r001")
    answer(database, "unsupported", microgrid="r002")
    live = operator.get(f"{path}/live")
    assert "hx-get" not in live.text, "every gateway has answered"
    assert "r001 relay 60 s (as installed) schedule relay 900 s ● done" in text_of(live)
    assert "■ refused unsupported" in text_of(live)
    tuned = {"collect_s": 60, "levels_s": 60, "relay_s": 900, "compact_s": 900}
    hear(database, periods=tuned, tuned=("relay_s",))
    assert "relay 900 s (tuned)" in text_of(operator.get(f"{path}/live")), "the gateway says so itself"
    back = operator.post(f"{path}/put-back")
    assert back.headers["location"].startswith(f"{PAGE}/changes/2")
    assert "put back change 1: schedule relay as installed" in text_of(operator.get(PAGE))
    assert operator.post(f"{path}/put-back").status_code == 409


def test_each_kind_has_a_card_with_its_usual_periods_those_that_differ_and_a_slider(
    browser: Browsers, database: Database
) -> None:
    month = LineMonth(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000)
    hear(database, lte=month)
    operator = browser(Role.OPERATOR)
    page = operator.get(PAGE)
    assert "Residential 2 microgrids Collect every 60 s Levels every 60 s Relay every 60 s" in text_of(page)
    assert "500.0 MB of 2.0 GB, on average" in text_of(page)
    assert "Different r002 no report yet" in text_of(page)
    assert "Set the relay period of all 2" in text_of(page)
    assert '<details class="card"><summary>All microgrids' in page.text
    for query in ("name=r", "kind=residential", "tuned=true", "skip=1"):
        assert '<details class="card" open>' in operator.get(f"{PAGE}?{query}").text
    slowed = {"collect_s": 60, "levels_s": 60, "relay_s": 900, "put_s": 60, "compact_s": 900}
    hear(database, "r002", periods=slowed)
    assert "Different r002 relay 900 s" in text_of(operator.get(PAGE))
    assert 'type="range"' not in browser(Role.VIEWER).get(PAGE).text
    slid = SLOWER | {"which": "kind", "kind": "residential", "brief": "", "relay_s": "1800"}
    said = text_of(operator.post(f"{PAGE}/preview", slid))
    assert "Bytes are not known: its batches were not counted for an hour yet." in said
    assert "A reading comes after 1875 s at most; now 975 s." in said
    with database.writes.begin() as connection:
        counts = {"seconds": 7200, "batches": 120, "blocks": 960, "slots": 3840, "size": 90_000}
        connection.execute(relayed_day.insert().values(controller="r001", day=NOW // 86_400, **counts))
    assert re.search(r"a line carries [0-9.]+ MB on average; now [0-9.,]+ [MG]B: [0-9.]+ [kM]B less\.", text_of(
        operator.post(f"{PAGE}/preview", slid)
    ))  # fmt: skip
    whole = {name: value for name, value in slid.items() if name != "brief"}
    assert re.search(r"r001 [0-9.,]+ [kMG]B [0-9.,]+ [kMG]B", text_of(operator.post(f"{PAGE}/preview", whole)))
    made = operator.post(PAGE, slid)
    assert (made.status_code, made.headers["location"]) == (303, f"{PAGE}/changes/1")


def test_the_second_person_is_told_and_keeps_the_form(browser: Browsers, database: Database) -> None:
    hear(database)
    anna, ben = browser(Role.OPERATOR, name="anna"), browser(Role.OPERATOR, name="ben")
    anna.post(PAGE, SLOWER)
    told = ben.post(PAGE, SLOWER | {"which": "chosen", "microgrids": "r001", "relay_s": "300"})
    assert told.status_code == 409
    assert "r001: anna changed relay at" in text_of(told)
    assert 'value="300"' in told.text
    assert 'name="seen" value="1"' in told.text, "applied again, it is meant"
    assert browser(Role.VIEWER).post(PAGE, SLOWER).status_code == 403


def test_a_change_is_planned_in_town_time_and_cancelled(browser: Browsers) -> None:
    operator = browser(Role.OPERATOR)
    later = {"when": "later", "time": "2027-01-16T02:00"}
    operator.post(
        PAGE, {"action": "isolate", "which": "kind", "kind": "residential", "state": "on", "minutes": "30"} | later
    )
    page = text_of(operator.get(f"{PAGE}/changes/1"))
    assert "isolate for 30 min, on" in page
    assert "Planned for 16 Jan 2027 02:00:00" in page
    operator.post(f"{PAGE}/changes/1/cancel")
    assert "2 cancelled" in text_of(operator.get(f"{PAGE}/changes"))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"relay_s": "soon"}, "relay: a whole number up to 86400 or the word reset is wanted"),
        ({"relay_s": ""}, "give at least one of meters, periods"),
        ({"which": "chosen"}, "choose microgrids, a kind of microgrids, or all"),
        ({"which": "chosen", "microgrids": "r009"}, "microgrid r009 is not registered; there are r001, r002"),
        ({"when": "later"}, "a later change needs a time"),
        ({"when": "later", "time": "2027-03-14T02:30"}, "does not exist"),
        ({"action": "sharing"}, "sharing needs strategy"),
        ({"action": "reduce", "state": "on"}, "reduce needs minutes"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_changes(browser: Browsers, fields: dict[str, str], says: str) -> None:
    operator = browser(Role.OPERATOR)
    assert says in text_of(operator.post(f"{PAGE}/preview", SLOWER | fields)).replace("&#39;", "'")
    assert says in text_of(operator.post(PAGE, SLOWER | fields)).replace("&#39;", "'")
    assert "No change was made yet." in text_of(operator.get(PAGE))


def test_of_a_whole_town_pages_are_small_and_all_are_changed_at_once(
    browser: Browsers, database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "whole.toml"
    path.write_text('microgrid = [{id = "r", kind = "residential", count = 802, houses = 2}]\n')
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path))
    month = LineMonth(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000)
    said = heartbeat(lte=month)
    names = [f"r{number:03d}" for number in range(1, 803)]
    Writer(database).commit([SawGateway(controller=name, time=NOW, heartbeat=said) for name in names])
    operator = browser(Role.OPERATOR)
    assert operator.post(PAGE, SLOWER).status_code == 303
    addresses = [PAGE, f"{PAGE}?skip=700", f"{PAGE}?name=r4&tuned=true", f"{PAGE}/changes/1"]
    assert max(len(operator.get(address).content) for address in addresses) < 150_000
    assert "the 20 fullest lines" in text_of(operator.post(f"{PAGE}/preview", SLOWER))
    assert "802 waits for the answer" in text_of(operator.get(f"{PAGE}/changes/1"))


SLOWER_BY_API = {"action": "schedule", "fields": {"periods": {"relay_s": 900}}}


def test_a_change_is_made_answered_and_put_back(browser: Browsers, database: Database) -> None:
    hear(database)
    operator = browser(Role.OPERATOR)
    made = post(operator, "/commands", **SLOWER_BY_API, seen=0, everyone=True).json()
    assert (made["change"]["waits"], made["change"]["counts"], made["newest"]) == (True, {"open": 2}, 1)
    answer(database)
    change = browser(Role.VIEWER).get("/commands/1").json()
    assert (change["change"]["waits"], change["change"]["made"]) == (False, "2027-01-15T09:23:20Z")
    first, second = change["microgrids"]
    assert first["before"] == "relay 60 s (as installed)"
    assert (second["before"], second["answer"]) == ("relay: not known", "done")
    assert second["answered"] == "2027-01-15T08:00:00Z"
    back = post(operator, "/commands/1/put-back").json()
    assert [one["what"] for one in back["microgrids"]] == ["schedule relay as installed"]
    listed = browser(Role.VIEWER).get("/commands/changes?limit=1").json()
    assert [one["what"] for one in listed["changes"]] == ["put back change 1: schedule relay as installed"]


def test_the_second_person_is_told_and_wrong_fields_are_named(browser: Browsers, database: Database) -> None:
    hear(database)
    anna, ben = browser(Role.OPERATOR, name="anna"), browser(Role.OPERATOR, name="ben")
    preview = post(ben, "/commands/preview", **SLOWER_BY_API, microgrids=["r001"]).json()
    assert (preview["newest"], preview["effects"][0]["delay_s"], preview["refused"]) == (0, [135, 975], "")
    post(anna, "/commands", **SLOWER_BY_API, seen=0, everyone=True)
    told = post(ben, "/commands", **SLOWER_BY_API, microgrids=["r001"], seen=preview["newest"])
    assert (told.status_code, "r001: anna changed relay at" in told.json()["detail"]) == (409, True)
    wrong = post(ben, "/commands", action="reduce", fields={"state": "on"}, microgrids=["r001"])
    assert (wrong.status_code, wrong.json()["detail"]) == (422, "reduce needs for_s")
    assert post(ben, "/commands", **SLOWER_BY_API, seen=0, microgrids=["r009"]).status_code == 409
    assert post(ben, "/commands/7/cancel").status_code == 404
    assert post(browser(Role.CLERK), "/commands", **SLOWER_BY_API, seen=0, everyone=True).status_code == 403


def test_a_planned_change_is_cancelled(browser: Browsers) -> None:
    operator = browser(Role.OPERATOR)
    planned = post(operator, "/commands", **SLOWER_BY_API, seen=0, everyone=True, at="2027-01-16T02:00-05:00").json()[
        "change"
    ]
    assert (planned["state"], planned["due"]) == ("planned", "2027-01-16T07:00:00Z")
    assert post(operator, "/commands/1/cancel").json()["change"]["ended_by"] == operator.name
    assert post(operator, "/commands/1/cancel").status_code == 409


def test_a_schedule_that_does_not_say_what_was_seen_is_refused_and_changes_nothing(browser: Browsers) -> None:
    operator = browser(Role.OPERATOR)
    refused = post(operator, "/commands", **SLOWER_BY_API, everyone=True)
    assert (refused.status_code, "needs `seen`" in refused.json()["detail"]) == (428, True)
    assert operator.get("/commands/changes").json() == {"changes": [], "newest": 0}


def earlier(cmd: str, ago: int, *, is_done: bool = True, **keys: Any) -> EarlierCommand:
    message = {"id": f"{cmd}-{ago}", "cmd": cmd, "until": NOW - ago + 900} | keys
    return EarlierCommand(message=message, created=NOW - ago, is_done=is_done)


def repeated(*commands: EarlierCommand) -> list[dict[str, Any]]:
    """Return what is repeated of commands, each without its id and end."""
    return [
        {key: value for key, value in one.items() if key not in ("id", "until")} for one in to_repeat(commands, NOW)
    ]


def test_what_has_an_end_goes_on_to_that_end_and_what_has_passed_is_left_out() -> None:
    limit: dict[str, Any] = {"supply": "LOW", "import_limit_w": 5_000, "for_s": 1_800}
    assert repeated(earlier("supply", 600, **limit)) == [{"cmd": "supply", **limit, "for_s": 1_200}]
    assert repeated(earlier("supply", 1_800, **limit)) == []


def test_the_newest_command_of_a_setting_is_the_one_in_force() -> None:
    on: dict[str, Any] = {"state": "on", "for_s": 9_000}
    off: dict[str, Any] = {"state": "off"}
    assert repeated(earlier("reduce", 60, **off), earlier("reduce", 600, **on)) == [{"cmd": "reduce", "state": "off"}]
    both = earlier("sharing", 50, strategy="aces"), earlier("sharing", 90, strategy="spec", weights={"1": 3})
    assert repeated(*both) == [{"cmd": "sharing", "strategy": "aces"}, {"cmd": "sharing", "weights": {"1": 3}}]


def test_weights_of_a_later_date_leave_those_in_force() -> None:
    later = earlier("sharing", 50, weights={"1": 9}, from_time=NOW + 500)
    assert len(repeated(later, earlier("sharing", 90, weights={"1": 3}))) == 2


def test_what_is_still_being_sent_is_not_given_twice_and_no_switch_is_commanded() -> None:
    waits = earlier("reduce", 60, is_done=False, state="on", for_s=9_000)
    assert repeated(waits, earlier("reduce", 600, state="on", for_s=9_000)) == []
    assert repeated(earlier("isolate", 60, state="on", for_s=9_000), earlier("system_info", 5)) == []


def test_a_handover_gives_the_commands_in_force_again_to_whoever_manages_then(database: Database) -> None:
    message = {"v": 1, "id": "c1", "cmd": "reduce", "until": NOW + 900, "state": "on", "for_s": 9_000}
    given = OpenCommand(id="c1", controller="r001", message=json.dumps(message), until=NOW + 900)
    outcome = ControllerOutcome(id="c1", cmd="reduce", result="done", time=NOW)
    closing = CloseCommand(id="c1", controller="r001", state="done", outcome=outcome.pack().decode())

    def adopt(counter: int, how: str, now: int) -> list[OpenCommand]:
        made = Handover(
            microgrid="r001", epoch=(counter, 2), controller="r002", before="r001", how=how, why="for a test"
        )
        with database.writes.begin() as connection:
            save(connection, {}, [made], now)
            return open_commands(connection)

    with database.writes.begin() as connection:
        add_command(connection, given, NOW)
    Writer(database).commit([closing])
    assert adopt(2, RENEWED, NOW + 50) == []
    (again,) = adopt(3, GRANTED, NOW + 100)
    assert (again.controller, again.id) == ("r001", "c1-e3-2")
    command = ControllerCommand.model_validate_json(again.message)
    assert (command.id, command.state, command.for_s) == ("c1-e3-2", "on", 8_900)
    (still,) = adopt(4, GRANTED, NOW + 200)
    assert still == again, "it has not been answered: it goes to the next manager by itself"
