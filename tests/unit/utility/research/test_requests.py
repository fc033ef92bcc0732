"""Researchers ask on the page; a clerk answers there with a release or a reason, and two people decide as ever."""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from commonwatt.model.calendar import local_day
from harness.console import Browser, standing_api, text_of
from harness.network.waiting import eventually
from tests.unit.utility.research.test_research import DAY_S, filled_file, small_town
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.jobs.plans import NEW_YORK
from utility.settings import ResearchSettings, UtilitySettings

START = "/console/research"


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    Path(url.removeprefix("sqlite:///")).write_bytes(filled_file())
    opened = open_database(url, create=True)
    yield opened
    opened.close()


@pytest.fixture
def make(database: Database, url: str, tmp_path: Path) -> Callable[..., FastAPI]:
    def app(limit_percent: float = 100) -> FastAPI:
        research = ResearchSettings(
            secret=tmp_path / "secret", releases=tmp_path / "releases", limit_percent=limit_percent
        )
        settings = UtilitySettings(database=url, second_factor="optional", research=research)
        return make_app(standing_api(database, small_town()[1].start + 4 * DAY_S, settings=settings))

    return app


def day(after: int = 0) -> str:
    """Return a local day of which the town has readings."""
    return str(local_day(small_town()[1].start + DAY_S // 2, NEW_YORK) + timedelta(after))


def ask(eve: Browser, kind: str = "open", **others: object) -> httpx.Response:
    fields = {"kind": kind, "from": day(), "to": day(), "step": 900, "purpose": "a study of peaks"}
    return eve.post(f"{START}/requests", fields | others)


def asked(eve: Browser, kind: str = "open", **others: object) -> str:
    answer = ask(eve, kind, **others)
    assert answer.status_code == 303, text_of(answer)
    return answer.headers["location"]


def made(clerk: Browser, page: str, **fields: object) -> str:
    """Let a clerk make a release; return its page."""
    answer = clerk.post(f"{page}/make", fields)
    assert answer.status_code == 303, text_of(answer)
    live = f"{answer.headers['location']}/live"
    eventually(lambda: "Look again" not in clerk.get(live).text)
    place: str = clerk.get(live).headers["hx-redirect"]
    return place


def test_a_researcher_asks_and_gets_the_release_that_a_clerk_makes(make: Callable[..., FastAPI]) -> None:
    app = make()
    eve, clerk = Browser(app, Role.RESEARCHER, name="eve"), Browser(app, Role.CLERK, name="ben")
    page = asked(eve)
    assert "waits for a clerk" in text_of(eve.get(page))
    assert "Make the release" not in text_of(eve.get(page))
    assert "1 data request waits for an answer" in text_of(clerk.get("/console/town"))
    assert "a study of peaks" in text_of(clerk.get(page))
    release = made(clerk, page, homes=15)
    assert f'href="{release}"' in eve.get(page).text
    assert eve.post(f"{release}/download", {"name": "sums.csv"}).text.startswith("group,start,used_wh")
    again = ask(eve, step=3600)
    assert (again.status_code, "has sums of some of these days; download it" in text_of(again)) == (422, True)
    again = clerk.post(f"{page}/make", {"homes": 15})
    assert (again.status_code, "is made already" in text_of(again)) == (422, True)


def test_above_the_limit_a_second_person_decides_and_the_clerk_makes_the_files(make: Callable[..., FastAPI]) -> None:
    app = make(limit_percent=0)
    eve, clerk = Browser(app, Role.RESEARCHER, name="eve"), Browser(app, Role.CLERK, name="ben")
    page = asked(eve)
    release = made(clerk, page, homes=15)
    assert "A second person looks at the release" in text_of(eve.get(page))
    assert eve.get(release).status_code == 404
    anna = Browser(app, Role.APPROVER, name="anna")
    assert "1 release waits for a second person" in text_of(anna.get("/console/town"))
    assert anna.post(f"{release}/approve", {"why": "looked at"}).status_code == 303
    assert "Make its files" in text_of(clerk.get(release))
    assert made(clerk, release) == release
    assert "Download sums.csv" in text_of(eve.get(release))


def test_homes_are_released_under_an_agreement_whose_reader_the_researcher_becomes(
    make: Callable[..., FastAPI], database: Database
) -> None:
    app = make()
    eve, clerk = Browser(app, Role.RESEARCHER, name="eve"), Browser(app, Role.CLERK, name="ben")
    page = asked(eve, "homes", step=3600)
    assert "an agreement is needed, and none holds" in text_of(clerk.get(page))
    assert "so one is needed" in _failed(clerk, page)
    assert clerk.post(f"{START}/agreements", {"name": "lab", "until": _far()}).status_code == 303
    release = made(clerk, page, agreement="lab", round=100, sample=50, noise=0)
    assert "rounded to 100 Wh" in text_of(eve.get(release))
    assert eve.post(f"{release}/download", {"name": "readings.csv"}).status_code == 200
    assert Browser(app, Role.RESEARCHER, name="mallory").get(page).status_code == 404
    other = made(clerk, asked(clerk, "homes", step=3600), agreement="lab")
    assert eve.get(other).status_code == 404, "each asks for what it may have"


def _failed(clerk: Browser, page: str) -> str:
    live = f"{clerk.post(f'{page}/make').headers['location']}/live"
    eventually(lambda: "Look again" not in clerk.get(live).text)
    return text_of(clerk.get(live))


def _far() -> str:
    return str(date.fromisoformat(day()) + timedelta(300))


def test_what_cant_be_asked_is_said_and_a_refusal_is_read(make: Callable[..., FastAPI]) -> None:
    app = make()
    eve, clerk = Browser(app, Role.RESEARCHER, name="eve"), Browser(app, Role.CLERK, name="ben")
    for fields, words in (
        ({"purpose": " "}, "1 to 1000 printable characters"),
        ({"to": day(30)}, "is not over yet"),
        ({"to": day(-1)}, "the first day comes first"),
        ({"from": day(-400)}, "more than 366 days after the first one"),
        ({"from": day(-40)}, "readings are kept from"),
        ({"step": 15}, "of open one of 900, 3600"),
        ({"from": "yesterday"}, "date"),
        ({"kind": "all"}, "open"),
    ):
        answer = ask(eve, **fields)
        assert (answer.status_code, words in text_of(answer)) == (422, True), (fields, text_of(answer))
    page = asked(eve)
    assert "1 to 200 printable characters" in text_of(clerk.post(f"{page}/refuse"))
    assert eve.post(f"{page}/refuse", {"why": "no"}).status_code == 403
    assert clerk.post(f"{page}/refuse", {"why": "ask for a week"}).status_code == 303
    assert "refused by ben" in text_of(eve.get(page))
    assert "ask for a week" in text_of(eve.get(page))
    assert clerk.post(f"{page}/refuse", {"why": "again"}).status_code == 422
    for _ in range(5):
        asked(eve)
    assert "5 of your requests have no answer yet" in text_of(ask(eve))
    assert ask(Browser(app, Role.VIEWER, name="vera")).status_code == 403
