"""Requests: typed addresses, made to harm, slow connections, the stream of changes, and long work that is started.

A fault of long work is shown and stops no other work; a person cancels the own ones.
"""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from importlib.resources import files
from threading import Event
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.routing import APIRoute
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Message, Receive, Scope, Send

from commonwatt.model.exceptions import ConfigError
from harness.console import Browser, text_of
from harness.network.waiting import eventually, free_port
from utility.access.people import Role
from utility.assembly.metrics import UtilityMetrics
from utility.assembly.service import KEEP_S, _quiet, listen
from utility.billing.run import Progress
from utility.settings import UtilitySettings
from utility.webkit import middleware
from utility.webkit.console.live import MOST, MOST_OF_PERSON, Streams
from utility.webkit.middleware import (
    MAX_BODY_BYTES,
    MAX_HEAD_BYTES,
    SECURITY_HEADERS,
    behind,
    bounded,
    only_ours,
    plain_cookies,
)
from utility.webkit.rights import OPEN
from utility.webkit.works import MAX_KEPT, MAX_OPEN, LongWork, WorkKind, Works, WorkState

Browsers = Callable[..., Browser]


def test_no_page_of_the_console_needs_a_query(app: FastAPI, browser: Browsers) -> None:
    people = [browser(*(role for role in Role if role is not Role.RESIDENT)), browser(Role.RESIDENT, account=5)]
    routes = [route for route in app.routes if isinstance(route, APIRoute) and "GET" in (route.methods or ())]
    paths = [r.path for r in routes if r.path.startswith("/console/") and "{" not in r.path and "events" not in r.path]
    assert len(paths) > 40
    answers = [(path, one.get(path)) for path in paths for one in people]
    unregistered = "account: 5 is not registered"
    assert [p for p, answer in answers if answer.status_code == 422 and unregistered not in answer.text] == []


@pytest.mark.parametrize(
    "path", ["/console/nothing", "/console/home/nothing", "/console/microgrids/none/nothing", "/console/x.html"]
)
@pytest.mark.parametrize("role", [Role.VIEWER, None])
def test_an_address_without_a_page_is_a_page_that_leads_back(browser: Browsers, path: str, role: Role | None) -> None:
    answer = browser(*([] if role is None else [role])).get(path)
    assert answer.status_code == 404
    assert '<html lang="en"' in answer.text
    assert "<title>There is nothing here" in answer.text
    assert 'href="/console/"' in answer.text


def form(app: FastAPI, body: bytes, content_type: str, path: str = "/console/login") -> int:
    visitor = Browser(app)
    visitor.raises = False
    return visitor.send("POST", path, content=body, headers={"Content-Type": content_type}).status_code


MULTIPART = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n%s\r\n--x--\r\n'


SLOW = (
    "multipart/form-data; boundary=x; charset=punycode",
    'multipart/form-data; boundary=x; CHARSET="punycode"',
    "multipart/form-data; charset=utf-8; charset=punycode; boundary=x",
    "multipart/form-data; boundary=x; charset*=utf-8''punycode",
    "multipart/form-data; boundary=x; charset =punycode",
)


def test_slow_encodings_are_refused(app: FastAPI) -> None:
    """Decoding a megabyte of punycode takes more than a minute, in which nobody else is answered."""
    begun = time.process_time()
    for content_type in SLOW:
        assert form(app, MULTIPART % (b"a-" + b"a" * 200_000), content_type) == 415, content_type
    assert time.process_time() - begun < 3


def test_text_in_utf_8_is_read(app: FastAPI) -> None:
    assert form(app, MULTIPART % "é".encode(), 'multipart/form-data; boundary=x; charset="UTF-8"') == 422  # no password
    fields = b"name=%C3%A9&password=x"
    assert form(app, fields, "application/x-www-form-urlencoded; charset=utf-8") == 401


def test_long_bodies_are_refused_by_their_stated_length(app: FastAPI) -> None:
    for length in ("9" * 5_000, str(MAX_BODY_BYTES + 1), "-1", "1e3", ""):
        headers = {"Content-Length": length, "Content-Type": "application/x-www-form-urlencoded"}
        assert Browser(app).send("POST", "/console/login", content=b"", headers=headers).status_code == 413, length


def test_long_bodies_without_a_length_are_cut(app: FastAPI) -> None:
    sent: list[Message] = []
    left = 40

    async def receive() -> Message:
        nonlocal left
        left -= 1
        return {"type": "http.request", "body": b"name=" + b"x" * 100_000, "more_body": left > 0}

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/x-www-form-urlencoded"), (b"host", b"localhost")]
    scope = {"type": "http", "method": "POST", "path": "/console/login", "raw_path": b"/console/login"}
    scope |= {"query_string": b"", "headers": headers, "client": ("127.0.0.1", 5), "scheme": "http"}
    scope |= {"server": ("localhost", 80), "http_version": "1.1", "root_path": ""}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 400
    assert left > 40 - MAX_BODY_BYTES // 100_000 - 3


def test_foreign_and_broken_origins_are_refused(app: FastAPI) -> None:
    """Also at login: another site must not log a person in as somebody else (login CSRF)."""
    fields = {"name": "ann", "password": "x"}
    for origin in ("null", "https://evil.example", "http://[", "localhost", "https://localhost.evil"):
        answer = Browser(app).send("POST", "/console/login", data=fields, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    own = Browser(app).send("POST", "/console/login", data=fields, headers={"Origin": "https://localhost"})
    assert own.status_code == 401
    # A page of this host by HTTP may be another's: anybody between can write it.
    plain = Browser(app).send("POST", "/console/login", data=fields, headers={"Origin": "http://localhost"})
    assert plain.status_code == 403
    assert "http_proxies" in text_of(plain)


def test_odd_secrets_of_forms_are_refused(app: FastAPI) -> None:
    person = Browser(app, Role.VIEWER)
    for odd in ("", "\u00e9", "\ud800", "x" * 5_000):
        data = {"csrf": odd.encode(errors="surrogatepass").decode(errors="replace")}
        assert person.send("POST", "/console/logout", data=data).status_code == 403
        header = {"X-CSRF": odd.encode(errors="surrogatepass")}
        assert person.send("POST", "/console/logout", headers=header).status_code == 403
    file = {"csrf": ("x", person.csrf.encode())}
    assert person.send("POST", "/console/logout", files=file).status_code == 403


@pytest.mark.parametrize(
    "body", ['{"month": NaN}', '{"month": "\\ud800"}', '{"\\ud800": 1}', '{"month": ' + "[" * 900 + "]" * 900 + "}"]
)
def test_what_no_answer_can_repeat_is_refused_with_a_reason(app: FastAPI, body: str) -> None:
    clerk = Browser(app, Role.CLERK)
    clerk.raises = False
    headers = {"Content-Type": "application/json", "X-CSRF": clerk.csrf}
    answer = clerk.send("POST", "/runs", content=body.encode(), headers=headers)
    assert answer.status_code == 422
    (fault,) = [each for each in answer.json()["detail"] if each["type"] != "missing"]
    assert fault.keys() == {"type", "loc", "msg"}


FAULTS: dict[str, Exception] = {
    "fault": RuntimeError("the secret of /srv/commonwatt"),
    "data": DataError("SELECT secret", None, Exception("a NUL at /srv/commonwatt")),
    "database": OperationalError("SELECT secret", None, Exception("disk I/O error at /srv/commonwatt")),
    "refusal": HTTPException(503, "later", headers={"Retry-After": "7"}),
}


@pytest.mark.parametrize("place", ["/console/broken", "/broken"])
def test_errors_give_nothing_away(app: FastAPI, place: str) -> None:
    """ASVS 16.5.1: no traces, statements or paths; the headers are there, too."""

    @app.get(place + "/{kind}", dependencies=[OPEN])
    def broken(kind: str) -> None:
        raise FAULTS[kind]

    visitor = Browser(app)
    visitor.raises = False
    for kind, status in (("fault", 500), ("data", 422), ("database", 503), ("refusal", 503)):
        answer = visitor.get(f"{place}/{kind}")
        assert answer.status_code == status
        assert not any(word in answer.text for word in ("secret", "/srv", "Traceback", "SELECT", "sqlalchemy"))
        assert all(answer.headers[name] == value for name, value in SECURITY_HEADERS.items())
        assert ("text/html" in answer.headers["content-type"]) == place.startswith("/console/")
        assert answer.headers.get("retry-after") == ("7" if kind == "refusal" else None)


def test_value_that_the_database_does_not_take_is_no_alarm(app: FastAPI) -> None:
    """PostgreSQL refuses a NUL in a text: any visitor may send one."""

    @app.get("/nul", dependencies=[OPEN])
    def nul() -> None:
        raise FAULTS["data"]

    visitor = Browser(app)
    visitor.get("/nul")
    assert visitor.get("/health").json()["status"] == "ok"


def client_of(proxies: tuple[str, ...], client: str, *headers: tuple[str, str]) -> tuple[str, str]:
    """Return the address and the scheme that an application sees."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope["client"][0], scope["scheme"]))

    async def nothing(*_: Any) -> Any:
        return None

    raw = [(name.lower().encode(), value.encode()) for name, value in headers]
    scope = {"type": "http", "client": (client, 5), "scheme": "http", "headers": raw}
    asyncio.run(behind(app, proxies)(scope, nothing, nothing))  # type: ignore[arg-type]
    return (str(seen[0][0]), str(seen[0][1]))


FORGED = ("X-Forwarded-For", "198.51.100.1, 203.0.113.9")


def test_address_of_a_client_behind_a_proxy() -> None:
    proto = ("X-Forwarded-Proto", "https")
    # The proxy appends the address that it sees; what stands before it is the client's word.
    assert client_of(("127.0.0.1/32",), "127.0.0.1", FORGED, proto) == ("203.0.113.9", "https")
    assert client_of(("10.0.0.0/8",), "10.1.2.3", FORGED) == ("203.0.113.9", "http")
    two = ("X-Forwarded-For", "198.51.100.1, 203.0.113.9, 10.0.0.7")
    assert client_of(("10.0.0.0/8",), "10.1.2.3", two)[0] == "203.0.113.9"
    lines = (("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9"))
    assert client_of(("10.0.0.0/8",), "10.1.2.3", *lines)[0] == "203.0.113.9"
    assert client_of(("10.0.0.0/8",), "10.1.2.3")[0] == "10.1.2.3"


def test_word_of_others_about_their_address_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    """Also of programs on this machine: nobody makes the throttle or the audit log see another address."""
    for proxies, client in (((), "127.0.0.1"), (("10.0.0.0/8",), "192.0.2.4"), (("10.0.0.0/8",), "127.0.0.1")):
        caplog.clear()
        assert client_of(proxies, client, FORGED, ("X-Forwarded-Proto", "https")) == (client, "http")
        assert f"a proxy at {client}" in caplog.text


@pytest.mark.parametrize(("proxy", "seen"), [("10.1.2.3", "203.0.113.9"), ("127.0.0.1", "127.0.0.1")])
def test_service_takes_the_address_from_its_named_proxies_only(
    app: FastAPI, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, proxy: str, seen: str
) -> None:
    """The server library would trust 127.0.0.1, and whatever an environment variable names."""
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    settings = UtilitySettings(http_proxies=("10.0.0.0/8",))
    config = _quiet(app.state.console.api, UtilityMetrics(), settings)
    config.load()
    visitor = Browser(config.loaded_app)
    visitor.address = proxy
    fields = {"name": "ann", "password": "a wrong password"}
    assert visitor.send("POST", "/console/login", data=fields, headers=[FORGED]).status_code == 401
    assert f"a wrong name or password from {seen}" in caplog.text


@pytest.mark.parametrize("wrong", ["*", "proxy.example", "10.1.2.3/8", "10.0.0.0/33", ""])
def test_proxies_are_addresses_or_networks(wrong: str) -> None:
    with pytest.raises(ValidationError, match="neither an IP address nor a network"):
        UtilitySettings(http_proxies=(wrong,))


class Server:
    """A uvicorn server with our bounds and an application that says who asks."""

    def __init__(self) -> None:
        self.cut = 0
        self.asked = 0
        self.port = free_port()
        config = uvicorn.Config(
            only_ours(self._app, {"us.example"}),
            port=self.port,
            http=bounded(self._count),
            h11_max_incomplete_event_size=MAX_HEAD_BYTES,
            log_config=None,
            lifespan="off",
        )
        self._released = asyncio.Event()
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: asyncio.run(self._server.serve()))
        self._thread.start()
        eventually(lambda: self._server.started)

    def _count(self) -> None:
        self.cut += 1

    async def _app(self, scope: Scope, _receive: object, send: Send) -> None:
        if scope["path"] == "/slow":
            self.asked += 1
            await self._released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"fine"})

    def release(self) -> None:
        """Let /slow be answered."""
        self._server.servers[0].get_loop().call_soon_threadsafe(self._released.set)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def says(self, request: bytes) -> bytes:
        """Everything the server says to a request until it closes."""
        got = b""
        with self.connect() as sock:
            try:
                sock.sendall(request)
                while piece := sock.recv(65_536):
                    got += piece
            except (ConnectionResetError, BrokenPipeError):
                return got
        return got

    def answers(self) -> bool:
        return b"fine" in self.says(b"GET / HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(middleware, "REQUEST_WITHIN_S", 0.4)
    monkeypatch.setattr(middleware, "MAX_CONNECTIONS", 20)
    running = Server()
    yield running
    running.close()


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"\x00" * 1000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /" + b"x" * 32 * MAX_HEAD_BYTES + b" HTTP/1.1\r\nHost: us.example\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: us.example\r\n" + b"X: " + b"y" * 32 * MAX_HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: us.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: us.example\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["TLS", "zeros", "no host", "long line", "long header", "two lengths", "bad chunk"],
)
def test_garbage_is_refused_and_the_next_is_answered(server: Server, request_: bytes) -> None:
    assert b"HTTP/1.1 200" not in server.says(request_) or request_.startswith(b"POST")
    assert server.answers()


def test_who_does_not_finish_a_request_is_cut(server: Server) -> None:
    assert server.says(b"GET / HT") == b""
    assert server.cut == 1
    assert server.says(b"") == b""
    assert server.cut == 2
    assert server.answers()


def test_an_honest_request_is_answered_at_once_beside_hundreds_of_half_open_connections(server: Server) -> None:
    half_open = [server.connect() for _ in range(250)]
    for sock in half_open[::2]:
        with contextlib.suppress(OSError):  # The oldest are closed already.
            sock.sendall(b"GET / HTTP/1.1\r\nHost: us")
    began = time.monotonic()
    assert server.answers()
    assert time.monotonic() - began < 1.0
    eventually(lambda: server.cut >= 230)
    for sock in half_open:
        sock.close()


def test_an_answer_is_not_cut_for_half_open_connections(server: Server) -> None:
    with server.connect() as asking:
        asking.sendall(b"GET /slow HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")
        eventually(lambda: server.asked)
        half_open = [server.connect() for _ in range(60)]
        eventually(lambda: server.cut >= 40)
        server.release()
        assert asking.recv(65_536).startswith(b"HTTP/1.1 200")
    for sock in half_open:
        sock.close()


def test_when_every_connection_is_being_answered_one_more_is_closed(server: Server) -> None:
    asking = [server.connect() for _ in range(20)]
    for sock in asking:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: us.example\r\nConnection: close\r\n\r\n")
    eventually(lambda: server.asked == 20)
    assert server.says(b"") == b""
    server.release()
    for sock in asking:
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200")
        sock.close()


def test_a_body_nobody_wants_is_not_kept(server: Server) -> None:
    head = b"POST / HTTP/1.1\r\nHost: us.example\r\nContent-Length: 100000000\r\n\r\n"
    server.says(head + b"x" * 1_000_000)
    assert server.answers()


@pytest.mark.parametrize(
    ("host", "answered"),
    [
        ("localhost:8080", True),
        ("127.0.0.1", True),
        ("[::1]:8080", True),
        ("US.example", True),
        ("evil.example", False),
        ("us.example.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("", False),
    ],
)
def test_a_page_of_somebody_else_reads_nothing(server: Server, host: str, answered: bool) -> None:
    said = server.says(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert (b"HTTP/1.1 200" in said, b"fine" in said) == (answered, answered)
    assert answered or b"HTTP/1.1 421" in said


def test_the_body_of_an_answer_does_not_wait_until_the_client_acknowledges_its_head() -> None:
    with listen("127.0.0.1:0") as listening, socket.create_connection(listening.getsockname()[:2]):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_browser_that_shows_the_town_keeps_its_connection_between_two_polls() -> None:
    script = files("utility.webkit").joinpath("console", "static", "console.js").read_text(encoding="utf-8")
    (every_ms,) = re.findall(r"}, (\d+)\);", script)
    assert int(every_ms) / 1000 < KEEP_S < middleware.REQUEST_WITHIN_S


class Page:
    """A browser's request, which stays until it leaves."""

    left = False

    async def is_disconnected(self) -> bool:
        return self.left


async def _next(events: AsyncIterator[str]) -> str:
    return await asyncio.wait_for(anext(events), 60)


def test_a_page_hears_of_what_it_shows_alone() -> None:
    async def heard() -> None:
        state = {"town": "1", "alarms": "1"}
        streams = Streams(marks={name: lambda name=name: state[name] for name in state})  # type: ignore[misc]
        assert streams.take("eve")
        page: Any = Page()
        events = streams.events(page, "eve", ["alarms", "weather"])
        assert (await _next(events)).startswith("retry:")
        state["town"], waiting = "2", asyncio.ensure_future(_next(events))
        await asyncio.sleep(0)
        state["alarms"] = "2"
        assert await waiting == "event: alarms\ndata: changed\n\n"
        page.left = True
        assert [each async for each in events] == [], "the stream ends when its browser leaves"
        assert all(streams.take("eve") for _ in range(MOST_OF_PERSON)), "and makes room for the next"

    asyncio.run(heard())


def test_streams_are_bounded_for_one_person_and_for_all() -> None:
    streams = Streams()
    assert [streams.take("eve") for _ in range(MOST_OF_PERSON + 1)] == [True] * MOST_OF_PERSON + [False]
    others = [streams.take(f"p{n}") for n in range(MOST)]
    assert others.count(True) == MOST - MOST_OF_PERSON
    assert not streams.take("late")


def test_a_stream_ends_by_itself_so_that_its_session_is_asked_for_again() -> None:
    async def all_of() -> list[str]:
        streams = Streams(lasts_s=0)
        streams.take("eve")
        page: Any = Page()
        return [each async for each in streams.events(page, "eve", ["town"])]

    assert len(asyncio.run(all_of())) == 1


NOW = 1_800_000_000
WAIT_S = 20


class Bench:
    """Works whose jobs end on command."""

    def __init__(self) -> None:
        self.works = Works()
        self.order: list[str] = []

    def start(
        self, name: str, go: Event, result: Any = None, kind: WorkKind = WorkKind.REPLAY, person: str = "anna"
    ) -> tuple[LongWork, Event]:
        done = Event()

        def job(progress: Progress) -> tuple[str, Any]:
            self.order.append(name)
            progress(1, 3)
            assert go.wait(WAIT_S)
            progress(2, 3)
            done.set()
            if isinstance(result, Exception):
                raise result
            return "/result/{id}", result

        return self.works.start(kind, name, person, NOW, job), done

    def ended(self, work: LongWork) -> LongWork:
        """Wait until a work has ended: the one after it has begun then, or none is open."""
        eventually(lambda: (found := self.works.find(work.id)) is not None and not found.is_open)
        found = self.works.find(work.id)
        assert found is not None
        return found


def test_works_of_a_kind_run_in_turn_and_too_many_are_refused() -> None:
    bench, go = Bench(), Event()
    works = [bench.start(f"work {n}", go, n, person=f"person {n}")[0] for n in range(MAX_OPEN)]
    with pytest.raises(ConfigError, match=f"{MAX_OPEN} other people have a replay in work; try again when one is done"):
        bench.start("one more", go)
    eventually(lambda: bench.order)
    first = bench.works.find(works[0].id)
    assert first is not None
    assert first.state in (WorkState.WAITING, WorkState.RUNNING)
    go.set()
    ended = [bench.ended(work) for work in works]
    assert bench.order == [work.what for work in works]
    assert [(one.result, one.path, one.done, one.whole) for one in ended] == [
        (n, f"/result/{work.id}", 2, 3) for n, work in enumerate(works)
    ]


def test_replays_of_others_keep_nobody_from_making_bills() -> None:
    bench, never, go = Bench(), Event(), Event()
    go.set()
    replays = [bench.start(f"replay {n}", never, person=f"person {n}")[0] for n in range(MAX_OPEN)]
    bills, _ = bench.start("bills", go, kind=WorkKind.BILLS)
    assert bench.ended(bills).state is WorkState.DONE
    assert [work.is_open for work in bench.works.newest()[1:]] == [True] * MAX_OPEN
    assert all(bench.works.find(work.id) is not None for work in replays)
    never.set()


def test_a_person_has_one_open_work_of_a_kind_and_cancels_it() -> None:
    bench, go = Bench(), Event()
    running, done = bench.start("first", go)
    eventually(lambda: bench.order)
    with pytest.raises(ConfigError, match=f"your replay of before, first, .*wait.*/console/works/{running.id}"):
        bench.start("second", go)
    waiting, _ = bench.start("of ben", go, person="ben")
    for work, person in ((running, "ben"), (waiting, "anna")):
        with pytest.raises(ConfigError, match="by the person who started it"):
            bench.works.cancel(work.id, person)
    bench.works.cancel(waiting.id, "ben")
    assert bench.ended(waiting).fault == "ben cancelled it"
    again, _ = bench.start("of ben again", go, person="ben")
    bench.works.cancel(running.id, "anna")
    assert bench.works.newest()[2].state is WorkState.RUNNING, "it goes on until its next step"
    go.set()
    assert (bench.ended(running).fault, done.is_set()) == ("anna cancelled it", False)
    assert bench.ended(again).state is WorkState.DONE
    assert bench.order == ["first", "of ben again"], "what was cancelled before its turn never began"
    with pytest.raises(ConfigError, match="while it waits or runs"):
        bench.works.cancel(running.id, "anna")


def test_fault_is_told_and_the_next_work_is_done(caplog: pytest.LogCaptureFixture) -> None:
    bench, go = Bench(), Event()
    go.set()
    told = bench.ended(bench.start("refused", go, ConfigError("no such month"))[0])
    assert (told.state, told.fault, told.path) == (WorkState.FAILED, "no such month", "")
    broken = bench.ended(bench.start("broken", go, KeyError("x"))[0])
    assert (broken.state, broken.fault) == (WorkState.FAILED, "the service failed; its log says why")
    assert "a work failed" in caplog.text
    assert bench.ended(bench.start("good", go)[0]).state is WorkState.DONE


def test_old_results_are_forgotten() -> None:
    bench, go = Bench(), Event()
    go.set()
    works = []
    for n in range(MAX_KEPT + 3):
        works.append(bench.start(str(n), go)[0])
        bench.ended(works[-1])
        assert sum(bench.works.find(work.id) is not None for work in works) == min(n + 1, MAX_KEPT)
    assert [bench.works.find(work.id) is not None for work in works] == [False] * 3 + [True] * MAX_KEPT
    assert [work.what for work in bench.works.newest()][:2] == [works[-1].what, works[-2].what]


@pytest.mark.parametrize("is_behind_tls", [False, True])
def test_a_browser_of_another_machine_keeps_the_cookie_of_plain_pages_alone(*, is_behind_tls: bool) -> None:
    heard: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        heard.append(Request(scope).headers["cookie"])
        answer = PlainTextResponse("")
        answer.set_cookie("__Host-commonwatt", "secret", path="/", secure=True, httponly=True, samesite="lax")
        await answer(scope, receive, send)

    headers = {"cookie": "plain-commonwatt=old; theme=dark"} | ({"x-forwarded-proto": "https"} if is_behind_tls else {})

    async def ask() -> str:
        transport = httpx.ASGITransport(app=plain_cookies(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://pi.local") as client:
            return str((await client.get("/", headers=headers)).headers["set-cookie"])

    said = asyncio.run(ask())
    if is_behind_tls:
        assert said == "__Host-commonwatt=secret; HttpOnly; Path=/; SameSite=lax; Secure"
        assert heard == ["plain-commonwatt=old; theme=dark"]
    else:
        assert said == "plain-commonwatt=secret; HttpOnly; Path=/; SameSite=lax"
        assert heard == ["__Host-commonwatt=old; theme=dark"]
