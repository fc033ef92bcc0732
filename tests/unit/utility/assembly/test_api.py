"""The API of a whole utility; services of a process share its routes, and nothing of one shows in another."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from commonwatt.model.records import EventRecord
from commonwatt.protocol.batches import BatchRefusal
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from commonwatt.town.town import Town
from harness.console import PASSWORD, Browser, Client, standing_api
from harness.routes import ruled
from harness.surroundings import databases
from harness.surroundings.messages import a_heartbeat, append, blocks, register_in
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.assembly.application import collect_routes, make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.database.health import Health
from utility.outbox.changes import Refused, SawGateway
from utility.readings.metrics import gateways_said
from utility.readings.store.compactor import Compactor
from utility.readings.store.writer import Writer
from utility.readings.tables import gateway_seen
from utility.registry.store.registration import fill_registry
from utility.webkit.services import Api

QUARTER = 2_000_000
BEGIN = QUARTER * 900
MONTH = LineMonth(used=(5, 7), allowance=10)


@pytest.fixture
def refused() -> dict[str, Refused]:
    return {}


@pytest.fixture
def client(database: Database, refused: dict[str, Refused]) -> Client:
    metrics = UtilityMetrics()
    said = a_heartbeat(time=BEGIN, backlog_parts=3, backlog_letters=1, backlog_age_s=1200, trust=1, lte=MONTH)
    metrics.watch_gateways(lambda: gateways_said({"r001": BEGIN}, {"r001": said}, {"r001"}, BEGIN + 7), lambda: 2)
    clock = Clock(origin=BEGIN + 5000, monotonic_origin=0, speed=0)
    return Client(make_app(Api(database, clock, metrics, lambda: False, lambda: "", refused, Health(None))))


@databases.on_both_kinds
def test_readings_are_the_slots_in_the_range(client: Client, database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5, 1: -6})), append(blocks({2: 7}, q=1)), append(blocks({1: 9}))])
    answer = client.get(
        "/readings", params={"meter": "10001", "type": "through", "start": BEGIN + 15, "end": BEGIN + 60}
    )
    assert answer.json()["readings"] == [[BEGIN + 15, -6, 2], [BEGIN + 30, 7, 1]]
    assert answer.json()["conflicts"] == 1
    same = client.get("/readings", params={"meter": "10001", "type": "3", "start": BEGIN + 15, "end": BEGIN + 60})
    assert same.json() == answer.json()


def test_times_may_be_iso_8601(client: Client, database: Database) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    ranges = ((BEGIN, BEGIN + 60), ("2027-01-15T08:00Z", "2027-01-15T03:01:00-05:00"))
    answers = [client.get("/readings", {"meter": "10001", "start": start, "end": end}) for start, end in ranges]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["readings"] == [[BEGIN, 5, 2]]
    # A plus sign that is not encoded is a space.
    spaced = client.get("/readings?meter=10001&start=2027-01-15T08:00:00+00:00&end=2027-01-15T03:01")
    assert spaced.json() == answers[0].json()


def test_times_without_an_offset_are_of_the_town(client: Client, database: Database, town: Town) -> None:
    Writer(database).commit([append(blocks({0: 5}))])
    register_in("America/Los_Angeles", database, town)
    answer = client.get("/readings", {"meter": "10001", "start": "2027-01-15", "end": "2027-01-15T00:01"})
    assert answer.json()["readings"] == [[BEGIN, 5, 2]]


@pytest.mark.parametrize(
    ("query", "code", "says"),
    [
        ("meter=5&start=0&end=15", 404, "not registered"),
        ("meter=abc&start=0&end=15", 422, "pattern"),
        ("meter=10001&start=15&end=15", 422, "end must be after start"),
        ("meter=10001&start=0&end=9999999", 422, "7 days"),
        ("meter=10001&start=0&end=15&type=heat", 422, "generation (1)"),
        ("meter=10001&start=-1&end=15", 422, "is no time; give ISO 8601"),
        ("meter=10001&start=2027-03-14T02:30&end=15", 422, "does not exist in America/New_York"),
        ("start=0&end=15", 422, "required"),
    ],
)
def test_readings_asked_wrongly_say_what_is_wrong(client: Client, query: str, code: int, says: str) -> None:
    answer = client.get("/readings?" + query)
    assert answer.status_code == code
    assert says in answer.text.replace("Field required", "required")


@databases.on_both_kinds
def test_status_counts_by_microgrid(client: Client, database: Database) -> None:
    heartbeat = SawGateway(controller="r001", time=BEGIN, heartbeat=a_heartbeat(backlog_parts=3))
    Writer(database).commit([append(blocks({0: 5, 1: 6})), heartbeat])
    status = client.get("/status").json()
    assert status["time"] == BEGIN + 5000
    assert status["totals"]["received_slots"] == 2
    assert status["microgrids"]["r001"]["heartbeat"]["backlog_parts"] == 3
    assert status["microgrids"]["r002"]["received_slots"] == 0


def test_status_tells_why_the_data_of_a_controller_waits(client: Client, refused: dict[str, Refused]) -> None:
    assert client.get("/status").json()["microgrids"]["r001"]["last_refusal"] is None
    refused["r001"] = Refused(
        controller="r001",
        time=BEGIN,
        status=BatchRefusal.NOT_REGISTERED,
        reason="unknown_meter",
        text="meter 555 of r001 is not registered",
    )
    microgrids = client.get("/status").json()["microgrids"]
    assert microgrids["r002"]["last_refusal"] is None
    assert microgrids["r001"]["last_refusal"] == {
        "time": BEGIN,
        "status": "not_registered",
        "reason": "unknown_meter",
        "text": "meter 555 of r001 is not registered",
    }


def test_completeness_is_told_by_series_of_one_microgrid(client: Client, database: Database) -> None:
    Writer(database).commit([append(blocks(dict.fromkeys(range(30), 1)))])
    answer = client.get("/completeness", params={"start": BEGIN, "end": BEGIN + 900, "microgrid": "r001"}).json()
    assert answer["microgrids"]["r001"] == {
        "expected": 60,
        "exact": 30,
        "averaged": 0,
        "quarantined": 0,
        "refused": 0,
        "off": 0,
        "absent": 0,
        "missing": 30,
    }
    assert [(series["meter"], series["type"]) for series in answer["series"]] == [("10001", "through")]
    assert client.get("/completeness", params={"start": 9, "end": 3}).status_code == 422


@databases.on_both_kinds
def test_a_slot_that_comes_again_is_stored_once_before_and_after_compaction(client: Client, database: Database) -> None:
    def stored() -> object:
        return client.get("/stored", params={"start": BEGIN, "end": BEGIN + 900}).json()["slots"]

    writer = Writer(database)
    writer.commit([append(blocks(dict.fromkeys(range(30), 1))), append(blocks(dict.fromkeys(range(20, 40), 1)))])
    assert stored() == {"r001": 40}
    compactor = Compactor(database)
    plan = compactor.plan(BEGIN + 86_400)
    assert plan is not None
    assert compactor.apply(plan) == 1
    assert stored() == {"r001": 40}
    writer.commit([append(blocks(dict.fromkeys(range(35, 50), 1)))])
    assert stored() == {"r001": 50}, "a part that came late counts with its block"
    assert client.get("/status").json()["microgrids"]["r001"]["received_slots"] == 65
    assert client.get("/stored", params={"start": BEGIN + 900, "end": BEGIN + 1800}).json()["slots"] == {}
    assert client.get("/stored", params={"start": 0, "end": 8 * 86_400}).status_code == 422


@pytest.mark.parametrize("query", ["microgrid=r009", "meter=555"])
def test_completeness_of_what_is_not_registered_says_so(client: Client, query: str) -> None:
    answer = client.get(f"/completeness?start={BEGIN}&end={BEGIN + 900}&{query}")
    assert answer.status_code == 404
    assert answer.json()["detail"] == f"{query.replace('=', ' ')} is not registered"


def test_a_person_without_a_path_is_led_to_the_console(client: Client) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.headers["location"]) == (303, "/console/")


def test_the_api_has_a_page_and_two_examples_of_each_route(client: Client) -> None:
    answer = client.get("/docs")
    assert "'unsafe-eval'" not in answer.headers["content-security-policy"]
    assert re.search(r'src="/console/static/\w+/swagger-ui-bundle.js"', answer.text)
    described = client.get("/openapi.json").json()["paths"]
    for path, methods in described.items():
        for method, operation in methods.items():
            assert len(operation["tags"]) == 1
            assert f"curl -X {method.upper()}" in operation["description"]
            assert f'httpx.{method}("https://UTILITY{path}"' in operation["description"]
    assert described["/readings"]["get"]["tags"] == ["readings"]
    assert client.get("/redoc").status_code == 404


def test_registry_events_and_troubles_are_served(client: Client, database: Database) -> None:
    event = EventRecord(previous_state=0, new_state=1, record_id=4, meter_id=10001, time=BEGIN)
    Writer(database).commit([append(events=[(1, event)])])
    assert client.get("/town").json()["controllers"] == 2
    first = client.get("/meters", params={"limit": 4}).json()["meters"]
    rest = client.get("/meters", params={"after": first[-1]["no"]}).json()["meters"]
    assert len(first) + len(rest) == 12
    assert {m["microgrid"] for m in client.get("/meters?microgrid=r002").json()["meters"]} == {"r002"}
    assert client.get("/events?meter=10001").json()["events"][0]["id"] == "4"
    for path in ("dead-letters", "conflicts", "gaps", "commands", "account-differences"):
        assert client.get(f"/{path}").json() == {path.replace("-", "_"): []}
    assert client.get("/health").json()["status"] == "ok"
    assert "/readings" in client.get("/openapi.json").json()["paths"]


def test_runbooks_have_a_section_at_the_anchor_of_each_alert(client: Client) -> None:
    text = client.get("/runbooks").text
    assert '<h2 id="commonwattgatewaysilent">CommonwattGatewaySilent</h2>' in text
    assert not re.search(r'href="(?!#)', text), "other pages are not served"
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert f'id="{anchor}"' in text


def test_schedules_show_the_periods_in_force_and_which_were_tuned(client: Client, database: Database) -> None:
    periods = {"collect_s": 60, "levels_s": 60, "relay_s": 900, "compact_s": 900}
    said = a_heartbeat(time=BEGIN, periods=periods, tuned=("relay_s",))
    Writer(database).commit([SawGateway(controller="r001", time=BEGIN, heartbeat=said)])
    first, second = client.get("/schedules").json()["schedules"]
    before_puts = {"put_s": None}  # an older gateway
    assert first == {"microgrid": "r001", **said.periods, **before_puts, "tuned": ["relay_s"], "time": BEGIN}
    assert (second["microgrid"], second["relay_s"], second["tuned"]) == ("r002", None, None)


def test_a_damaged_heartbeat_keeps_nothing_else_from_being_shown(client: Client, database: Database) -> None:
    Writer(database).commit([SawGateway(controller="r001", time=BEGIN, heartbeat=a_heartbeat())])
    for damaged in ('{"lte":', '{"lte":7}'):
        with database.writes.begin() as connection:
            connection.execute(gateway_seen.update().values(heartbeat=damaged))
        first, second = client.get("/lines").json()["lines"]
        assert (first["time"], first["level"], second["level"]) == (BEGIN, "unknown", "unknown")
        assert client.get("/status").json()["microgrids"]["r001"]["last_seen"] == BEGIN


def test_metrics_have_units_and_no_meters(client: Client) -> None:  # req: K4
    text = client.get("/metrics").text
    assert 'commonwatt_utility_gateway_last_seen_seconds{controller="r001"} 7.0' in text
    assert "commonwatt_utility_blocks_total 0.0" in text
    assert 'commonwatt_utility_lte_month_bytes{controller="r001",direction="down"} 7.0' in text
    assert 'commonwatt_utility_gateway_backlog{controller="r001",kind="parts"} 3.0' in text
    assert 'commonwatt_utility_gateway_backlog_age_seconds{controller="r001"} 1200.0' in text
    assert 'commonwatt_utility_gateway_clock_trusted{controller="r001"} 0.0' in text
    assert 'commonwatt_utility_lte_allowance_bytes{controller="r001"} 10.0' in text
    assert "commonwatt_utility_lte_forecast_bytes{" not in text, "not known yet"
    assert "meter=" not in text
    assert "_created" not in text


@pytest.fixture
def other(tmp_path: Path) -> Iterator[FastAPI]:
    """The application of another town, which has three microgrids."""
    path = tmp_path / "other.toml"
    path.write_text('microgrid = [{id = "s", kind = "residential", count = 3, houses = 2}]\n')
    database = open_database(f"sqlite:///{tmp_path}/other.db", create=True)
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(path))
    yield make_app(standing_api(database, NOW))
    database.close()


def microgrids(browser: Browser) -> list[str]:
    answer = browser.get("/status")
    assert answer.status_code == 200
    return sorted(answer.json()["microgrids"])


def test_two_services_of_a_process_answer_each_for_its_own_town(app: FastAPI, other: FastAPI) -> None:
    one, two = Browser(app, Role.VIEWER, name="ann"), Browser(other, Role.VIEWER, name="ann")
    for _ in range(2):
        assert microgrids(one) == ["r001", "r002"]
        assert microgrids(two) == ["s001", "s002", "s003"]
    one.cookies, two.cookies = two.cookies, one.cookies
    assert [each.get("/status").status_code for each in (one, two)] == [401, 401], "a session is of one service"


def test_what_a_service_counts_and_keeps_is_its_own(
    app: FastAPI, other: FastAPI, browser: Callable[..., Browser]
) -> None:
    Browser(app, Role.VIEWER, name="ann")
    Browser(other, Role.VIEWER, name="ann")
    answers = [
        browser().post("/console/login", {"name": "ann", "password": f"wrong {n}", "next": ""}).status_code
        for n in range(20)
    ]
    assert 429 in answers, "guesses are slowed down"
    right = {"name": "ann", "password": PASSWORD, "next": ""}
    assert Browser(other).post("/console/login", right).status_code == 303
    towns = [Browser(each, Role.VIEWER, name="bob").get("/console/town").text for each in (app, other)]
    assert [("r001" in text, "s003" in text) for text in towns] == [(True, False), (False, True)]


def test_a_route_of_one_service_is_none_of_another_and_collecting_anew_finds_the_same(
    app: FastAPI, other: FastAPI
) -> None:
    before = ruled(other)
    app.add_api_route("/planted", lambda: None)
    assert ruled(other) == before
    anew = FastAPI(openapi_url=None)
    anew.router.routes.extend(collect_routes())
    assert ruled(anew) == before
