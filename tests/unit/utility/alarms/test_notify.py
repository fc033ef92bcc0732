"""People are called for alarms: critical ones at once, others once a day, a cause at most once an hour."""

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commonwatt.config.utility import NotifySettings
from utility.alarms.alarm import Alarm, Severity
from utility.alarms.board import Row, State
from utility.alarms.calls import CALL_S, Called, after, call, digest, due
from utility.alarms.jobs.notify import Notifier
from utility.alarms.kinds import KINDS
from utility.database.database import Database, open_database
from utility.webkit.page import first_step

NOON = int(datetime(2026, 11, 27, 12, tzinfo=UTC).timestamp())


def row(kind: str, state: State = State.ACTIVE, **labels: str) -> Row:
    return Row(alarm=KINDS[kind].alarm("In figures.", **labels), state=state, acknowledgement=None, silences=())


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


@pytest.mark.parametrize("state", [State.ACKNOWLEDGED, State.SUPPRESSED])
def test_what_a_person_sees_to_or_silenced_and_warnings_make_no_call(state: State) -> None:
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
    rows = [*SILENT[:1], row("BacklogOld", controller="r002"), row("JobLate", State.SUPPRESSED, task="gaps")]
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


def notifier(tmp_path: Path, taken: Taken, rows: list[Row], *, is_active: bool = True) -> tuple[Notifier, Database]:
    database = open_database(f"sqlite:///{tmp_path / 'u.db'}", create=True)
    base = f"127.0.0.1:{taken.port}"
    settings = NotifySettings(to=(f"json://anna:secret@{base}/alarms",), name="Sunfield", dead_man=f"http://{base}/x")
    utc = ZoneInfo("UTC")
    made = Notifier(settings, database, zone=lambda: utc, rows=lambda: rows, is_active=lambda: is_active)
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
    rows = [Row(alarm=alarm, state=State.ACTIVE, acknowledgement=None, silences=())]
    assert due(rows, {}, NOON) == {"CommonwattX": [alarm]}
