"""The API under parameters nobody would send on purpose: an answer with a reason, never an error of ours."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from commonwatt.runtime.clock import Clock
from commonwatt.town.town import load_town
from harness.network.application import local_headers
from utility.api.app import make_app
from utility.api.services import Api
from utility.health import Health
from utility.metrics import UtilityMetrics
from utility.store.database import open_database
from utility.store.registration import fill_registry

BEGIN = 1_800_000_000
PATHS = (
    "/town",
    "/meters",
    "/readings",
    "/events",
    "/completeness",
    "/dead-letters",
    "/conflicts",
    "/account-differences",
    "/gaps",
    "/commands",
    "/status",
    "/export/readings",
    "/export/events",
    "/export/settled",
    "/export/bills",
)
NAMES = (
    "meter",
    "type",
    "start",
    "end",
    "microgrid",
    "after",
    "limit",
    "reason",
    "since",
    "state",
    "more",
    "account",
    "format",
    "resolution",
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "10001",
            "r001",
            "through",
            "3",
            str(BEGIN),
            str(BEGIN + 900),
            "quarantined",
            "implausible",
            "0",
            "1000",
            "csv",
            "1d",
        ]
    ),
    st.integers().map(str),
    st.sampled_from([2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64, 10**19, -1, 10**400]).map(str),
    st.text(max_size=12),
    st.sampled_from(["", " ", "\0", "NaN", "1e9", "10001\n", "' OR 1=1", "../../etc", "%00", "null", "x" * 5000]),
    st.sampled_from(["\u0663", "\uff19", "\ud7ff", "\u202e"]),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    return _app(tmp_path_factory.mktemp("api"))


def ask(app: FastAPI, method: str, path: str, **asked: Any) -> httpx.Response:
    """Ask without a network; an exception of the application comes through."""

    async def one() -> httpx.Response:
        options: dict[str, Any] = {"transport": httpx.ASGITransport(app=app), "headers": local_headers(app)}
        async with httpx.AsyncClient(base_url="http://utility", **options) as client:
            return await client.request(method, path, **asked)

    return asyncio.run(one())


def _app(folder: Path) -> FastAPI:
    (folder / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n')
    database = open_database(f"sqlite:///{folder}/utility.db", create=True)
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(folder / "town.toml"))
    clock = Clock(origin=BEGIN + 5000, monotonic_origin=0, speed=0)
    return make_app(Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None)))


@given(st.sampled_from(PATHS), st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5))
@example("/meters", [("after", str(2**63))])
@example("/dead-letters", [("meter", "9" * 20)])
@example("/completeness", [("start", "0"), ("end", str(2**32 - 1)), ("meter", "0" * 20)])
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered_with_a_reason(app: FastAPI, path: str, params: list[tuple[str, str]]) -> None:
    answer = ask(app, "GET", path, params=params)
    assert answer.status_code in (200, 404, 422), (answer.status_code, answer.text)
    told = answer.json()
    json.dumps(told, allow_nan=False)
    assert answer.status_code == 200 or told["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/dead-letters", "/readings"])
def test_nothing_can_be_changed_by_http(app: FastAPI, method: str, path: str) -> None:
    assert ask(app, method, path, content=b"x" * 10_000).status_code == 405
