"""Text of people, devices and other programs is shown as text: planted HTML and scripts come out escaped."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Table, update

from harness.furnished import furnished, visited
from harness.routes import Visitors, all_routes
from tests.unit.utility.conftest import NOW
from utility.access.people import Actor, Via
from utility.access.store import audit_log
from utility.access.tables import api_token, person, session
from utility.alarms.tables import alarm, alarm_acknowledgement, alarm_silence
from utility.corrections.tables import correction, correction_step, finding
from utility.database.database import Database
from utility.jobs.tables import job, period
from utility.readings.tables import dead_letter
from utility.registry.tables import installed, meter, registry_change

ROOT = Path(__file__).resolve().parents[4]
ROUTES = all_routes()
PROBE = """'"><b id=probe><script>probe()</script>"""
WORKING = re.compile(r"""<b id=probe|<script>probe|(href|src|action|formaction|hx-[a-z]+)=["']?javascript:""")
"""What a browser would take for HTML or run, if it stood in a page as it was planted."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with furnished(tmp_path_factory.mktemp("planted"), NOW) as made:
        yield made


@pytest.fixture(scope="module")
def visitors(database: Database) -> Iterator[Visitors]:
    with visited(database, NOW) as made:
        yield made


def found(text: str) -> list[str]:
    """Return what a browser would run of the planted text, with what stands around it."""
    return [text[max(0, at.start() - 40) : at.end() + 40] for at in WORKING.finditer(text)]


def is_html(answer: Any) -> bool:
    return "text/html" in answer.headers.get("content-type", "")


def test_finder_finds_a_hole() -> None:
    assert found(f"<p>{PROBE}</p>")
    assert found('<a href="javascript:probe()">')
    assert not found("<p>&lt;b id=probe&gt;&lt;script&gt;probe()</p>")


def test_templates_escape_everything() -> None:
    """No template and no page switches the escaping off.

    Three things have tags of their own: the picture of power, which escapes its words, the cells of a list, which
    escape the heads above them, and the texts of templates with their translations, which escape their values. ``_``
    takes a text of the template alone, nothing that was stored.
    """
    templates = list((ROOT / "utility").glob("*/templates/*.html"))
    assert len({path.name for path in templates}) == len(templates) > 10, (
        "each room's templates have names of their own"
    )
    for path in [*templates, *(ROOT / "utility").rglob("*.py")]:
        text = path.read_text()
        for word in ("|safe", "| safe", "Markup(", "autoescape false", "autoescape=False", "|tojson", "| tojson"):
            allowed = 3 if (path.name, word) == ("rendering.py", "Markup(") else 0
            assert text.count(word) == allowed, f"{path.name}: {word}"
        stored = re.search(r"\b_\((?!\s*\")", text) if path.suffix == ".html" else None
        assert not stored, f"{path.name}: a translation of what is no text of the template"
        unquoted = re.search(r"\s[\w:-]+=\{\{", text) if path.suffix == ".html" else None
        assert not unquoted, f"{path.name}: an attribute without quotation marks"


def test_what_a_request_says_is_not_put_into_a_page(visitors: Visitors) -> None:
    """Reflected: in the path, the query, a form; also in the words of errors."""
    headers, asked = visitors.session("everything"), 0
    for route in ROUTES:
        if route.path == "/console/logout":
            continue
        paths = {route.address({}), route.address(dict.fromkeys(route.in_path, "%3Cb%20id=probe%3E%22%3E"))}
        for path in paths:
            for text in (PROBE, "javascript:probe()") if route.is_page else (PROBE,):
                put = {name: [text] for name in (*route.in_query, *route.in_body)} | {"message": [text], "next": [text]}
                options: dict[str, Any] = {"params": put} if route.is_safe else {"params": put, "data": put}
                answer = visitors.ask(route.method, path, headers, **options)
                assert not is_html(answer) or not found(answer.text), f"{route.method} {path}"
                asked += is_html(answer)
                location = answer.headers.get("location", "/console/")
                assert re.match(r"/(?![/\\])", location), f"{route.method} {path} goes to {location}"
    assert asked > 50


def plant(database: Database, table: Table, *columns: str) -> None:
    with database.writes.begin() as connection:
        for name in columns:
            text = PROBE[: getattr(table.c[name].type, "length", None) or None]
            connection.execute(update(table).values({name: text}))


def rows_of_others() -> list[tuple[Table, dict[str, Any]]]:
    """Return rows whose text comes from gateways, from Prometheus, from clerks and operators, and from errors."""
    labels = {"alertname": PROBE, "controller": PROBE, "runbook_url": "javascript:probe()", "severity": PROBE}
    period_of_a_job = {"job": PROBE[:32], "start": NOW, "until": NOW + 1, "due": NOW, "name": PROBE[:32]}
    proposed = {"quarter": NOW // 900, "meter_no": 1, "record_type": 3, "version": 1, "owner_no": 1, "method": 1}
    return [
        (
            alarm,
            {"key": "k", "since": NOW - 60, "stage": "standing", "ended": None, "labels": json.dumps(labels)}
            | {"summary": PROBE, "description": PROBE},
        ),
        (alarm_acknowledgement, {"key": "k", "person": PROBE, "note": PROBE, "made": NOW, "until": NOW + 600}),
        (
            alarm_silence,
            {
                "subject": PROBE,
                "key": "",
                "name": PROBE[:64],
                "places": "",
                "part": "",
                "person": PROBE,
                "note": PROBE,
                "made": NOW,
                "start": NOW,
            }
            | {"until": NOW + 600},
        ),
        (
            finding,
            {"meter_no": 1, "record_type": 3, "check_name": "spike", "first_quarter": NOW // 900, "figure": 5}
            | {"until_quarter": NOW // 900 + 1, "threshold": 3, "found": NOW, "closed_by": PROBE, "why": PROBE},
        ),
        (correction, proposed | {"no": 7, "mask": 1, "energy": 5, "state": "proposed", "payload": b""}),
        (
            correction_step,
            {"correction_no": 7, "time": NOW, "person": PROBE, "state_before": "", "state_after": "proposed"}
            | {"why": PROBE},
        ),
        (
            dead_letter,
            {"meter": 10001, "log": 0, "generation": 1, "record_id": 1, "reason": 1, "crc": 0, "time": NOW}
            | {"sender": PROBE[:16], "content": PROBE.encode(), "state": "quarantined", "why": PROBE}
            | {"decided_by": PROBE},
        ),
        (period, period_of_a_job | {"attempts": 1, "error": PROBE, "waits_for": PROBE}),
        (job, {"name": PROBE[:32], "failed": NOW, "error": PROBE, "period": PROBE[:32]}),
    ]


def test_stored_text_is_not_put_into_a_page_as_html(visitors: Visitors, database: Database) -> None:
    """Stored: in every text that people, devices or other programs give, on every page."""
    headers = visitors.session("everything")
    plant(database, person, "display", "created_by")
    plant(database, api_token, "label")
    plant(database, session, "address", "agent")
    plant(database, installed, "place", "building")
    plant(database, meter, "location", "address")
    plant(database, registry_change, "person", "subject")
    with database.writes.begin() as connection:
        for table, row in rows_of_others():
            connection.execute(table.insert(), row)
    actor = Actor(name=PROBE[:32], roles=frozenset(), account=None, via=Via.MACHINE, address=PROBE)
    with database.writes.begin() as connection:
        audit_log.record(connection, actor, NOW, PROBE[:48], PROBE, {PROBE: PROBE}, [PROBE])
    shown = set()
    for route in ROUTES:
        if route.is_safe:
            query = {name: value for name, value in (("day", "2027-01-14"), ("q", "1")) if name in route.in_query}
            names = {"microgrid": "r001", "meter": "10001", "month": "2026-12", "name": "everything", "account": "2"}
            answer = visitors.ask("GET", route.address(names), headers, params=query)
            if is_html(answer):
                assert not found(answer.text), route.path
                if "&lt;b id=probe" in answer.text:
                    shown.add(route.path)
    # The planted text must be on pages, or the test shows nothing.
    assert {"/console/audit", "/console/account", "/console/users", "/console/quarantine"} <= shown, shown
