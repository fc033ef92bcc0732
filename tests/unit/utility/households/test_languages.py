"""A resident's pages are in the household's language: no English word is left, and each text has its translation."""

import ast
import calendar
import json
import re
import string
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Request

from commonwatt.look.palette import PowerFlow
from commonwatt.look.sharing_words import RoleReason
from commonwatt.look.writing import LANGUAGES, NAMES, Writing, catalogue
from commonwatt.model.units import quarter_of
from harness.console import Browser, standing_api, words_of
from harness.docs.marked import DOCS
from harness.furnished import APARTMENT, HOUSE, MONTH, furnished
from tests.unit.utility.conftest import NOW
from utility.access.people import Role
from utility.access.store.access import invite
from utility.assembly.application import make_app
from utility.billing.bill import LINE_ROWS
from utility.customers.people import Contact
from utility.customers.store import newest_contacts, office_key, set_contact
from utility.database.database import Database, read_setting, save_setting
from utility.database.town_zone import TOWN
from utility.energy.quarters import SettledQuality
from utility.households.course import HOME_LOOKS
from utility.settings import OfficeSettings, UtilitySettings
from utility.tariffs.tables import rates_version

Browsers = Callable[..., Browser]

PAGES = (
    *("/console/home", "/console/home/live", "/console/home/bills", "/console/home/course?of=month&at=2027-01-14"),
    *("/console/home/month", "/console/home/month/sums", "/console/home/month?month=2026-12", "/console/settings"),
    *("/console/home/weight/past", "/console/home/paper", f"/console/home/bills/{MONTH}", "/console/account"),
    *("/console/account/second-factor", "/console/home/bills/2026-11"),
)
PLOTS = ("home/day.json", "home/month.json", "home/year.json?year=2027", f"home/bills/{MONTH}/plot.json")
DATA = (
    "xaver resident harness house building apartment town off peak kwh kw commonwatt "
    "csv xml json python check bill py receipt green button"
)
"""Words of the town's names, of units, of names of programs and files."""
SAME = {
    "de": "an app browser code computer format gateway in jan mail mails microgrid name pdf was",
    "es": "factor no pdf solar",
}
"""Words of English pages that the other language has, too: in its own texts, or as a name of a thing."""

_WORD = re.compile(r"[^\W\d_]{2,}")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with furnished(tmp_path, NOW) as made:
        yield made


def speak(database: Database, browser: Browsers, account: int, language: Any) -> Browser:
    person = browser(Role.RESIDENT, name=f"resident{account}", account=account)
    with database.writes.begin() as connection:
        key = office_key(connection, person.app.state.console.api.settings.office)
        who = Contact(name="Xaver", mail="x@example.org", language=language)
        set_contact(connection, account, quarter_of(NOW), who, key)
    return person


def words(answer: httpx.Response) -> str:
    """Return what a person reads or hears of a page: its words, labels, titles and those of its scripts."""
    page = answer.text
    said = re.findall(r'(?:aria-label|title|alt|placeholder)="([^"]*)"', page)
    scripts = [json.loads(unescape(found)).values() for found in re.findall(r'name="words" content="([^"]*)"', page)]
    menu = re.findall(r"<nav.*?</nav>|<footer.*?</footer>|<title>.*?</title>", page, re.DOTALL)
    text = " ".join([words_of(page), *said, *map(words_of, menu), *(each for some in scripts for each in some)])
    return re.sub(r"\{\w+\}", " ", unescape(text).replace("English Deutsch Español", ""))


@pytest.mark.parametrize("account", [HOUSE, APARTMENT])
@pytest.mark.parametrize("language", ["de", "es"])
def test_no_english_word_is_left_on_the_pages_of_a_household(
    database: Database, browser: Browsers, language: str, account: int
) -> None:
    def said(asked: str) -> dict[str, set[str]]:
        person = speak(database, browser, account, asked)
        pages = {path: person.get(path) for path in PAGES}
        assert {found for page in pages.values() for found in re.findall('<html lang="(..)"', page.text)} == {asked}
        labels = [one["label"] for path in PLOTS for one in person.get(f"/console/{path}").json()["series"]]
        read = {path: words(page) for path, page in pages.items()} | {"plots": " ".join(labels)}
        return {path: {word.lower() for word in _WORD.findall(text)} for path, text in read.items()}

    english, own = said("en"), said(language)
    same = {*DATA.split(), *SAME[language].split()}
    left = {path: sorted((found & english[path]) - same) for path, found in own.items()}
    assert {path: found for path, found in left.items() if found} == {}


def test_residents_whose_account_and_tariff_name_no_language_read_the_towns(
    database: Database, browser: Browsers
) -> None:
    person = browser()
    with database.writes.begin() as connection:
        figures = json.loads(read_setting(connection, TOWN) or "{}")
        save_setting(connection, TOWN, json.dumps(figures | {"language": "de", "currency": "EUR"}))
    assert "<title>Anmelden" in person.get("/console/login").text
    reader = person.app.state.console.reader(Request({"type": "http", "headers": []}), None)
    assert (reader.language, reader.currency) == ("de", "EUR")


def test_people_read_an_invitation_in_their_accounts_language_and_a_login_in_their_browsers(
    database: Database, browser: Browsers
) -> None:
    speak(database, browser, HOUSE, "es")
    other = browser()
    asked = {"headers": {"Accept-Language": "pt-ES,pt;q=0.9,de-AT;q=0.8,en;q=0.5"}}
    assert "<title>Anmelden" in other.get("/console/login", **asked).text
    assert "<title>Log in" in other.get("/console/login").text
    wrong = other.post(
        "/console/login", {"name": "x", "password": "y"}, headers=asked["headers"] | {"Origin": "https://localhost"}
    )
    assert "Der Name oder das Passwort ist falsch." in wrong.text
    with database.writes.begin() as connection:
        link = invite(connection, "resident2", "harness", NOW)
    assert "Bienvenido" in other.get(f"/console/invitation/{link}", **asked).text


def test_a_resident_chooses_the_language_where_the_office_knows_a_name(database: Database, browser: Browsers) -> None:
    person = speak(database, browser, HOUSE, "de")
    done = person.post("/console/home/language", {"language": "es"})
    assert "Su idioma está fijado." in person.get(done.headers["location"]).text
    done = person.post("/console/home/weight", {"weight": 3, "start": "2027-01-20"})
    assert "Su peso al compartir es 3 desde 2027-01-20." in person.get(done.headers["location"]).text
    with database.reads.begin() as connection:
        key = office_key(connection, person.app.state.console.api.settings.office)
        who = newest_contacts(connection, key, HOUSE)[HOUSE]
    assert (who.name, who.mail, who.language) == ("Xaver", "x@example.org", "es")
    stranger = browser(Role.RESIDENT, name="resident5", account=APARTMENT)
    assert "tell the office your name" in stranger.get("/console/home/paper").text
    assert stranger.post("/console/home/language", {"language": "de"}).status_code == 422
    assert person.post("/console/home/language", {"language": "fr"}).status_code == 422


def test_numbers_and_days_are_written_as_the_household_reads_them(database: Database, browser: Browsers) -> None:
    page = unescape(speak(database, browser, HOUSE, "de").get("/console/home").text)
    assert "15. Jan 2027 00:15</time>" in page
    assert "Fr 15. Jan · 04:23" in page
    assert Writing(language="de", numbers="1.234,56", currency="EUR").money(1234.5) == "1.234,50 EUR"


def test_residents_of_a_street_choose_their_language_which_says_how_numbers_are_written(
    database: Database, tmp_path: Path
) -> None:
    key = OfficeSettings(key=tmp_path / "office.key")
    settings = UtilitySettings(second_factor="optional", site=tmp_path, office=key)
    person = Browser(make_app(standing_api(database, NOW, settings=settings)), Role.RESIDENT, account=APARTMENT)
    with database.writes.begin() as connection:
        connection.execute(rates_version.delete())
    assert "Set the language" in person.get("/console/home/paper").text
    assert person.post("/console/home/language", {"language": "es"}).status_code == 303
    page = person.get("/console/home").text
    assert 'lang="es"' in page
    assert 'data-numbers="1.234,56"' in page


def texts_of_templates() -> set[str]:
    """Return what templates and scripts of pages have translated."""
    found = set()
    for path in (DOCS.parent / "utility").rglob("*.html"):
        found |= {" ".join(text.split()) for text in re.findall(r'\b_\(\s*"((?:[^"\\]|\\.)*)"', path.read_text())}
    for path in (DOCS.parent / "utility/webkit/console/static").glob("*.js"):
        found |= set(re.findall(r'\bsay\("([^"]+)"', path.read_text()))
    return found


def text_of(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def texts_of_programs() -> tuple[set[str], set[str], list[re.Pattern[str]]]:
    """Return what modules have translated, all their texts, and the forms of texts that are joined of parts."""
    asked, every, joined = set[str](), set[str](), []
    for room in ("utility", "commonwatt"):
        for path in (DOCS.parent / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    every.add(node.value)
                elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "say":
                    asked |= {text for one in ast.walk(node.args[0]) if (text := text_of(one))}
                elif isinstance(node, ast.JoinedStr) and len("".join(map(text_of, node.values))) > 2:
                    joined.append(re.compile("".join(re.escape(text_of(one)) or ".+" for one in node.values)))
    return asked, every, joined


@pytest.mark.parametrize("language", ["de", "es"])
def test_each_text_has_its_translation_and_each_translation_its_text(language: str) -> None:
    asked, every, joined = texts_of_programs()
    found, pages = catalogue(language), texts_of_templates()
    tables = {why.words for why in RoleReason} | {row.words for row in LINE_ROWS.values()}
    tables |= {each.name.lower() for each in SettledQuality} | {*calendar.month_name[1:], *calendar.day_abbr}
    tables |= {HOME_LOOKS[flow].words for flow in (PowerFlow.SUN, PowerFlow.BATTERY, PowerFlow.PLANT, PowerFlow.USE)}
    swiss = re.compile("Receipt|Payment part|Pay|Account /|Separate|Acceptance|Amount|Curr|Ref")
    lacking = {text for text in pages | asked | tables if text not in found and re.search("[A-Za-z]{2}", text)}
    assert sorted(text for text in lacking if language == "de" or not swiss.match(text)) == []
    said = pages | every | tables | {"Your sharing weight is {} from {}-{}-{} on."}
    assert [text for text in found if text not in said and not any(form.fullmatch(text) for form in joined)] == []
    for text, meant in found.items():
        places = [sorted({name for _, name, _, _ in string.Formatter().parse(each) if name}) for each in (text, meant)]
        assert places[0] == places[1], text
        tags = [sorted(re.findall(r"<[^>]+>", each)) for each in (text, meant)]
        assert tags[0] == tags[1], text
        assert '"' not in meant, "it may stand in an attribute of a page"
    assert set(NAMES) == {"en", *(path.stem for path in LANGUAGES.glob("*.po"))}
