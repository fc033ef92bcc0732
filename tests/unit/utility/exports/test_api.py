"""The API's exports give the rows of the command."""

import io
from dataclasses import replace
from typing import Any

import httpx
import polars as pl
import pytest

from commonwatt.model.records import EventRecord
from commonwatt.runtime.clock import Clock
from harness.network.application import Client
from harness.surroundings.sent import append, blocks
from utility.access.actor import Actor, on_machine
from utility.access.roles import Role
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.exports import api as exports
from utility.exports.columns import EVENTS_TABLE
from utility.readings.store.writer import Writer
from utility.webkit.rights import Gate
from utility.webkit.services import Api

BEGIN = 2_000_000 * 900
EVENT = EventRecord(previous_state=1, new_state=3, record_id=7, meter_id=10001, time=BEGIN + 7)


@pytest.fixture
def client(database: Database) -> Client:
    parts = [
        append(blocks({0: 5, 1: 7}, meter=meter, quarter=2_000_000 + n)) for meter in (10001, 10002) for n in (0, 1)
    ]
    Writer(database).commit([*parts, append(events=[(1, EVENT)])])
    clock = Clock(origin=BEGIN + 5000, monotonic_origin=0, speed=0)
    return Client(make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None))))


def ask(client: Client, what: str = "readings", **params: Any) -> httpx.Response:
    return client.get(f"/export/{what}", params={"start": BEGIN, "end": BEGIN + 3600} | params)


def test_sums_of_several_meters_are_csv_and_parquet(client: Client) -> None:
    answer = ask(client, meter=["10001", "10002"], resolution="1h")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"] == 'attachment; filename="readings-1h.csv"'
    lines = answer.text.splitlines()
    assert [line.split(",")[:5] for line in lines[1:]] == [
        [meter, "r001", "through", "2027-01-15T08:00:00Z", "24"] for meter in ("10001", "10002")
    ]
    parquet = pl.read_parquet(
        io.BytesIO(ask(client, meter=["10001", "10002"], resolution="1h", format="parquet").content)
    )
    assert parquet["energy_milliwatt_hours"].to_list() == [24, 24]
    assert parquet["missing_slots"].to_list() == [236, 236]


def test_slots_and_events_are_there_too(client: Client) -> None:
    slots = ask(client, resolution="15s", meter="10001").text.splitlines()
    assert len(slots) == 1 + 4
    events = ask(client, "events", microgrid="r001").text.splitlines()
    assert events[0] == ",".join(column.name for column in EVENTS_TABLE.columns)
    assert events[1] == "10001,r001,2027-01-15T08:00:07Z,1,7,1,3,initialized off_grid,r001"
    assert len(events) == 2


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"end": BEGIN}, "end: 2027-01-15 08:00:00Z is not after start"),
        ({"end": BEGIN + 60}, "end: 2027-01-15 08:01:00Z is within a quarter-hour"),
        ({"meter": "77"}, "meter: '77' is not registered"),
        ({"meter": "x"}, "String should match pattern"),
        ({"format": "xls"}, "Input should be 'parquet' or 'csv'"),
        ({"start": "2026-11-01T01:30"}, "exists twice in America/New_York"),
        ({"start": 0, "end": 4_000_000_500, "resolution": "15s"}, "commonwatt export"),
    ],
)
def test_asked_wrongly_it_says_what_is_wrong(client: Client, params: dict[str, Any], said: str) -> None:
    answer = ask(client, **params)
    assert answer.status_code == 422
    assert said in answer.json()["detail"] if isinstance(answer.json()["detail"], str) else answer.text


def test_a_person_has_one_export_at_a_time_and_keeps_nobody_else_from_theirs(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    names, meanwhile = iter(("vera", "vera", "otto", "vera")), list[httpx.Response]()
    content = exports._content

    def busy(*arguments: Any) -> Any:
        if not meanwhile:
            meanwhile.append(ask(client))
            meanwhile.append(ask(client))
        return content(*arguments)

    def identify(*_: Any) -> Actor:
        return replace(on_machine(next(names)), roles=frozenset({Role.VIEWER}))

    monkeypatch.setattr(exports, "_content", busy)
    monkeypatch.setattr(Gate, "identify", identify)
    assert ask(client).status_code == 200
    assert [answer.status_code for answer in meanwhile] == [503, 200]
    assert "an export of yours is running" in meanwhile[0].text
    assert ask(client).status_code == 200, "places are given back"
