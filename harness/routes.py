"""The routes of the utility's application with their rules: for the generated page, and for tests that ask each."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import httpx
from fastapi import FastAPI
from fastapi._compat import ModelField
from fastapi.params import Form
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy import create_engine

from commonwatt.runtime.clock import Clock
from harness.console import run
from utility.access.people import Role
from utility.access.store import access
from utility.assembly.application import make_app
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.webkit.rights import COOKIE, CSRF_HEADER, Allowed, Gate, rule_of
from utility.webkit.services import Api

SAFE = ("GET", "HEAD")


@dataclass(frozen=True, kw_only=True)
class Ruled:
    """A route and a method of it."""

    method: str  # the method
    path: str  # the path, with names of parameters in braces
    roles: frozenset[Role] | None  # the roles that may use it; ``None``: it is public
    session: bool = False  # whether it needs a session, and refuses tokens
    in_path: tuple[str, ...]  # the names of parameters in the path
    in_query: tuple[str, ...]  # those in the query
    in_body: tuple[str, ...]  # those in the body

    @property
    def is_page(self) -> bool:
        return self.path.startswith("/console/")

    @property
    def is_safe(self) -> bool:
        return self.method in SAFE

    def address(self, values: Mapping[str, str]) -> str:
        return self.path.format_map(dict.fromkeys(self.in_path, "1") | dict(values))

    def allows(self, roles: frozenset[Role]) -> bool:
        return self.roles is None or not self.roles.isdisjoint(roles)


def ruled(app: FastAPI) -> list[Ruled]:
    """Return every route of an application with each of its methods."""
    found = []
    for route in app.routes:
        assert isinstance(route, APIRoute)
        rule, dependant = rule_of(route), route.dependant
        found += [
            Ruled(
                method=method,
                path=route.path,
                roles=rule.roles if isinstance(rule, Allowed) else None,
                session=isinstance(rule, Allowed) and rule.session,
                in_path=tuple(param.alias for param in dependant.path_params),
                in_query=tuple(param.alias for param in dependant.query_params),
                in_body=tuple(name for param in dependant.body_params for name in _names_of(param)),
            )
            for method in sorted(route.methods or ())
        ]
    return sorted(found, key=lambda each: (each.path, each.method))


def _names_of(param: ModelField) -> tuple[str, ...]:
    """Return the names of what a part of a body holds: of a form all its fields."""
    model: Any = param.field_info.annotation
    is_model = isinstance(param.field_info, Form) and isinstance(model, type) and issubclass(model, BaseModel)
    return tuple(model.model_fields) if is_model else (param.alias,)


def bare_app() -> FastAPI:
    """Return the application, with an empty database that has no tables: for its routes only."""
    database = Database(create_engine("sqlite://"), 0)
    clock = Clock(origin=0, monotonic_origin=0, speed=0)
    return make_app(Api(database, clock, UtilityMetrics(), lambda: True, lambda: "", {}, Health(None)))


@cache
def all_routes() -> tuple[Ruled, ...]:
    """Return every route of the application."""
    return tuple(ruled(bare_app()))


def routes_page() -> str:
    """Return ``docs/reference/console-routes.md``."""
    lines = [
        "# Rights to routes",
        "",
        "Made from the code by `make docs`; a test compares the two, and another asks every route with every role.",
        "",
        "A person may have several roles. Another role gets 403; without a login the answer is 401, and pages",
        "(`/console/...`) go to the login page. The same holds for an API token, whose scope is a part of its person's",
        "roles; `session`: the route refuses tokens. With a route without a rule the service does not start.",
        "A resident's routes have no account in their address: the account is the one of the login.",
        "",
        "| route | method | who may |",
        "|---|---|---|",
    ]
    lines += [f"| `{each.path}` | {each.method} | {_who(each)} |" for each in all_routes()]
    return "\n".join(lines) + "\n"


def _who(route: Ruled) -> str:
    if route.roles is None:
        return "everybody, without a login"
    allowed = [role for role in Role if route.allows(frozenset({role}))]
    left = [role for role in Role if role not in allowed]
    who = "every role" if not left else "every role but ven" if left == [Role.VEN] else ", ".join(allowed)
    return f"{who}; session" if route.session else who


class Visitors:
    """Browsers and programs of people, who ask one application on one event loop."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app
        app.state.console.streams.lasts_s = 0  # an answer is read to its end
        transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5), raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="https://localhost")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        run(self._client.aclose())

    def ask(self, method: str, path: str, headers: Mapping[str, str] | None = None, **options: Any) -> httpx.Response:
        """Send a request with some headers and no others."""
        self._client.cookies.clear()
        return run(self._client.request(method, path, headers=headers, **options))

    def add(self, name: str, roles: frozenset[Role], account: int | None = None) -> None:
        """Add an active person."""
        gate: Gate = self.app.state.gate
        person = access.Person(
            name=name, display=name.title(), state="active", roles=roles, account=account, created=gate.now()
        )
        with gate.database.writes.begin() as connection:
            access.add_person(connection, person, "harness")
            access.set_state(connection, name, "active")

    def session(self, name: str) -> dict[str, str]:
        """Open a session of a person; return the headers of its requests."""
        gate: Gate = self.app.state.gate
        with gate.database.writes.begin() as connection:
            cookie = access.open_session(connection, name, "127.0.0.1", "harness", gate.now()).cookie
            found = access.session_actor(connection, cookie, "127.0.0.1", gate.now())
        assert found is not None
        return {"Cookie": f"{COOKIE}={cookie}", CSRF_HEADER: found[0].csrf}
