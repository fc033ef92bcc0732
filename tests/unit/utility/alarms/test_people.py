"""Alarms as people see them: on the list, by calls and in the application; nothing that waits is hidden."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.model.exceptions import ConfigError
from harness.console import Browser, text_of
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.alarms.alarm import KINDS, Alarm, AlarmStage, Condition, Life, Severity, advance
from utility.alarms.board import (
    FURTHEST_S,
    LONGEST_S,
    Acknowledgement,
    AlarmRow,
    AlarmState,
    Silence,
    check_note,
    check_place,
    check_window,
    counted,
    rows,
)
from utility.alarms.calls import CALL_S, Called, after, call, digest, due
from utility.alarms.conditions import DatabaseCounts, UtilityFacts
from utility.alarms.decisions import alarms_of
from utility.alarms.jobs import AlarmNotifier
from utility.database.database import Database, open_database
from utility.settings import NotifySettings
from utility.webkit.console.console import Console
from utility.webkit.page import first_step
from utility.webkit.services import Api

BOARD_NOW = 1_800_000_000


def alarm(name: str = "GatewaySilent", since: int = BOARD_NOW - 600, **fields: Any) -> Alarm:
    labels = {"alertname": f"Commonwatt{name}", "severity": "critical", "part": "utility", "place": "utility"}
    labels |= fields.pop("labels", {"controller": "r001"})
    return Alarm(labels=labels, summary="It is silent.", since=since, **fields)


def silence(**fields: Any) -> Silence:
    which = {} if fields.keys() & {"alarm", "name", "places"} else {"places": "r001"}
    base: dict[str, Any] = {"no": 1, "start": BOARD_NOW - 60, "until": BOARD_NOW + 60, "person": "ann", "note": "cable"}
    return Silence(**{**base, **which, **fields})


def acknowledgement(**fields: Any) -> Acknowledgement:
    base: dict[str, Any] = {
        "no": 1,
        "key": alarm().key,
        "person": "ann",
        "note": "on my way",
        "made": BOARD_NOW - 60,
        "until": BOARD_NOW + 60,
    }
    return Acknowledgement(**(base | fields))


def state(
    *, of: Alarm | None = None, at: int = BOARD_NOW, said: tuple[Any, ...] = (), held: tuple[Any, ...] = ()
) -> AlarmState:
    (row,) = rows([of or alarm()], said, held, at)
    return row.state


def test_acknowledged_alarm_is_active_again_at_its_end_and_when_it_comes_anew() -> None:
    assert state() is AlarmState.ACTIVE
    assert state(said=(acknowledgement(),)) is AlarmState.ACKNOWLEDGED
    assert state(said=(acknowledgement(),), at=BOARD_NOW + 60) is AlarmState.ACTIVE
    assert state(of=alarm(since=BOARD_NOW - 30), said=(acknowledgement(),)) is AlarmState.ACTIVE
    assert state(of=alarm(labels={"controller": "r002"}), said=(acknowledgement(),)) is AlarmState.ACTIVE


def test_silenced_alarm_stays_on_the_board_below_the_others_and_ends_with_the_silence() -> None:
    here, there = alarm(), alarm(labels={"controller": "r002"})
    found = rows([here, there], [acknowledgement()], [silence()], BOARD_NOW)
    assert [(row.alarm.place, row.state) for row in found] == [
        ("r002", AlarmState.ACTIVE),
        ("r001", AlarmState.SUPPRESSED),
    ]
    assert [one.note for one in found[1].silences] == ["cable"]
    totals = counted(found, [silence(), silence(start=BOARD_NOW + 5)], BOARD_NOW)
    assert (totals.critical, totals.suppressed, totals.silences) == (1, 1, 1)
    assert state(held=(silence(),), at=BOARD_NOW + 60) is AlarmState.ACTIVE
    assert state(held=(silence(start=BOARD_NOW + 1),)) is AlarmState.ACTIVE


@pytest.mark.parametrize(
    ("place", "part", "held"),
    [
        ("r001", "", {"silent", "broker"}),
        ("r001", "gateway", {"silent"}),
        ("r001", "broker", {"broker"}),
        ("utility", "", {"utility"}),
        ("r002, r003", "", {"other"}),
        ("r002 r001 utility", "gateway", {"silent", "other"}),
        ("", "broker", {"broker"}),
        ("", "", {"silent", "broker", "utility", "other"}),
        ("head-end", "", set()),
    ],
)
def test_maintenance_holds_the_alarms_of_its_place_and_no_others(place: str, part: str, held: set[str]) -> None:
    alarms = {
        "silent": alarm(),
        "broker": alarm("PartDown", labels={"place": "r001", "part": "broker"}),
        "utility": alarm("UtilityDisconnected", labels={}),
        "other": alarm(labels={"controller": "r002"}),
    }
    one = silence(places=place, part=part)
    assert {name for name, each in alarms.items() if one.holds(each)} == held


def test_silence_of_an_alarm_holds_that_one_alone_and_one_of_a_name_all_of_it() -> None:
    one, every = silence(alarm=alarm().key), silence(name=alarm().name)
    assert one.holds(alarm(description="other figures"))
    assert not one.holds(alarm(labels={"controller": "r002"}))
    assert every.holds(alarm(labels={"controller": "r002"}))
    assert not any(each.holds(alarm("BacklogOld")) for each in (one, every))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (BOARD_NOW, BOARD_NOW),
        (BOARD_NOW - 50, BOARD_NOW),
        (BOARD_NOW, BOARD_NOW + LONGEST_S + 1),
        (BOARD_NOW + FURTHEST_S + 1, BOARD_NOW + FURTHEST_S + 60),
        (BOARD_NOW + 60, BOARD_NOW + 30),
    ],
)
def test_silence_without_a_near_end_is_refused(start: int, end: int) -> None:
    check_window(BOARD_NOW, BOARD_NOW + LONGEST_S, BOARD_NOW)
    with pytest.raises(ConfigError, match=r"^(start|until): "):
        check_window(start, end, BOARD_NOW)


def test_maintenance_of_what_is_not_there_and_notes_that_say_nothing_are_refused() -> None:
    check_place("head-end", "broker", lambda _: False)
    with pytest.raises(ConfigError, match="place: r999"):
        check_place("r001 r999", "", lambda name: name == "r001")
    with pytest.raises(ConfigError, match="part: meter "):
        check_place("r001", "meter", lambda _: True)
    for note in ("", "  ", "a\nb", "x" * 201):
        with pytest.raises(ConfigError, match="note: "):
            check_note(note)


def life(lives: dict[str, Life]) -> tuple[AlarmStage, int] | None:
    return next(((one.stage, one.alarm.since) for one in lives.values()), None)


def test_condition_whose_beginning_is_known_need_not_wait_again_after_a_restart() -> None:
    found = [Condition(alarm=alarm(), for_s=120, held_s=500)]
    assert life(advance({}, found, BOARD_NOW, lambda _: True)) == (AlarmStage.STANDING, BOARD_NOW - 500)


def test_condition_that_passes_in_time_is_no_alarm() -> None:
    found = [Condition(alarm=alarm(), for_s=120)]
    lives = advance({}, found, BOARD_NOW, lambda _: True)
    assert life(lives) == (AlarmStage.WAITING, BOARD_NOW)
    assert life(advance(lives, [], BOARD_NOW + 60, lambda _: True)) is None
    lives = advance(lives, found, BOARD_NOW + 120, lambda _: True)
    assert life(lives) == (AlarmStage.STANDING, BOARD_NOW)
    assert life(advance(lives, [], BOARD_NOW + 150, lambda _: False)) == (AlarmStage.STANDING, BOARD_NOW)
    ended = advance(lives, [], BOARD_NOW + 150, lambda _: True)
    assert [(one.stage, one.ended) for one in ended.values()] == [(AlarmStage.ENDED, BOARD_NOW + 150)]


@given(steps=st.lists(st.tuples(st.booleans(), st.integers(0, 200)), max_size=30), for_s=st.integers(0, 300))
def test_alarm_stands_exactly_from_when_its_condition_has_lasted(steps: list[tuple[bool, int]], for_s: int) -> None:
    lives: dict[str, Life] = {}
    now, began = BOARD_NOW, None
    for holds, later in steps:
        now += later
        began = (now if began is None else began) if holds else None
        found = [Condition(alarm=alarm(), for_s=for_s)] if holds else []
        after = advance(lives, found, now, lambda _: True)
        stands = began is not None and now - began >= for_s
        assert any(one.stage is AlarmStage.STANDING for one in after.values()) == stands
        # Whatever stood and does not any more has ended, once.
        stood = any(one.stage is AlarmStage.STANDING for one in lives.values())
        assert any(one.stage is AlarmStage.ENDED for one in after.values()) == (stood and not stands)
        lives = {key: one for key, one in after.items() if one.stage is not AlarmStage.ENDED}


NOON = int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp())


def row(kind: str, state: AlarmState = AlarmState.ACTIVE, **labels: str) -> AlarmRow:
    return AlarmRow(alarm=KINDS[kind].alarm("In figures.", **labels), state=state, acknowledgement=None, silences=())


SILENT = [row("GatewaySilent", controller=f"r{n:03d}") for n in range(1, 81)]


def test_eighty_gateways_that_fall_silent_at_once_are_one_call_that_says_what_to_do_first() -> None:
    ((name, alarms),) = due(SILENT, {}, NOON).items()
    message = call("Sunfield", alarms, first_step(name), "https://town.example/runbooks#commonwattgatewaysilent")
    assert message.title == "Sunfield: The gateway of r001 is silent, and 79 more like it"
    assert "- and 60 more" in message.text
    assert "Do first: " in message.text
    assert message.text.endswith("r001, r002, r003 and 77 more: https://town.example/runbooks#commonwattgatewaysilent")


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.severity is Severity.CRITICAL])
def test_each_critical_alarm_has_a_first_step(kind: str) -> None:
    step = first_step(f"Commonwatt{kind}")
    assert step != "see the runbook"
    assert "](" not in step


@pytest.mark.parametrize("state", [AlarmState.ACKNOWLEDGED, AlarmState.SUPPRESSED])
def test_what_a_person_sees_to_or_silenced_and_warnings_make_no_call(state: AlarmState) -> None:
    assert due([row("GatewaySilent", state, controller="r001"), row("BacklogOld", controller="r001")], {}, NOON) == {}


def test_a_cause_calls_again_after_1_2_4_hours_and_so_on_while_it_waits_then_once_a_day() -> None:
    called: dict[str, Called] = {}
    at = []
    for minute in range(0, 4 * 1440, 5):
        now = NOON + 60 * minute
        made = due(SILENT[:1], called, now)
        called = after(SILENT[:1], called, made, now)
        at += [minute // 60] if made else []
    assert at == [0, 1, 3, 7, 15, 31, 55, 79]


@given(
    st.lists(
        st.tuples(st.integers(0, 1200), st.sets(st.integers(0, 9)), st.sampled_from(["GatewaySilent", "StoreDamaged"])),
        max_size=60,
    )
)
def test_no_cause_calls_twice_within_an_hour_however_alarms_come_and_go(
    steps: list[tuple[int, set[int], str]],
) -> None:
    called: dict[str, Called] = {}
    last: dict[str, int] = {}
    now = NOON
    for passed_s, numbers, kind in steps:
        now += passed_s
        rows = [row(kind, controller=f"r{n}") for n in numbers]
        made = due(rows, called, now)
        called = after(rows, called, made, now)
        for name in made:
            assert now - last.get(name, -CALL_S) >= CALL_S
            last[name] = now


def test_the_daily_message_lists_what_waits_and_is_none_without() -> None:
    rows = [*SILENT[:1], row("BacklogOld", controller="r002"), row("JobLate", AlarmState.SUPPRESSED, task="gaps")]
    message = digest("Sunfield", rows, "https://town.example/console/alarms")
    assert message is not None
    assert message.title == "Sunfield: 2 alarms wait for a person, 1 of them critical"
    assert "gaps" not in message.text
    assert digest("Sunfield", rows[2:], "x") is None


class Taken:
    """A server of another machine that takes messages, or refuses."""

    def __init__(self) -> None:
        self.messages: list[dict[str, Any]] = []
        self.beats = 0
        self.status = 200
        taken = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if taken.status == 200:
                    taken.messages.append(body)
                self._end()

            def do_GET(self) -> None:
                taken.beats += 1
                self._end()

            def _end(self) -> None:
                self.send_response(taken.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.port = self.server.server_port


@pytest.fixture
def taken() -> Iterator[Taken]:
    made = Taken()
    yield made
    made.server.shutdown()
    made.server.server_close()


def notifier(
    tmp_path: Path, taken: Taken, rows: list[AlarmRow], *, is_active: bool = True
) -> tuple[AlarmNotifier, Database]:
    database = open_database(f"sqlite:///{tmp_path / 'u.db'}", create=True)
    base = f"127.0.0.1:{taken.port}"
    settings = NotifySettings(to=(f"json://anna:secret@{base}/alarms",), name="Sunfield", dead_man=f"http://{base}/x")
    utc = ZoneInfo("UTC")
    made = AlarmNotifier(settings, database, zone=lambda: utc, rows=lambda: rows, is_active=lambda: is_active)
    return made, database


def test_a_call_that_was_sent_is_not_sent_again_after_a_restart(tmp_path: Path, taken: Taken) -> None:
    for now in (NOON, NOON + 15, NOON + 1_800):
        made, database = notifier(tmp_path, taken, SILENT)
        made.look(now)
        database.close()
    assert [message["title"] for message in taken.messages] == [
        "Sunfield: The gateway of r001 is silent, and 79 more like it",
        "Sunfield: 80 alarms wait for a person, 80 of them critical",
    ]


def test_a_call_that_no_address_took_is_made_again_and_counted(tmp_path: Path, taken: Taken) -> None:
    made, database = notifier(tmp_path, taken, SILENT[:1])
    taken.status = 500
    made.look(NOON)
    assert taken.messages == []
    taken.status = 200
    made.look(NOON + 15)
    assert taken.messages[0]["title"] == "Sunfield: The gateway of r001 is silent."
    assert made.counts["call", "failed"] == made.counts["call", "sent"] == 1
    database.close()


def test_a_test_names_each_address_without_its_secrets(tmp_path: Path, taken: Taken) -> None:
    made, database = notifier(tmp_path, taken, [])
    ((shown, is_sent),) = made.test()
    assert is_sent
    assert str(taken.port) in shown
    assert "secret" not in shown
    database.close()


def test_the_dead_mans_address_is_called_and_a_standby_makes_no_call(tmp_path: Path, taken: Taken) -> None:
    made, database = notifier(tmp_path, taken, SILENT)
    made.beat()
    assert taken.beats == 1
    database.close()
    made, database = notifier(tmp_path, taken, SILENT, is_active=False)
    made.beat()
    made.look(NOON)
    assert (taken.beats, taken.messages) == (1, [])
    database.close()


def test_an_alarm_of_unknown_severity_calls() -> None:
    alarm = Alarm(labels={"alertname": "CommonwattX"}, summary="x")
    rows = [AlarmRow(alarm=alarm, state=AlarmState.ACTIVE, acknowledgement=None, silences=())]
    assert due(rows, {}, NOON) == {"CommonwattX": [alarm]}


KEY = "CommonwattGatewaySilent|r001|gateway"


@pytest.fixture
def api(app: FastAPI) -> Api:
    console: Console = app.state.console
    api, clock = console.api, console.api.clock
    facts: Callable[[DatabaseCounts | None], UtilityFacts] = lambda _: UtilityFacts(silent_s={"r001": 400.0})  # noqa: E731 - replaces a field
    object.__setattr__(alarms_of(api), "_facts", facts)
    for _ in range(2):
        alarms_of(api).count()
        alarms_of(api).look()
        clock.origin += 150
    alarms_of(api).look()
    alarms_of(api).save()
    return api


def act(person: Browser, path: str, body: dict[str, Any]) -> Any:
    return person.send("POST", path, json=body, headers={"X-CSRF": person.csrf})


def test_program_silences_an_alarm_with_an_end_and_every_other_person_sees_it(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator, viewer = browser(Role.OPERATOR), browser(Role.VIEWER)
    (alarm,) = viewer.get("/alarms").json()["alarms"]
    assert (alarm["key"], alarm["state"], alarm["runbook"]) == (KEY, "active", "/runbooks#commonwattgatewaysilent")
    assert alarm["since"].endswith("Z")
    until = "2027-01-15T12:00:00Z"
    made = act(operator, "/alarms/silences", {"key": KEY, "note": "cable", "until": until})
    assert made.status_code == 200
    board = viewer.get("/alarms").json()
    assert (board["alarms"][0]["state"], board["alarms"][0]["silences"]) == ("suppressed", [str(made.json()["no"])])
    (silence,) = board["silences"]
    assert (silence["person"], silence["until"], silence["holds"]) == ("operator", until, True)
    assert act(operator, f"/alarms/silences/{silence['id']}/end", {}).status_code == 200
    assert viewer.get("/alarms").json()["silences"] == []


def test_program_is_told_what_is_wrong_with_a_request(api: Api, browser: Callable[..., Browser]) -> None:
    del api
    operator = browser(Role.OPERATOR)
    good = {"key": KEY, "note": "cable", "until": NOW + 3_600}
    for wrong, words in (
        ({"key": "x"}, "there is no such alarm"),
        ({"until": NOW}, "until: "),
        ({"until": "2027-01-15T12:00"}, None),
        ({"note": ""}, "note"),
        ({"until": "soon"}, "is no time"),
    ):
        answer = act(operator, "/alarms/acknowledgements", good | wrong)
        assert answer.status_code == (200 if words is None else 422)
        assert (words or "no") in answer.text
    late = {"place": "r999", "start": NOW, "until": NOW + 3_600, "note": "cable"}
    assert "r999" in act(operator, "/alarms/maintenances", late).text
    assert act(browser(Role.VIEWER), "/alarms/acknowledgements", good).status_code == 403


def test_operator_silences_an_alarm_in_two_taps_and_every_page_shows_it(
    api: Api, browser: Callable[..., Browser]
) -> None:
    del api
    operator, viewer = browser(Role.OPERATOR), browser(Role.VIEWER)
    page = operator.get("/console/alarms")
    (link,) = re.findall(r'href="(/console/alarms/one[^"]*)"', page.text)
    form = operator.get(unescape(link))
    assert "The gateway of r001 is silent." in text_of(form)
    for look in re.findall(r'href="((?:/runbooks|/console/microgrids)[^"]*)"', form.text):
        assert operator.get(look).status_code == 200
    done = operator.post("/console/alarms/silences", {"key": KEY, "for_s": 3_600})
    assert (done.status_code, done.headers["location"].partition("?")[0]) == (303, "/console/alarms")
    assert "The alarm is silenced" in text_of(operator.get(done.headers["location"]))
    for path in ("/console/alarms", "/console/quarantine", "/console/alarms/count"):
        assert "1 silenced" in text_of(viewer.get(path))
        assert "no alarm" not in text_of(viewer.get(path)), "a silenced alarm still stands"
    shown = text_of(viewer.get("/console/alarms"))
    assert "suppressed" in shown
    assert "operator, until" in shown
    assert "End now" not in shown
    assert operator.post("/console/alarms/silences/1/end").status_code == 303
    assert "1 critical" in text_of(viewer.get("/console/alarms/count"))
    again = operator.post("/console/alarms/silences/1/end")
    assert (again.status_code, "silence 1 does not hold" in again.text) == (409, True)


def test_page_is_sent_again_only_when_it_changed_or_its_ages_did(api: Api, browser: Callable[..., Browser]) -> None:
    viewer = browser(Role.VIEWER)
    page = viewer.get("/console/alarms").text
    live, count = (unescape(re.search(rf'hx-get="(/console/alarms/{of}[^"]*)"', page)[1]) for of in ("live", "count"))  # type: ignore[index]
    assert [viewer.get(path).status_code for path in (live, count)] == [204, 204]
    api.clock.origin += 31
    assert [viewer.get(path).status_code for path in (live, count)] == [200, 204]
    act(browser(Role.OPERATOR), "/alarms/silences", {"key": KEY, "note": "cable", "until": NOW + 9_000})
    assert [viewer.get(path).status_code for path in (live, count)] == [200, 200]


def test_acknowledgement_shows_who_sees_to_it_until_when_and_can_be_ended(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator = browser(Role.OPERATOR)
    fields = {"key": KEY, "for_s": 14_400, "note": "<b>Ann</b> drives there"}
    assert operator.post("/console/alarms/acknowledgements", fields).status_code == 303
    page = operator.get("/console/alarms").text
    assert "&lt;b&gt;Ann&lt;/b&gt; drives there" in page
    assert text_of(operator.get("/console/alarms/count")) == "○ 1 acknowledged"
    assert operator.post(f"/console/alarms/acknowledgements/{2**70}/end").status_code == 422
    assert operator.post("/console/alarms/acknowledgements/1/end").status_code == 303
    assert alarms_of(api).board().counts.critical == 1
    neither = operator.post("/console/alarms/silences", {"key": KEY, "note": "x"})
    assert (neither.status_code, "choose for how long" in neither.text) == (422, True)
    assert operator.get("/console/alarms/one?key=CommonwattNone").status_code == 404


def test_maintenance_takes_the_towns_time_and_tells_mistakes_beside_what_was_typed(
    api: Api, browser: Callable[..., Browser]
) -> None:
    operator = browser(Role.OPERATOR)
    good = {
        "place": "r001",
        "part": "gateway",
        "start": "2027-01-15T08:00",
        "until": "2027-01-15T12:00",
        "note": "cable",
    }
    assert operator.post("/console/alarms/maintenance", good).status_code == 303
    (silence,) = alarms_of(api).board().silences
    assert (silence.subject, silence.until - silence.start) == ("the gateway of r001", 14_400)
    assert datetime.fromtimestamp(silence.start, UTC).hour == 13  # New York is five hours behind
    for wrong, words in (
        ({"place": "r001, r999"}, "r999 is no microgrid"),
        ({"place": ""}, "name the places, or choose the whole town"),
        ({"place": "r001", "whole": "yes"}, "name the places, or choose the whole town"),
        ({"until": "2027-01-15T08:00"}, "comes after the start"),
        ({"until": "2027-03-15T08:00"}, "is more than 31 days after the start"),
        ({"start": "soon"}, "is no time"),
        ({"note": " "}, "say why"),
        ({"part": "roof"}, "roof is none of"),
    ):
        answer = operator.post("/console/alarms/maintenance", good | wrong)
        assert answer.status_code == 422
        assert words in text_of(answer)
        field = next(iter(wrong))
        assert f'name="{field}"' in answer.text.partition('aria-invalid="true"')[0].rpartition("<")[2]
        assert f'aria-describedby="{field}-' in answer.text
        typed = good | wrong
        assert all(f'value="{typed[name]}"' in answer.text for name in ("place", "start", "until"))
    assert len(alarms_of(api).board().silences) == 1


def test_viewer_acts_on_nothing_and_a_resident_sees_nothing(api: Api, browser: Callable[..., Browser]) -> None:
    viewer, resident = browser(Role.VIEWER), browser(Role.RESIDENT, account=5)
    acts: dict[str, dict[str, Any]] = {
        "/console/alarms/silences": {"key": KEY, "for_s": 3_600},
        "/console/alarms/maintenance": {"start": "2027-01-15T08:00", "until": "2027-01-15T12:00", "note": "x"},
        "/console/alarms/silences/1/end": {},
        "/console/alarms/acknowledgements/1/end": {},
    }
    for person in (viewer, resident):
        assert {person.post(path, fields).status_code for path, fields in acts.items()} == {403}
    assert alarms_of(api).board().silences == ()
    for path in ("/console/alarms", "/console/alarms/count", f"/console/alarms/one?key={KEY}", "/alarms"):
        assert (viewer.get(path).status_code, resident.get(path).status_code) == (200, 403)
    assert "alarm-count" not in resident.get("/console/home").text


def test_page_leads_to_alertmanager_where_there_is_one(api: Api, browser: Callable[..., Browser]) -> None:
    viewer = browser(Role.VIEWER)
    assert "Alertmanager" not in viewer.get("/console/alarms").text
    object.__setattr__(api.settings, "alertmanager", "https://alerts.example")
    assert '<a href="https://alerts.example"' in viewer.get("/console/alarms").text


def test_page_of_a_town_with_every_gateway_silent_is_small(api: Api, browser: Callable[..., Browser]) -> None:
    facts = UtilityFacts(silent_s={f"r{no:03}": 400.0 for no in range(1, 803)})
    object.__setattr__(alarms_of(api), "_facts", lambda _: facts)
    alarms_of(api).look()
    api.clock.origin += 150
    alarms_of(api).look()
    operator = browser(Role.OPERATOR)
    page = operator.get("/console/alarms")
    assert "Gateway silent: 802 alarms" in text_of(page)
    assert "802 critical" in text_of(page)
    assert len(page.content) < 50_000
    one = alarms_of(api).board().rows[0].alarm.key
    assert "All 802 alarms of this name: r001, r002, r003 and 799 more" in text_of(
        operator.get("/console/alarms/one", params={"key": one})
    )
    # One silence holds them all, and those that begin later.
    assert operator.post("/console/alarms/silences", {"key": one, "for_s": 3_600, "equal": "true"}).status_code == 303
    facts.silent_s["r900"] = 400.0  # type: ignore[index]
    api.clock.origin += 150
    alarms_of(api).look()
    api.clock.origin += 150
    alarms_of(api).look()
    board = alarms_of(api).board()
    assert (len(board.rows), board.counts.critical, len(board.silences)) == (803, 0, 1)
