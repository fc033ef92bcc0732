"""Operators tune schedules in the browser: what is in force, the effect beforehand, outcomes, put back, conflicts."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from commonwatt.protocol.heartbeats import Month
from commonwatt.town.loading import load_town
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from tests.unit.utility.control.test_changes import answer, hear, heartbeat
from utility.access.roles import Role
from utility.database.database import Database
from utility.outbox.changes import SawGateway
from utility.readings.store.writer import Writer
from utility.readings.tables import relayed_day
from utility.registry.store.registration import fill_registry

Browsers = Callable[..., Browser]
PAGE = "/console/schedules"
SLOWER = {"action": "schedule", "which": "all", "relay_s": "900", "when": "now", "time": "", "seen": "0"}


def test_a_schedule_is_tuned_watched_and_put_back(browser: Browsers, database: Database) -> None:
    hear(database, lte=Month(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000))
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
    month = Month(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000)
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
    month = Month(used=(1, 2), expected=(400_000_000, 500_000_000), allowance=2_000_000_000)
    said = heartbeat(lte=month)
    names = [f"r{number:03d}" for number in range(1, 803)]
    Writer(database).commit([SawGateway(controller=name, time=NOW, heartbeat=said) for name in names])
    operator = browser(Role.OPERATOR)
    assert operator.post(PAGE, SLOWER).status_code == 303
    addresses = [PAGE, f"{PAGE}?skip=700", f"{PAGE}?name=r4&tuned=true", f"{PAGE}/changes/1"]
    assert max(len(operator.get(address).content) for address in addresses) < 150_000
    assert "the 20 fullest lines" in text_of(operator.post(f"{PAGE}/preview", SLOWER))
    assert "802 waits for the answer" in text_of(operator.get(f"{PAGE}/changes/1"))
