"""Requests made to harm: what they ask for is bounded, and the answers give nothing away."""

import asyncio
import time
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from pydantic import ValidationError
from sqlalchemy.exc import DataError, OperationalError
from starlette.types import Message, Receive, Scope, Send

from commonwatt.config.utility import UtilitySettings
from harness.console import Browser, text_of
from utility.access.roles import Role
from utility.assembly.metrics import UtilityMetrics
from utility.assembly.service import _quiet
from utility.webkit.headers import MAX_BODY_BYTES, SECURITY_HEADERS
from utility.webkit.proxies import behind
from utility.webkit.rights import OPEN


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
