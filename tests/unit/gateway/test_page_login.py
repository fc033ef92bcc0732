"""Rights to read the controller's page: sessions, guesses and forms, on a virtual clock."""

import os
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.guesses import BY_ADDRESS
from commonwatt.identity.passwords import Cost, PasswordHash
from commonwatt.network.http_pages import Request, Response
from gateway.page.site import ABSOLUTE_S, IDLE_S, Site
from harness.surroundings.page import add_meter, empty

RIGHT, WRONG = "seven small lanterns", "seven large lanterns"
PLACE = "17 Elm Street"
HOST = "10.1.0.1:9101"
SAME_ORIGIN = {"host": HOST, "origin": f"http://{HOST}"}


def write(path: Path, password: str) -> PasswordHash:
    made = PasswordHash.of(password, Cost(log_n=10, r=1, p=1))
    path.write_text(f'{{"password": "{made.text()}"}}')
    return made


class Visitor:
    """A browser that visits a gateway's page."""

    def __init__(self, folder: Path, *, http: str = HOST, password: bool = True, tls: bool = False) -> None:
        self.file = folder / "page-password.json"
        self.hash = write(self.file, RIGHT)
        self.view = empty()
        add_meter(self.view, "10001", PLACE)
        self.now = 1000.0
        self.cookie = ""
        settings = GatewaySettings.model_validate(
            {
                "microgrid": "r001",
                "http": http,
                "http_plain_text": True,
                "http_password": self.file if password else None,
                "http_certificate": folder / "broker.pem" if tls else None,
            }
        )
        self.site = Site(settings, lambda: self.view, lambda: self.now)

    def ask(
        self, path: str = "/", method: str = "GET", body: str = "", address: str = "10.1.0.7", **headers: str
    ) -> Response | None:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        if self.cookie:
            sent["cookie"] = f"other=1; {self.cookie}"
        return self.site.answer(Request(method=method, path=path, address=address, headers=sent, body=body.encode()))

    def page(self, path: str = "/", **headers: str) -> Response:
        answer = self.ask(path, **headers)
        assert answer is not None
        return answer

    def log_in(self, password: str = RIGHT, address: str = "10.1.0.7") -> Response:
        form = "password=" + password.replace(" ", "+")
        answer = self.ask("/login", "POST", form, address, **SAME_ORIGIN)
        assert answer is not None
        if made := dict(answer.headers).get("Set-Cookie"):
            self.cookie = made.partition(";")[0]
        return answer

    def sees(self) -> bool:
        return PLACE in self.page().body


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path)


def test_a_bystander_gets_the_form_and_nothing_else(visitor: Visitor) -> None:
    for path in ("/", "/meters", "/batteries", "/status", "/login", "/logout"):
        answer = visitor.page(path)
        assert PLACE not in answer.body
        assert ("Log in" in answer.body) is (path != "/status")
    assert visitor.page("/status").status == 401
    assert visitor.ask("/metrics.json") is None, "the server answers what is no page"


def test_the_right_password_opens_a_session_and_logging_out_ends_it(visitor: Visitor) -> None:
    answer = visitor.log_in()
    assert (answer.status, dict(answer.headers)["Location"]) == (303, "/")
    assert dict(answer.headers)["Set-Cookie"].endswith("; Path=/; HttpOnly; SameSite=Strict")
    assert visitor.sees()
    assert visitor.ask("/status") is None, "the server answers with the status"
    assert visitor.page("/login").status == 303
    old = visitor.cookie
    assert visitor.ask("/logout", "POST", **SAME_ORIGIN) is not None
    visitor.cookie = old
    assert not visitor.sees()


def test_over_tls_the_cookie_is_secure_and_bound_to_the_host(tmp_path: Path) -> None:
    cookie = dict(Visitor(tmp_path, tls=True).log_in().headers)["Set-Cookie"]
    assert cookie.startswith("__Host-commonwatt-9101=")
    assert cookie.endswith("; Secure")


def test_every_answer_forbids_scripts_frames_and_copies(visitor: Visitor) -> None:
    visitor.log_in()
    for path in ("/", "/meters", "/batteries", "/login"):
        headers = dict(visitor.page(path).headers)
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy


def test_a_wrong_password_is_told_and_so_is_the_wait(visitor: Visitor) -> None:
    for _ in range(BY_ADDRESS.at_once):
        answer = visitor.log_in(WRONG)
        assert (answer.status, "The password is wrong." in answer.body) == (401, True)
    answer = visitor.log_in(RIGHT)
    assert (answer.status, "Try again in 60 s." in answer.body) == (429, True)
    assert dict(answer.headers)["Retry-After"] == "60"
    assert not visitor.sees()
    assert visitor.log_in(RIGHT, address="10.1.0.8").status == 303, "another address does not wait"
    visitor.cookie = ""
    visitor.now += 61
    assert visitor.log_in(RIGHT).status == 303


@pytest.mark.parametrize("body", ["", "password=", "password", "passwort=x", "password=%ff", "a=" * 50, "\ud7ff" * 99])
def test_odd_forms_are_wrong_passwords(visitor: Visitor, body: str) -> None:
    answer = visitor.ask("/login", "POST", body, **SAME_ORIGIN)
    assert answer is not None
    assert answer.status == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"host": HOST, "origin": "https://evil.example"},
        {"host": HOST, "origin": "null"},
        {"host": HOST, "origin": "http://10.1.0.1:9102"},
        {"host": HOST, "sec_fetch_site": "cross-site"},
        {"host": HOST, "sec_fetch_site": "same-site", "origin": f"http://{HOST}"},
    ],
)
def test_a_form_of_another_page_is_refused(visitor: Visitor, headers: dict[str, str]) -> None:
    visitor.log_in()
    for path in ("/login", "/logout"):
        answer = visitor.ask(path, "POST", f"password={RIGHT}", **headers)
        assert answer is not None
        assert answer.status == 403
    assert visitor.sees(), "still logged in"


def test_a_form_of_its_own_page_and_a_program_are_accepted(visitor: Visitor) -> None:
    for headers in ({"host": HOST, "sec_fetch_site": "same-origin"}, SAME_ORIGIN, {"host": HOST}, {}):
        answer = visitor.ask("/login", "POST", "password=seven+small+lanterns", **headers)
        assert answer is not None
        assert answer.status == 303


def test_nothing_else_can_be_sent(visitor: Visitor) -> None:
    visitor.log_in()
    for path in ("/", "/meters", "/status", "/command"):
        answer = visitor.ask(path, "POST", "x=1", **SAME_ORIGIN)
        assert answer is not None
        assert answer.status == 405


def test_a_session_ends_without_requests_and_in_any_case(visitor: Visitor) -> None:
    visitor.log_in()
    visitor.now += IDLE_S - 1
    assert visitor.sees()
    visitor.now += IDLE_S
    assert not visitor.sees()
    visitor.log_in()
    asked = 0
    while visitor.sees():
        visitor.now += 900
        asked += 1
    assert asked == ABSOLUTE_S / 900


def test_a_new_password_ends_all_sessions_at_once(visitor: Visitor) -> None:
    visitor.log_in()
    write(visitor.file, WRONG)
    os.utime(visitor.file, ns=(1, 1))
    assert not visitor.sees()
    assert visitor.log_in(RIGHT).status == 401
    assert visitor.log_in(WRONG).status == 303


def test_without_a_readable_password_nobody_gets_in(visitor: Visitor) -> None:
    visitor.log_in()
    visitor.file.unlink()
    assert not visitor.sees()
    assert visitor.log_in(RIGHT).status == 403
    assert "commonwatt gateway password" in visitor.page().body
    assert visitor.ask("/status", authorization=f"Bearer {visitor.hash.local_key()}") is not None
    visitor.file.write_text("{}")
    assert visitor.log_in(RIGHT).status == 403
    write(visitor.file, WRONG)
    assert visitor.log_in(WRONG).status == 303, "a new password needs no restart"


def test_a_program_that_can_read_the_file_needs_no_session(visitor: Visitor) -> None:
    assert visitor.ask("/status", authorization=f"Bearer {visitor.hash.local_key()}") is None
    for key in (f"Bearer {visitor.hash.hash.hex()}", "Bearer ", "Bearer é", f"Basic {visitor.hash.local_key()}", "x"):
        answer = visitor.ask("/status", authorization=key)
        assert answer is not None
        assert answer.status == 401


def test_beyond_this_machine_without_a_password_nothing_is_served_but_what_to_do(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path, password=False)
    for path in ("/", "/meters", "/status", "/login"):
        answer = visitor.page(path)
        assert (answer.status, PLACE in answer.body) == (403, False)
        assert "commonwatt gateway password" in answer.body
    assert visitor.ask("/metrics") is None


def test_on_this_machine_nobody_has_to_log_in_unless_there_is_a_password(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path, http="127.0.0.1:9101", password=False)
    assert visitor.sees()
    assert visitor.ask("/status") is None
    assert "Log out" not in visitor.page().body
    assert visitor.log_in().status == 303
    assert not Visitor(tmp_path, http="127.0.0.1:9101").sees()


def test_a_gateway_that_starts_shows_that(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path)
    visitor.view = {}
    visitor.log_in()
    assert "starting" in visitor.page().body
