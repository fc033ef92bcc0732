"""The controller's page: which request gets which answer, on a virtual clock; and what the file may do."""

import os
import re
from base64 import b64encode
from pathlib import Path

import pytest

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.guesses import BY_ADDRESS
from commonwatt.identity.passwords import Cost, PasswordHash
from commonwatt.network.http_server import HttpRequest, Response
from gateway.page import PAGE, Site
from harness.surroundings.page import add_meter, empty

RIGHT, WRONG = "seven small lanterns", "seven large lanterns"
PLACE = "17 Elm Street"
HOST = "10.1.0.1:9101"


def write(path: Path, password: str) -> PasswordHash:
    made = PasswordHash.of(password, Cost(log_n=10, r=1, p=1))
    path.write_text(f'{{"password": "{made.text()}"}}')
    return made


def basic(password: str, name: str = "anna") -> str:
    return f"Basic {b64encode(f'{name}:{password}'.encode()).decode()}"


class Visitor:
    """A browser that visits a gateway's page."""

    def __init__(self, folder: Path, *, http: str = HOST, password: bool = True) -> None:
        self.file = folder / "page-password.json"
        self.hash = write(self.file, RIGHT)
        self.view = empty()
        add_meter(self.view, "10001", PLACE)
        self.now = 1000.0
        settings = GatewaySettings.model_validate(
            {
                "microgrid": "r001",
                "http": http,
                "http_plain_text": True,
                "http_password": self.file if password else None,
            }
        )
        self.site = Site(settings, lambda: self.view, lambda: self.now)

    def ask(self, path: str = "/status", method: str = "GET", address: str = "10.1.0.7", login: str = "") -> Response:
        answer = self.get(path, method, address, login)
        assert answer is not None
        return answer

    def get(self, path: str, method: str = "GET", address: str = "10.1.0.7", login: str = "") -> Response | None:
        headers = {"authorization": login} if login else {}
        return self.site.answer(HttpRequest(method=method, path=path, address=address, headers=headers))

    def sees(self, password: str = RIGHT, address: str = "10.1.0.7") -> bool:
        return PLACE in self.ask(address=address, login=basic(password)).body


@pytest.fixture
def visitor(tmp_path: Path) -> Visitor:
    return Visitor(tmp_path)


def test_a_bystander_is_asked_for_the_password_and_sees_nothing(visitor: Visitor) -> None:
    for path in ("/", "/status", "/power"):
        answer = visitor.ask(path)
        assert (answer.status, PLACE in answer.body) == (401, False)
        assert dict(answer.headers)["WWW-Authenticate"] == 'Basic realm="Controller r001", charset="UTF-8"'
    assert visitor.get("/health") is None, "the server answers what is not of the page"


def test_the_right_password_shows_the_page_the_status_and_the_picture(visitor: Visitor) -> None:
    visitor.view["power"] = {"end": 0, "sun_w": 900, "use_w": 1300, "import_w": 0, "export_w": 0, "between_w": 100}
    answers = {path: visitor.ask(path, login=basic(RIGHT)) for path in ("/", "/status", "/power")}
    assert {answer.status for answer in answers.values()} == {200}
    assert answers["/"].body == PAGE
    assert PLACE in answers["/status"].body
    assert "use 1.3 kW; from sun 0.9 kW" in answers["/power"].body
    visitor.view = {}
    assert visitor.ask("/power", login=basic(RIGHT)).body == "", "its store was not read yet"


def test_every_answer_forbids_foreign_scripts_frames_and_copies(visitor: Visitor) -> None:
    for login in ("", basic(RIGHT)):
        for path in ("/", "/status"):
            headers = dict(visitor.ask(path, login=login).headers)
            assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
            assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "frame-ancestors 'none'" in policy
            assert "unsafe" not in policy


def test_the_page_loads_nothing_else_and_makes_no_markup_of_texts() -> None:
    assert (PAGE.count("<style>"), PAGE.count("<script>")) == (1, 1)
    assert not re.search(
        r"<link|<img|<iframe|<form|@import|url\(|https?://(?!www.w3.org/2000/svg)| on\w+=| style=", PAGE
    )
    assert not re.search(r"innerHTML|outerHTML|document\.write|eval\(", PAGE)
    assert PAGE.count("insertAdjacentHTML") == 1, "the picture of power alone"


def test_a_wrong_password_is_asked_for_again_and_then_waits(visitor: Visitor) -> None:
    for _ in range(BY_ADDRESS.at_once):
        assert visitor.ask(login=basic(WRONG)).status == 401
    answer = visitor.ask(login=basic(RIGHT))
    assert (answer.status, "Try again in 60 s." in answer.body) == (429, True)
    assert dict(answer.headers)["Retry-After"] == "60"
    assert visitor.sees(address="10.1.0.8"), "another address does not wait"
    assert not visitor.sees(), "nor may this one guess a password that was right elsewhere"
    visitor.now += 61
    assert visitor.sees()


def test_the_right_password_never_waits_however_often_it_is_sent(visitor: Visitor) -> None:
    assert all(visitor.sees() for _ in range(10 * BY_ADDRESS.at_once))


@pytest.mark.parametrize(
    "login", ["Basic", "Basic x", "Basic é", "Basic /w==", "Digest abc", basic(""), basic("\ud7ff" * 99)]
)
def test_odd_logins_are_refused(visitor: Visitor, login: str) -> None:
    assert visitor.ask(login=login).status == 401


def test_nothing_can_be_sent(visitor: Visitor) -> None:
    for path in ("/", "/status", "/power", "/login", "/command"):
        assert visitor.ask(path, "POST", login=basic(RIGHT)).status == 405


def test_a_new_password_holds_at_once(visitor: Visitor) -> None:
    assert visitor.sees()
    write(visitor.file, WRONG)
    os.utime(visitor.file, ns=(1, 1))
    assert not visitor.sees(RIGHT)
    assert visitor.sees(WRONG)


def test_without_a_readable_password_nobody_gets_in(visitor: Visitor) -> None:
    assert visitor.sees()
    visitor.file.unlink()
    answer = visitor.ask("/", login=basic(RIGHT))
    assert (answer.status, "commonwatt gateway password" in answer.body) == (403, True)
    assert visitor.ask(login=f"Bearer {visitor.hash.local_key()}").status == 403
    visitor.file.write_text("{}")
    assert visitor.ask(login=basic(RIGHT)).status == 403
    write(visitor.file, WRONG)
    assert visitor.sees(WRONG), "a new password needs no restart"


def test_a_program_that_can_read_the_file_needs_no_password(visitor: Visitor) -> None:
    assert visitor.ask(login=f"Bearer {visitor.hash.local_key()}").status == 200
    for key in (f"Bearer {visitor.hash.hash.hex()}", "Bearer ", "Bearer é", f"Basic {visitor.hash.local_key()}", "x"):
        assert visitor.ask(login=key).status == 401


def test_beyond_this_machine_without_a_password_nothing_is_served_but_what_to_do(tmp_path: Path) -> None:
    visitor = Visitor(tmp_path, password=False)
    for path in ("/", "/status", "/power"):
        answer = visitor.ask(path)
        assert (answer.status, PLACE in answer.body) == (403, False)
        assert "commonwatt gateway password" in answer.body
    assert visitor.get("/metrics") is None


def test_on_this_machine_no_password_is_asked_unless_there_is_one(tmp_path: Path) -> None:
    assert PLACE in Visitor(tmp_path, http="127.0.0.1:9101", password=False).ask().body
    assert Visitor(tmp_path, http="127.0.0.1:9101").ask().status == 401
