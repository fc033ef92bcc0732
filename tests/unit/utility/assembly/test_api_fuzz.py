"""The API under parameters nobody would send on purpose: an answer with a reason, never an error of ours."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commonwatt.config.utility import UtilitySettings
from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.console import office
from harness.routes import Ruled, Visitors, all_routes
from utility.access.roles import Role
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.database.health import Health
from utility.registry.store.registration import fill_registry
from utility.webkit.services import Api

SETTINGS = UtilitySettings(second_factor="optional", office=office())

BEGIN = 1_800_000_000
ROUTES = all_routes()
NAMES = sorted({name for route in ROUTES for name in (*route.in_query, *route.in_body, *route.in_path)})
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
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    folder = tmp_path_factory.mktemp("api")
    with closing(open_database(f"sqlite:///{folder}/utility.db", create=True)) as database:
        yield _app(folder, database)


@pytest.fixture(scope="module")
def visitors(app: FastAPI) -> Iterator[Visitors]:
    with Visitors(app) as made:
        made.add("everything", frozenset(Role), account=1)
        yield made


def _app(folder: Path, database: Database) -> FastAPI:
    (folder / "town.toml").write_text('microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n')
    with database.writes.begin() as connection:
        fill_registry(connection, load_town(folder / "town.toml"))
    clock = Clock(origin=BEGIN + 5000, monotonic_origin=0, speed=0)
    return make_app(
        Api(database, clock, UtilityMetrics(), lambda: False, lambda: "", {}, Health(None), settings=SETTINGS)
    )


def address_of(route: Ruled, values: list[tuple[str, str]]) -> str:
    """Return the path with some of the values in it, so that each stays one part of it."""
    texts = [quote(text.encode(errors="replace"), safe="") or "0" for _, text in values]
    texts = [text if text.strip(".") else "0" for text in texts] + ["r001", "10001"]
    return route.address(dict(zip(route.in_path, texts, strict=False)))


@pytest.mark.parametrize("is_safe", [True, False])
@given(st.data(), st.lists(st.tuples(st.sampled_from(NAMES), VALUES), max_size=5))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered_with_a_reason(
    visitors: Visitors, is_safe: bool, data: st.DataObject, params: list[tuple[str, str]]
) -> None:
    # At first the route's own parameters, so that it does not only report those that it does not have.
    route = data.draw(st.sampled_from([each for each in ROUTES if each.is_safe is is_safe and "log" not in each.path]))
    own = [*route.in_query, *route.in_body]
    params += [(name, data.draw(VALUES)) for name in own if data.draw(st.booleans())]
    path = address_of(route, [each for each in params if data.draw(st.booleans())])
    fields = [(name, text.encode(errors="replace").decode()) for name, text in params]
    headers = visitors.session("everything")
    if is_safe:
        answer = visitors.ask(route.method, path, headers, params=fields)
    else:
        body = urlencode(fields).encode()
        content_type = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = visitors.ask(route.method, path, headers | content_type, content=body)
    # 429: guesses of a password are counted, and forms with one are guesses. A token is refused as OAuth 2 says: 401.
    is_token = route.path.endswith("/auth/token")
    wanted = {200, 202, 204, 303, 307, 400, 404, 409, 422, 429, *([401] if is_token else [])}
    assert answer.status_code in wanted, (route.path, params, answer.text)
    if answer.headers.get("content-type") == "application/json":
        told = answer.json()
        json.dumps(told, allow_nan=False)
        assert answer.status_code < 400 or told.get("detail") or (is_token and told["error"])


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/meters", {"after": str(2**63)}),
        ("/dead-letters", {"meter": "9" * 20}),
        ("/completeness", {"start": "0", "end": str(2**32 - 1), "meter": "0" * 20}),
    ],
)
def test_numbers_beyond_the_database_are_refused(visitors: Visitors, path: str, params: dict[str, str]) -> None:
    answer = visitors.ask("GET", path, visitors.session("everything"), params=params)
    assert answer.status_code in (404, 422)
    assert answer.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/dead-letters", "/readings"])
def test_routes_that_read_have_no_other_method(visitors: Visitors, method: str, path: str) -> None:
    assert visitors.ask(method, path, visitors.session("everything"), content=b"x" * 10_000).status_code == 405
