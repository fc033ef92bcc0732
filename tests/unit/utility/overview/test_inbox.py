"""What waits for a person: what is on the list and for whom; readings that a clerk decides, once."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest

from commonwatt.energy.lasting import Band, HoursLeft
from commonwatt.model.effects import Write
from commonwatt.model.records import State as Bits
from commonwatt.model.time import Now, Trust
from harness.console import Browser, text_of
from harness.surroundings.messages import a_heartbeat, a_letter, a_record, batch, blocks
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store import audit_log
from utility.alarms.alarm import Alarm, Severity
from utility.alarms.board import AlarmCounts, AlarmRow, AlarmState
from utility.database.database import Database
from utility.overview.inbox import DECISIONS, items, of_roles
from utility.overview.microgrids import MicrogridFacts, cell, count, island_words
from utility.overview.pages.town_view import TownState
from utility.readings.core import Core, FromGateway
from utility.readings.store.dead_letters import dead_letters
from utility.readings.store.writer import Writer
from utility.registry.store.registry import load_snapshot

INBOX_NOW = 1_800_000_000


def row(place: str, name: str = "GatewaySilent", severity: Severity = Severity.CRITICAL, **given: object) -> AlarmRow:
    labels = {"alertname": f"Commonwatt{name}", "severity": severity.value, "controller": place}
    alarm = Alarm(labels=labels, summary=f"The gateway of {place} is silent.")
    made = AlarmRow(alarm=alarm, state=AlarmState.ACTIVE, acknowledgement=None, silences=())
    return replace(made, **given)  # type: ignore[arg-type]


def facts(name: str, silent_s: int, backlog_age_s: int = 0) -> MicrogridFacts:
    beat = a_heartbeat(backlog_age_s=backlog_age_s, trust=Trust.NETWORK)
    return MicrogridFacts(microgrid=name, number=1, kind="residential", seen=INBOX_NOW - silent_s, heartbeat=beat)


def test_nothing_needs_a_person_while_all_is_as_usual() -> None:
    assert items([], [facts("r001", 20)], dict.fromkeys(DECISIONS, 0), INBOX_NOW, {}) == ()


def test_equal_alarms_are_one_item_that_names_the_first_places() -> None:
    (one,) = items([row("r001")], [], {}, INBOX_NOW, {})
    assert one.words == "The gateway of r001 is silent"
    assert one.link.startswith("/console/alarms/one?key=CommonwattGatewaySilent")
    (many,) = items([row(f"r{n:03}") for n in range(1, 20)], [], {}, INBOX_NOW, {})
    assert (many.words, many.link) == ("Gateway silent: r001, r002, r003 and 16 more", "/console/alarms")
    assert many.mark == "bad"


@pytest.mark.parametrize("state", [AlarmState.SUPPRESSED, AlarmState.ACKNOWLEDGED])
def test_an_alarm_that_somebody_sees_to_is_no_item(state: AlarmState) -> None:
    assert items([row("r001", state=state)], [facts("r001", 9_000)], {}, INBOX_NOW, {}) == ()


@pytest.mark.parametrize(("silent_s", "backlog_age_s"), [(3_601, 0), (20, 3_601)])
def test_microgrids_that_are_hours_late_are_an_item_before_any_alarm(silent_s: int, backlog_age_s: int) -> None:
    late = [facts("a001", silent_s, backlog_age_s), facts("r001", 20, 3_600)]
    (item,) = items([], late, {}, INBOX_NOW, {})
    assert (item.mark, item.words) == ("warning", "Late by more than an hour: a001")


def test_the_gravest_come_first_and_each_person_sees_the_own_ones() -> None:
    board = [row("r001", "BacklogOld", Severity.WARNING), row("r002"), row("utility", "FindingsOpen", Severity.WARNING)]
    found = items(board, [], {"readings": 1, "findings": 2, "checked": 3}, INBOX_NOW, {})
    assert [item.mark for item in found] == ["bad", "warning", "idle", "idle", "idle"]
    assert [item.words for item in of_roles(found, [Role.CLERK])] == [
        "1 quarantined reading waits for a decision",
        "2 open findings wait for a look",
    ]
    assert [item.words for item in of_roles(found, [Role.APPROVER])] == ["3 checked runs wait for a second person"]
    assert len(of_roles(found, [Role.OPERATOR])) == 2
    assert of_roles(found, [Role.VIEWER]) == list(found)


def test_an_alarm_of_something_else_does_not_hide_that_a_microgrid_is_late() -> None:
    held = row("r001", "AllowanceAtRisk", Severity.WARNING, state=AlarmState.SUPPRESSED)
    (item,) = items([held], [facts("r001", 9_000)], {}, INBOX_NOW, {})
    assert item.words == "Late by more than an hour: r001"


def test_what_the_map_shows_in_alarm_is_an_item_before_the_alarm_stands() -> None:
    (item,) = items([], [facts("r001", 301), facts("r002", 299)], {}, INBOX_NOW, {})
    assert (item.mark, item.words) == ("bad", "r001, alarm: its gateway has been silent for 5 min")
    (item,) = items([], [facts("r001", 301), facts("r002", 400)], {}, INBOX_NOW, {})
    assert item.words == "In alarm: r001, r002"
    (item,) = items([row("r001")], [facts("r001", 301)], {}, INBOX_NOW, {})
    assert item.words == "The gateway of r001 is silent"


def test_an_island_needs_a_person_at_once_and_says_what_is_left_and_what_helps() -> None:
    band = Band(low=9.1, middle=13.1, high=21.0, alone=12.0, least=3.2)
    left = {"r001": HoursLeft(at=INBOX_NOW, first=band, half=band, all=band)}
    island = replace(facts("r001", 20), boundary=int(Bits.DEAD_FEEDER | Bits.ISOLATED), boundary_since=INBOX_NOW - 90)
    (item,) = items([row("r001", "Island", Severity.WARNING)], [island, facts("r002", 20)], {}, INBOX_NOW, left)
    assert (item.mark, item.link) == ("warning", "/console/microgrids/r001")
    assert item.words == (
        "r001 is an island: its feeder has no voltage. Its first home is dark after 13.1 h (9.1 to 21.0 h); "
        "a request to reduce makes it longer"
    )
    left["r001"] = replace(left["r001"], first=band._replace(middle=0.9))
    (item,) = items([], [island, replace(island, microgrid="r002")], {}, INBOX_NOW, left)
    assert (item.mark, item.link) == ("bad", "/console/microgrids")
    assert item.words.startswith("Islands: r001, r002. Its first home is dark after 0.9 h")


def test_why_a_microgrid_is_an_island_stays_true_when_the_voltage_is_back() -> None:
    held = replace(facts("r001", 20), boundary=int(Bits.ISOLATED | Bits.SWITCH_OPEN), boundary_since=INBOX_NOW - 240)
    assert island_words(held, INBOX_NOW) == (
        "its voltage has been back for 4 min; its switch closes 5 to 29 min after that, if it stays"
    )
    told = a_heartbeat(ends={"isolate": INBOX_NOW + 60})
    assert island_words(replace(held, heartbeat=told), INBOX_NOW) == "isolated by command"
    assert island_words(replace(held, heartbeat=told, boundary=0), INBOX_NOW) is None, (
        "its boundary did not report it yet"
    )
    assert island_words(replace(held, boundary=int(Bits.SWITCH_OPEN)), INBOX_NOW) == "its boundary switch is open"
    assert island_words(replace(held, is_closed=True), INBOX_NOW) is None


@pytest.mark.parametrize(
    ("silent_s", "alarms", "empty", "helping", "pill"),
    [
        (20, AlarmCounts(suppressed=2), 0, (("r002", 2, 1),), ("All 2 microgrids well", "good")),
        (400, AlarmCounts(), 0, (), ("1 alarm, 1 well", "bad")),
        (20, AlarmCounts(warning=2), 0, (), ("2 alarms", "warning")),
        (20, AlarmCounts(critical=1), 3, (), ("1 alarm, 3 of the batteries empty", "bad")),
        (20, AlarmCounts(), 3, (), ("3 of the batteries empty", "warning")),
        (20, AlarmCounts(), 0, (("r001", 0, 1),), ("1 battery without help", "warning")),
    ],
)
def test_all_is_well_when_gateways_alarms_and_batteries_are(
    silent_s: int, alarms: AlarmCounts, empty: int, helping: tuple[tuple[str, int, int], ...], pill: tuple[str, str]
) -> None:
    cells = tuple(cell(facts(name, age_s), INBOX_NOW) for name, age_s in (("r001", 20), ("r002", silent_s)))
    state = SimpleNamespace(cells=cells, counts=count(cells), alarming=alarms, empty=empty, helping=helping)
    assert TownState.pill.fget(state) == pill  # type: ignore[attr-defined]


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
    done = anna.post("/console/quarantine", {"numbers": ["1", "2"], "decision": "released", "why": "400 A"})
    assert done.status_code == 303
    assert "2 readings released" in text_of(anna.get(done.headers["location"]))
    late = ben.post("/console/quarantine", {"numbers": ["2", "3"], "decision": "refused"})
    assert late.status_code == 409
    assert "dead letter 2: is released already, by anna" in text_of(late)
    assert "Nothing was changed" in text_of(late)
    assert states(database) == ["released", "released", "quarantined"], "all or none"
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="reading."), 9)
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
    assert viewer.post("/console/quarantine", {"numbers": "2", "decision": "released"}).status_code == 403
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
