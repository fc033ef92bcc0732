"""Every route of the application is asked with every role: allowed requests pass, all others are refused.

The routes, their parameters and their rules come from the application: a new route is asked by these tests at once.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.responses import PlainTextResponse
from starlette.routing import Mount, Route

from harness.console import faults_of_words, unexplained, words_of
from harness.furnished import HOUSE, LOCAL_KEY, MONTH, SIGNS, found_in, furnished, store_canary, token_of, visited
from harness.routes import Ruled, Visitors, all_routes, bare_app
from tests.unit.utility.conftest import NOW
from utility.access.people import MACHINE, Role
from utility.access.store import access
from utility.assembly.application import collect_routes
from utility.assembly.tables import metadata
from utility.database.database import Database
from utility.webkit.middleware import CONTENT_POLICY
from utility.webkit.rights import _MACHINE, CSRF_HEADER, unruled

ROUTES = all_routes()
PAGES = [route for route in ROUTES if route.is_page and route.is_safe]
LATER = {"action": "schedule", "which": "all", "when": "later", "time": "2027-02-01T02:00", "relay_s": "reset"}
NAMES = {str(role): frozenset({role}) for role in Role}  # a person for each role, named after it

VALUES = {
    "month": MONTH,
    "account": str(HOUSE),
    "microgrid": "r001",
    "meter": "10001",
    "name": "standard",
    "number": "99999",
    "kind": "lines",
}
QUERY = {"start": "2026-12-30", "end": "2027-01-02", "meter": "10001", "day": "2027-01-14"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with furnished(tmp_path_factory.mktemp("routes"), NOW) as made:
        yield made


@pytest.fixture(scope="module")
def visitors(database: Database) -> Iterator[Visitors]:
    with visited(database, NOW) as made:
        store_canary(made)
        assert made.ask("POST", "/console/schedules", made.session("everything"), data=LATER).status_code == 303
        yield made


class Crawl:
    """What each route answered to each person: it is asked once, and every check reads that answer."""

    def __init__(self, visitors: Visitors) -> None:
        self.visitors = visitors
        self._sessions: dict[str, dict[str, str]] = {}
        self._answers: dict[tuple[str, Ruled], httpx.Response] = {}

    def session(self, name: str) -> dict[str, str]:
        if name not in self._sessions:
            self._sessions[name] = self.visitors.session(name)
        return self._sessions[name]

    def answer(self, name: str, route: Ruled) -> httpx.Response:
        if (name, route) not in self._answers:
            self._answers[name, route] = asked(self.visitors, route, self.session(name))
        return self._answers[name, route]


@pytest.fixture(scope="module")
def crawl(visitors: Visitors) -> Crawl:
    return Crawl(visitors)


def content_of(database: Database) -> str:
    """Return a digest of everything that is stored, but when sessions and tokens were used last."""
    told = hashlib.sha256()
    with database.reads.begin() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.c if (table.name, column.name) != ("api_token", "used")]
            rows = sorted(repr(tuple(row)) for row in connection.execute(table.select().with_only_columns(*columns)))
            told.update(repr((table.name, rows)).encode())
    return told.hexdigest()


def values_of(route: Ruled) -> dict[str, str]:
    """Return values for a route's parameters; there is no token 9999, so that no test revokes its own."""
    return VALUES | ({"number": "9999"} if "token" in route.path else {})


def asked(visitors: Visitors, route: Ruled, headers: Mapping[str, str] | None) -> httpx.Response:
    query = {name: value for name, value in QUERY.items() if name in route.in_query} if route.is_safe else {}
    return visitors.ask(route.method, route.address(values_of(route)), headers, params=query)


def is_html(answer: httpx.Response) -> bool:
    return "text/html" in answer.headers.get("content-type", "")


def is_login(answer: httpx.Response) -> bool:
    return answer.status_code == 303 and answer.headers["location"].startswith("/console/login")


def wrong_answers(visitors: Visitors, roles: frozenset[Role] | None, headers: dict[str, str] | None) -> list[str]:
    """Return what is not as the rules say; ``roles``: the visitor's, or ``None`` for nobody."""
    return wrong_ones(lambda route: asked(visitors, route, headers), roles, is_token="Cookie" not in (headers or {}))


def wrong_ones(
    answer_of: Callable[[Ruled], httpx.Response], roles: frozenset[Role] | None, *, is_token: bool
) -> list[str]:
    wrong = []
    for route in ROUTES:
        if route.path == "/console/logout" and roles:
            continue  # It would end the session; `test_login` has it.
        answer = answer_of(route)
        code = answer.status_code
        if route.roles is None or (roles is not None and route.allows(roles) and not (is_token and route.session)):
            is_right = code not in (401, 403) and code < 500 and not is_login(answer)
        elif roles is None:
            is_right = is_login(answer) if route.is_page else code == 401
        else:
            is_right = code == 403
        if not is_right:
            wrong.append(f"{route.method} {route.path}: {code}")
    return wrong


def test_a_route_without_a_rule_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unruled(bare_app().routes) == []
    router = APIRouter()
    router.add_api_route("/forgotten", lambda: None)
    router.routes += [Route("/plain", PlainTextResponse("x")), Mount("/files", FastAPI())]
    assert unruled(router.routes) == ["/forgotten", "/plain", "/files"]
    monkeypatch.setattr("utility.assembly.application.PAGES", (router,))
    with pytest.raises(RuntimeError, match="routes without a rule of who may use them: /forgotten, /plain, /files"):
        collect_routes()


def test_bills_of_all_accounts_are_for_clerks_and_approvers_by_each_way() -> None:
    found = {each.path: each.roles for each in all_routes() if "/bill" in each.path and "/home/" not in each.path}
    assert {"/export/bills", "/console/bills", "/runs/{number}/bills"} <= found.keys()
    assert set(found.values()) == {frozenset({Role.CLERK, Role.APPROVER})}


def test_public_routes_are_these() -> None:
    """A person who adds a public route changes this list, too, and says why."""
    assert {route.path for route in ROUTES if route.roles is None} == {
        "/",
        "/health",  # for watchdogs: no meter, no person
        "/metrics",  # for Prometheus: no meter, no person
        "/console/static/{version}/{name}",
        "/console/login",
        "/console/login/code",  # the second step, with a cookie of the first
        "/console/invitation/{secret}",
        "/console/mail/confirm/{account}/{code}",  # the link of a mail, with a code that only its address has
        "/openadr3/3.1.0/auth/server",  # where devices find the next one
        "/openadr3/3.1.0/auth/token",  # with a token's text; a session has no right there
    }


def test_routes_read_by_get_and_change_by_post() -> None:
    assert {route.method for route in ROUTES} == {"GET", "POST"}


@pytest.mark.parametrize("name", NAMES)
def test_each_role_may_use_its_routes_and_no_others(crawl: Crawl, name: str) -> None:
    assert wrong_ones(lambda route: crawl.answer(name, route), NAMES[name], is_token=False) == []


@pytest.mark.usefixtures("read")  # It asks for the pages of everything, and looks what that changes.
@pytest.mark.parametrize("name", [*NAMES, "everything"])
def test_no_page_has_words_of_programs(crawl: Crawl, name: str) -> None:
    """No page says what only programs and files say: every page of every role is read."""
    answers = [(route, crawl.answer(name, route)) for route in PAGES]
    if name == "everything":
        headers = crawl.session(name)
        for route in PAGES:
            wrong = dict.fromkeys(route.in_query, "wrong")
            answers.append((route, crawl.visitors.ask("GET", route.address(values_of(route)), headers, params=wrong)))
    read = [(route.path, answer.text) for route, answer in answers if is_html(answer)]
    assert len(read) > 15
    assert [f"{path}: {fault}" for path, text in read for fault in faults_of_words(words_of(text))] == []


@pytest.mark.usefixtures("read")
@pytest.mark.parametrize("name", ["resident", "researcher", "clerk", "approver", "operator"])
def test_an_engineers_word_has_its_sentence_where_other_people_read_it(crawl: Crawl, name: str) -> None:
    """All pages of people who are no engineers, and the operator's page of the town."""
    engineers = "/console/jobs", "/console/system"
    pages = [route for route in PAGES if not route.path.startswith(engineers)]
    if name == "operator":
        pages = [route for route in pages if route.path.startswith("/console/town")]
    read = [(route.path, answer.text) for route in pages if is_html(answer := crawl.answer(name, route))]
    assert len(read) > (0 if name == "operator" else 5)
    faults = [f"{path}: {fault}" for path, text in read for fault in unexplained(text)]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", [*NAMES, "everything"])
@pytest.mark.usefixtures("read")
def test_who_people_are_is_shown_to_clerks_alone(crawl: Crawl, name: str) -> None:
    shown = {route.path: found_in(crawl.answer(name, route).content) for route in ROUTES if route.is_safe}
    expected = {"/console/accounts", "/console/accounts/{account}"} if name in ("everything", "clerk") else set()
    assert {path for path, signs in shown.items() if signs} <= expected
    assert not expected or shown["/console/accounts/{account}"] == list(SIGNS)


def test_every_cell_of_a_card_has_its_head(crawl: Crawl) -> None:
    (meters,) = (route for route in PAGES if route.path == "/console/meters")
    row = crawl.answer("viewer", meters).text.partition("<tbody>")[2].partition("</tr>")[0]
    assert re.findall(r'<td data-words="([^"]+)"', row) == ["Microgrid", "Place", "Direction", "Account", "Battery"]


def test_nobody_may_use_public_routes_only(visitors: Visitors) -> None:
    assert wrong_answers(visitors, None, None) == []
    assert wrong_answers(visitors, None, {"Authorization": "Bearer cwt_made-up"}) == []


def test_token_has_its_scope_and_not_its_persons_roles(visitors: Visitors, database: Database) -> None:
    assert wrong_answers(visitors, frozenset(Role), token_of(database, "everything", ",".join(Role), NOW)) == []
    scope = frozenset({Role.RESEARCHER})
    assert wrong_answers(visitors, scope, token_of(database, "everything", "researcher", NOW)) == []


def test_programs_on_this_machine_may_not_be_the_second_person(visitors: Visitors) -> None:
    assert wrong_answers(visitors, _MACHINE.roles, {"Authorization": f"Bearer {LOCAL_KEY}"}) == []
    assert {Role.APPROVER, Role.CLERK}.isdisjoint(_MACHINE.roles), "commands log in to decide"
    assert Role.RESIDENT not in _MACHINE.roles
    assert MACHINE not in NAMES


def test_disabled_person_is_nobody(visitors: Visitors, database: Database) -> None:
    visitors.add("gone", frozenset(Role), HOUSE)
    session, token = visitors.session("gone"), token_of(database, "gone", ",".join(Role), NOW)
    with database.writes.begin() as connection:
        access.set_state(connection, "gone", "disabled")
    assert wrong_answers(visitors, None, session) == []
    assert wrong_answers(visitors, None, token) == []


@dataclass(frozen=True)
class Read:
    """The answers to a person with all roles, by route, and whether the stored content is the same as before."""

    answers: list[tuple[Ruled, httpx.Response]]
    is_same: bool


@pytest.fixture(scope="module")
def read(crawl: Crawl, database: Database) -> Read:
    crawl.session("everything")
    before = content_of(database)
    answers = [(route, crawl.answer("everything", route)) for route in ROUTES if route.is_safe]
    return Read(answers, content_of(database) == before)


def test_get_changes_nothing(read: Read) -> None:
    """ASVS 3.5.3."""
    assert read.is_same
    codes = {route.path: answer.status_code for route, answer in read.answers}
    # Most routes must really answer with content, or the test shows nothing.
    found = [path for path, code in codes.items() if code in (200, 303)]
    assert len(found) > 0.6 * len(codes), {path: code for path, code in codes.items() if code not in (200, 303)}


def test_changes_need_the_secret_of_their_session(visitors: Visitors, database: Database) -> None:
    """ASVS 3.5.1: every route that changes something, for a person who may use it.

    Each is asked without the secret, and in one of the other ways in turn: what judges them is the same for all.
    """
    headers = visitors.session("everything")
    cookie = {"Cookie": headers["Cookie"]}
    other = visitors.session("everything")[CSRF_HEADER]
    foreign: list[dict[str, str]] = [
        cookie,
        cookie | {CSRF_HEADER: other},
        cookie | {CSRF_HEADER: ""},
        headers | {"Origin": "https://evil.example"},
        headers | {"Origin": "null"},
        headers | {"Sec-Fetch-Site": "cross-site"},
        headers | {"Sec-Fetch-Site": "same-site"},
    ]
    before = content_of(database)
    for number, route in enumerate(ROUTES):
        if not route.is_safe and not route.path.endswith("/auth/token"):
            told = [cookie, foreign[1 + number % 6]] if route.roles is not None else foreign[3:]
            fields = {"name": "everything", "password": "three slow green boats"} if route.roles is None else {}
            codes = [
                visitors.ask(route.method, route.address(values_of(route)), each, data=fields).status_code
                for each in told
            ]
            assert codes == [403] * len(told), f"{route.method} {route.path}"
    assert content_of(database) == before


def test_pages_are_private_and_protected(read: Read) -> None:
    """ASVS 3.4.x, 14.3.2: headers of every GET route, and nothing but static files may be kept by a cache."""
    for route, answer in read.answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy, route.path
        assert "frame-ancestors 'none'" in policy, route.path
        assert "base-uri 'none'" in policy, route.path
        assert "script-src 'self'" in policy or "script-src" not in policy, route.path
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["strict-transport-security"].startswith("max-age=31536000")
        assert answer.headers["cache-control"] in ("no-store", "private, no-cache"), route.path
        assert "access-control-allow-origin" not in answer.headers, route.path
        content_type = answer.headers.get("content-type", "")
        assert not answer.content or content_type, route.path
        assert not content_type.startswith("text/") or "charset=utf-8" in content_type, route.path


def test_pages_offer_the_logout(read: Read) -> None:
    for route, answer in read.answers:
        if route.roles is not None and "<nav" in answer.text and "<html" in answer.text:
            assert 'action="/console/logout"' in answer.text, route.path


def test_pages_need_no_inline_script_or_style(read: Read) -> None:
    """A page that has them would be without them in browsers; a page with another policy runs no script at all."""
    for route, answer in read.answers:
        if route.is_page:
            policy, text = answer.headers["content-security-policy"], answer.text
            if policy != CONTENT_POLICY:
                assert "script-src" not in policy, route.path
            elif "<html" in text and "content-disposition" not in answer.headers:
                assert "<script>" not in text, route.path
                assert " onclick=" not in text, route.path
                assert " style=" not in text, route.path


def test_folder_of_the_town_is_not_served(visitors: Visitors) -> None:
    for path in ("/console/static/x/../../utility.db", "/console/static/x/%2e%2e%2futility.db", "/../etc/passwd"):
        assert visitors.ask("GET", path).status_code == 404
