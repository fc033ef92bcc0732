"""What waits for a person: seen by staff, decided by clerks, once, with a line in the audit log."""

from collections.abc import Callable

import pytest

from commonwatt.model.effects import Write
from commonwatt.model.time.now import Now, Trust
from harness.console import Browser, text_of
from harness.surroundings.records import a_letter, a_record
from harness.surroundings.sent import batch, blocks
from tests.unit.utility.conftest import NOW
from utility.access.roles import Role
from utility.access.store import audit_log
from utility.database.database import Database
from utility.readings.core import Core
from utility.readings.events import FromGateway
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.writer import Writer
from utility.registry.store.registry import load_snapshot

QUARTER = 2_000_000
BEGIN = QUARTER * 900
Browsers = Callable[..., Browser]


@pytest.fixture
def letters(database: Database) -> None:
    send_letters(database)


def send_letters(database: Database) -> None:
    """Store three quarantined readings of meter 10001."""
    found = []
    for slot in (1, 2, 3):
        start = BEGIN + 15 * slot
        record = a_record(start, 250_001, record_id=slot)
        found.append(a_letter(record, time=NOW))
    with database.reads.begin() as connection:
        core = Core(7, load_snapshot(connection), 1800)
    sent = batch(blocks({0: 5}), dead_letters=found)
    step = core.handle(FromGateway("cw1/r001/u/batch", sent.pack()), Now(NOW, Trust.NONE))
    Writer(database).commit([effect.change for effect in step.effects if isinstance(effect, Write)])


def states(database: Database) -> list[str]:
    with database.reads.begin() as connection:
        return [kept.state for kept in dead_letters(connection, 10)][::-1]


@pytest.mark.usefixtures("letters")
def test_clerk_decides_many_readings_and_the_second_clerk_is_told(browser: Browsers, database: Database) -> None:
    anna, ben = browser(Role.CLERK, name="anna"), browser(Role.CLERK, name="ben")
    page = text_of(anna.get("/console/quarantine"))
    assert "Readings (3)" in page
    assert "250001 mWh" in page
    done = anna.post("/console/quarantine", {"no": ["1", "2"], "action": "released", "why": "400 A"})
    assert done.status_code == 303
    assert "2 readings released" in text_of(anna.get(done.headers["location"]))
    late = ben.post("/console/quarantine", {"no": ["2", "3"], "action": "refused"})
    assert late.status_code == 409
    assert "dead letter 2: is released already, by anna" in text_of(late)
    assert "Nothing was changed" in text_of(late)
    assert states(database) == ["released", "released", "quarantined"], "all or none"
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.Wanted(action="reading."), 9)
    assert [(entry["person"], entry["subject"]) for entry in entries] == [
        ("anna", "dead letter 2"),
        ("anna", "dead letter 1"),
    ]
    assert "400 A" in str(entries[0]["after"])


@pytest.mark.usefixtures("letters")
def test_reading_is_shown_among_its_neighbours(browser: Browsers) -> None:
    viewer = browser(Role.VIEWER)
    page = viewer.get("/console/quarantine/readings/2")
    assert "Release it" not in page.text, "a viewer reads only"
    words = text_of(page)
    assert "energy through the meter: 60.0 kW; plausible is at most 60.0 kW" in words
    assert "house 1 in r001" in words
    assert "15 Jan 2027 03:00:30" in words, "the town's time"
    clerk = text_of(browser(Role.CLERK).get("/console/quarantine/readings/2"))
    assert "If you release it" in clerk
    assert "stay missing" in clerk
    assert viewer.post("/console/quarantine", {"no": "2", "action": "released"}).status_code == 403
    stored, waits = viewer.get("/console/quarantine/readings/2/plot.json").json()["series"]
    there = [(x, y) for x, y in zip(stored["x"], stored["high"], strict=True) if y is not None]
    assert there == [(BEGIN, 0.0012)], "5 mWh in 15 s are 1.2 W"
    assert [x for x, y in zip(waits["x"], waits["high"], strict=True) if y is not None] == [BEGIN + 30]
    assert viewer.get("/console/quarantine/readings/9").status_code == 404


@pytest.mark.usefixtures("letters")
def test_lists_of_what_waits_open_for_staff_only(browser: Browsers) -> None:
    viewer, stranger = browser(Role.VIEWER), browser(Role.RESIDENT, account=1)
    for path in ("", "/corrections", "/findings", "/gaps", "/accounts"):
        assert viewer.get(f"/console/quarantine{path}").status_code == 200
        assert stranger.get(f"/console/quarantine{path}").status_code == 403
    assert "No reading waits" in text_of(viewer.get("/console/quarantine?meter=10002"))
