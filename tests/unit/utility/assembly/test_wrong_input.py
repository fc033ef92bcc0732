"""Wrong input in each field of each route, and any parameters: refused with a reason, never an error of ours.

Fields are those that routes declare, and those of the forms that pages show. The other fields of a request are as on
that page, or of the declared type. Fields take wrong values in turn; with ``EXAMPLES`` of ``make soak`` each has many.
"""

import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from html.parser import HTMLParser
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import pytest
from fastapi import FastAPI, params
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from commonwatt.runtime.clock import Clock
from commonwatt.town.loading import load_town
from harness.console import office
from harness.furnished import furnished, visited
from harness.routes import SAFE, Ruled, Visitors, all_routes
from tests.unit.utility.assembly.test_routes import QUERY, VALUES
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database, open_database
from utility.database.health import Health
from utility.registry.store.registration import fill_registry
from utility.settings import UtilitySettings
from utility.webkit.services import Api
from utility.webkit.works import Works

NO_FIELD, A_FILE = object(), object()
FAR = "town v99999999999999999999"
TEXTS = ["", " ", "x" * 20_000, "a\0b", "\u202e\r\n", "[]", "{}", FAR, "x v" + "9" * 5_000, "../..", "'\"<b>"]
TEXTS += ["-1", "0", "0.1", "2147483648", "9223372036854775808", "9" * 20, "9" * 5_000, "1" + "0" * 400]
TEXTS += ["NaN", "inf", "-Infinity", "1e999", "\u0663", "1_0", "0x1", "true", "null"]
TEXTS += ["0001-01-01", "9999-12-31", "0000-00-00", "2026-02-30", "9999-12", "9999-12-31T23:59:59", "-1-1-1"]
NO_TEXTS = [b"\xed\xb0\x80", b"\xff"]  # in percent encoding a lone surrogate, and what is no UTF-8
JSON: list[Any] = [
    None,
    True,
    [],
    {},
    [[None]],
    "\ud800",
    -1,
    0.1,
    2**31,
    2**63,
    2**64,
    10**400,
    1e308,
    float("nan"),
    float("inf"),
]
WRONG: dict[str, list[Any]] = {
    "path": [*TEXTS, *NO_TEXTS],
    "query": [*TEXTS, *NO_TEXTS, NO_FIELD],
    "form": [*TEXTS, *NO_TEXTS, NO_FIELD, A_FILE],
    "json": [*TEXTS, *JSON, NO_FIELD],
}
FOUND = {"month": "9999-12", "season_from": NO_FIELD, "week": "0", "tariff": FAR}
"""What was an error of ours: always asked."""
SHARE = int(os.environ.get("EXAMPLES", "50")) // 50  # values that each field has


@dataclass(frozen=True)
class Sent:
    """A request that may be right; its fields by where they stand."""

    route: APIRoute
    fields: dict[str, dict[str, Any]]

    @property
    def method(self) -> str:
        return min(self.route.methods or ())


class Forms(HTMLParser):
    """Collects the forms of pages: what each sends if nothing is typed in."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, dict[str, str]] = {}
        self._at: dict[str, str] = {}
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._at = self.found.setdefault(said.get("action", ""), {}) if said.get("method") == "post" else {}
        elif tag in ("input", "textarea", "button", "select") and said.get("name", "csrf") != "csrf":
            self._select = said["name"] if tag == "select" else ""
            self._at.setdefault(said["name"], said.get("value", ""))
        elif tag == "option" and self._select and ("selected" in said or not self._at[self._select]):
            self._at[self._select] = said.get("value", "")


def sample(schema: dict[str, Any], whole: dict[str, Any], name: str = "") -> Any:
    """Return a value that a JSON schema allows, or nearly."""
    if "$ref" in schema:
        return sample(whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, name)
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return sample(options[0], whole, name)
    if schema.get("type") == "object":
        return {key: sample(each, whole, key) for key, each in schema.get("properties", {}).items()}
    kinds: dict[str, Any] = {"integer": schema.get("minimum", 1), "number": 1.5, "boolean": True, "array": []}
    text = VALUES.get(name, schema.get("const", schema.get("enum", ["x"])[0]))
    return schema.get("default", kinds.get(schema.get("type", ""), text))


def parts(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for each in dependant.dependencies:
        yield from parts(each)


def declared(route: APIRoute) -> Sent:
    """Return a request with what a route declares."""
    known, fields = VALUES | QUERY, dict[str, dict[str, Any]](path={}, query={})
    for part in parts(route.dependant):
        fields["path"] |= {each.alias: known.get(each.alias, "1") for each in part.path_params}
        fields["query"] |= {each.alias: known.get(each.alias, "") for each in part.query_params}
        for each in part.body_params:
            kind, place = each.field_info.annotation, "form" if isinstance(each.field_info, params.Form) else "json"
            one = {each.alias: known.get(each.alias, "1")}
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                one = sample(kind.model_json_schema(), kind.model_json_schema())
            fields.setdefault(place, {}).update(one)
    return Sent(route, fields)


def requests_of(visitors: Visitors, headers: dict[str, str]) -> list[Sent]:
    """Return a request of each route, with the fields of a page's form where there is one."""
    routes = [each for each in visitors.app.routes if isinstance(each, APIRoute) and each.path != "/console/logout"]
    made, shown = [declared(route) for route in routes], Forms()
    for each in made:
        if each.method == "GET" and each.route.path.startswith("/console/"):
            answer = visitors.ask("GET", each.route.path.format_map(each.fields["path"]), headers)
            if "text/html" in answer.headers.get("content-type", ""):
                shown.feed(answer.text)
    for each in made:
        for action, form in shown.found.items() if each.method == "POST" else ():
            if match := each.route.path_regex.match(action):
                each.fields["path"].update(match.groupdict())
                each.fields.setdefault("form", {}).update(form)
    return made


def raw(value: Any) -> str:
    return quote(value if isinstance(value, bytes) else str(value).encode(), safe="")


def send(visitors: Visitors, headers: dict[str, str], sent: Sent, place: str, name: str, value: Any) -> httpx.Response:
    """Send a request with another value in one field."""
    fields = {where: dict(each) for where, each in sent.fields.items()}
    fields[place][name] = value
    if value in (NO_FIELD, A_FILE):
        del fields[place][name]
    path = sent.route.path.format_map({key: raw(each).strip(".") or "%20" for key, each in fields["path"].items()})
    query, form = ("&".join(f"{key}={raw(x)}" for key, x in fields.get(at, {}).items()) for at in ("query", "form"))
    options: dict[str, Any] = {"content": form.encode()}
    kind = "application/x-www-form-urlencoded"
    if sent.method in SAFE:
        options = {}
    elif value is A_FILE:
        options, kind = {"data": fields["form"], "files": {name: ("\ud7ff.csv", b"\xff\0" * 100)}}, ""
    elif "json" in fields:
        options, kind = {"content": json.dumps(fields["json"]).encode()}, "application/json"
    more = {"Content-Type": kind} if kind else {}
    return visitors.ask(sent.method, f"{path}?{query}", headers | more, **options)


def test_wrong_input_is_refused_in_each_field_of_each_route(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Works, "_run", lambda *_: None)
    turn, wrong, asked = count(), [], 0
    with furnished(tmp_path_factory.mktemp("wrong"), NOW) as database, visited(database, NOW) as visitors:
        headers = visitors.session("everything")
        for sent in requests_of(visitors, headers):
            for place, name in [(place, name) for place, fields in sent.fields.items() for name in fields]:
                values = [WRONG[place][next(turn) % len(WRONG[place])] for _ in range(min(SHARE, len(WRONG[place])))]
                for value in [*values, *([FOUND[name]] if name in FOUND and place in ("path", "form") else [])]:
                    if value is NO_FIELD and place == "path":
                        continue
                    answer, asked = send(visitors, headers, sent, place, name, value), asked + 1
                    if answer.status_code in (401, 403) or "/login" in answer.headers.get("location", ""):
                        headers = visitors.session("everything")  # What was asked may have ended it.
                    if answer.status_code >= 500:
                        wrong.append(f"{sent.method} {sent.route.path}, {place}, {name}: {value!r:.60}")
    assert asked > 500
    assert wrong == []


SETTINGS = UtilitySettings(second_factor="optional", office=office())

BEGIN = 1_800_000_000
ROUTES = all_routes()
NAMES = sorted({name for route in ROUTES for name in (*route.in_query, *route.in_body, *route.in_path)})
ANY_VALUES = st.one_of(
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
@given(st.data(), st.lists(st.tuples(st.sampled_from(NAMES), ANY_VALUES), max_size=5))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_asked_is_answered_with_a_reason(
    visitors: Visitors, is_safe: bool, data: st.DataObject, params: list[tuple[str, str]]
) -> None:
    # At first the route's own parameters, so that it does not only report those that it does not have.
    route = data.draw(st.sampled_from([each for each in ROUTES if each.is_safe is is_safe and "log" not in each.path]))
    own = [*route.in_query, *route.in_body]
    params += [(name, data.draw(ANY_VALUES)) for name in own if data.draw(st.booleans())]
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
