"""Tariffs in the browser: every fault at once, a preview, two people; and their form, from a text and back."""

import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest

from commonwatt.model.exceptions import ConfigError
from harness.billing.worlds import ZONE, World, found_in_store, random_policy, random_world, tariff, world_of
from harness.console import Browser, text_of
from harness.network.waiting import eventually
from harness.surroundings.stored import store_months
from utility.access.people import Role
from utility.access.store import audit_log
from utility.database.database import Database, save_setting
from utility.database.town_zone import TOWN
from utility.statistics.months import month_number
from utility.tariffs import store as tariffs
from utility.tariffs.file import TariffFile, table_of
from utility.tariffs.prices_form import PricesForm, beyond, form_of, kept_of, source_of, written
from utility.tariffs.tariff import Tariff, parse_tariff
from utility.webkit.console.answers import ROWS

SOURCE = (Path(__file__).parents[4] / "docs/examples/tariff.toml").read_text()
Browsers = Callable[..., Browser]
LISTS = ("name", "import_price", "credit", "season", "season_from", "season_until", "week")


def document(page: str) -> Element:
    found: Element = html5lib.parse(page, treebuilder="etree", namespaceHTMLElements=False)
    return found


@pytest.fixture(name="world")
def _world(monkeypatch: pytest.MonkeyPatch) -> World:
    return found_in_store(monkeypatch, world_of())


def result_of(person: Browser, path: str) -> str:
    """Wait for a work as the page does; return the address of its result."""

    def address() -> str:
        live = person.get(f"{path}/live")
        assert 'role="alert"' not in live.text, text_of(live)
        return str(live.headers.get("HX-Redirect", ""))

    eventually(address)
    return address()


def test_a_first_tariff_begins_in_the_currency_of_the_town(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    assert "Base, dollars a month" in text_of(clerk.get("/console/rates/new"))
    with database.writes.begin() as connection:
        save_setting(connection, TOWN, json.dumps({"currency": "EUR"}))
    assert "Base, EUR a month" in text_of(clerk.get("/console/rates/new"))


def test_draft_shows_every_fault_with_its_line_and_keeps_the_text(browser: Browsers, database: Database) -> None:
    clerk = browser(Role.CLERK)
    wrong = SOURCE.replace('"0.3200"', "0.32").replace('"16:00"', '"16:05"')
    answer = clerk.post("/console/rates/new", {"action": "propose", "source": wrong})
    said = text_of(answer)
    assert answer.status_code == 422
    assert "must be text, such as &#34;0.2150&#34;" in said
    assert "must be on a quarter-hour" in said
    assert said.count(" line ") >= 2
    assert "16:05" in answer.text
    assert "not TOML" in text_of(clerk.post("/console/rates/new", {"action": "check", "source": "["}))
    with database.reads.begin() as connection:
        assert not tariffs.versions(connection)
    good = text_of(clerk.post("/console/rates/new", {"action": "check", "source": SOURCE.replace("\n", "\r\n")}))
    assert "As it is understood" in good


def test_the_form_begins_after_every_published_version(browser: Browsers, world: World) -> None:
    del world
    for n, day in enumerate(("2026-10-01", "2027-03-01"), 1):
        browser(Role.CLERK).post(
            "/console/rates/new", {"action": "propose", "source": SOURCE.replace("2026-10-01", day)}
        )
        browser(Role.APPROVER).post(f"/console/rates/version/town/{n}/approve")
    assert form_in(browser(Role.CLERK).get("/console/rates/new").text)["effective"] == "2027-04-01"


def form_in(page: str) -> dict[str, Any]:
    """Return the fields of the form of prices as a browser sends them."""
    form = document(page).find(".//form[@action='/console/rates/form']")
    assert form is not None
    lists = {name: [one.get("value") for one in form.findall(f".//input[@name='{name}']")] for name in LISTS}
    fields = {
        name: form.find(f".//input[@name='{name}']")
        for name in ("text", "effective", "base", "corrects", "month", "source")
    }
    return {
        **lists,
        "holidays": form.findtext(".//textarea[@name='holidays']") or "",
        **{name: one.get("value", "") for name, one in fields.items() if one is not None},
    }


def test_prices_begin_with_the_version_in_force_and_go_to_the_preview(browser: Browsers, world: World) -> None:
    del world
    clerk = browser(Role.CLERK)
    clerk.post("/console/rates/new", {"action": "propose", "source": SOURCE})
    browser(Role.APPROVER).post("/console/rates/version/town/1/approve")
    fields = form_in(clerk.get("/console/rates/new").text) | {"month": "2026-10"}
    assert fields["name"] == ["peak", "off-peak", ""]
    assert fields["effective"] > "2026-10-01", "it begins with the next month"
    wrong = clerk.post("/console/rates/form", fields | {"action": "preview", "import_price": ["0.32", "cheap", ""]})
    assert wrong.status_code == 422
    assert "1 field needs another look" in text_of(wrong)
    assert 'value="cheap" aria-label="Import, price 2" aria-invalid="true"' in wrong.text
    assert wrong.text.count("fault-import-1") == 2, "the words, and the field that they are of"
    assert "such as 0.2150" in text_of(wrong)
    again = form_in(wrong.text)
    assert again["import_price"] == ["0.32", "cheap", ""], "what was typed stays"
    assert {**again, "import_price": fields["import_price"], "month": "2026-10"} == fields
    begun = clerk.post("/console/rates/form", fields | {"action": "preview", "import_price": ["0.40", "0.20", ""]})
    page = clerk.get(result_of(clerk, begun.headers["location"]))
    assert "accounts would have paid more" in text_of(page)
    hidden = document(page.text).find(".//input[@name='source']")
    assert hidden is not None
    back = form_in(clerk.post("/console/rates/new", {"action": "form", "source": hidden.get("value", "")}).text)
    assert back["import_price"] == ["0.40", "0.20", ""]


def test_a_preview_is_of_a_year_of_months_and_says_the_dearest_and_for_whom(
    browser: Browsers, world: World, database: Database
) -> None:
    del world
    store_months(database, month_number("2026-10"), 2)
    clerk = browser(Role.CLERK)
    source = SOURCE.replace('"2026-10-01"', '"2026-09-01"')
    with database.writes.begin() as connection:
        stored = tariffs.propose(connection, parse_tariff(source), source, "anna", 0)
        tariffs.publish(connection, stored.name, stored.version, "ben", 0)
    fields = form_in(clerk.get("/console/rates/new").text) | {"month": "2026-11"}
    dearer = fields | {"import_price": ["0.64", "0.20", ""]}
    live = clerk.post("/console/rates/form/effect", dearer)
    begun = clerk.post("/console/rates/form", dearer | {"action": "preview"})
    page = text_of(clerk.get(result_of(clerk, begun.headers["location"])))
    assert "the 2 months 2026-10 to 2026-11" in page
    assert re.search(r"Dearest is 2026-1[01]: \+\S+ dollars for all, up to \+\S+ \(account \d+", page)
    alone = re.search(r"2026-11 ([\d.,]+) ([\d.,]+) \+", page)
    assert alone
    live_sum = f"All bills together: {alone[2]} dollars in place of {alone[1]}"
    assert live_sum in text_of(live), "the form has the same bills, of the month alone"
    october, november = (re.search(rf"{month} ([\d.,]+) ([\d.,]+) \+", page) for month in ("2026-10", "2026-11"))
    assert october
    assert november
    revenue = re.search(r"of a year like these months: (\S+) dollars with it, (\S+) by the tariffs in force", page)
    assert revenue
    for place, whole in ((2, revenue[1]), (1, revenue[2])):
        assert Decimal(whole) == Decimal(october[place]) + Decimal(november[place])


def test_prices_in_another_currency_say_so(browser: Browsers, world: World) -> None:
    del world
    clerk = browser(Role.CLERK)
    source = SOURCE + '\n[bill]\ncurrency = "EUR"\n[[tax]]\nname = "levy"\nper_kwh = "0.01"\n'
    clerk.post("/console/rates/new", {"action": "propose", "source": source})
    facts = clerk.get("/console/rates/version/town/1").text
    assert "Prices, EUR per kWh" in facts
    assert "0.01 EUR per kWh" in facts
    browser(Role.APPROVER).post("/console/rates/version/town/1/approve")
    form = clerk.get("/console/rates/new").text
    filled = form_in(form) | {"month": "2026-11"}
    effect = clerk.post("/console/rates/form/effect", filled).text
    begun = clerk.post("/console/rates/form", filled | {"action": "preview"})
    preview = clerk.get(result_of(clerk, begun.headers["location"])).text
    for page in (facts, form, effect, preview):
        assert "EUR" in page
        assert "dollars" not in page
    for odd in ("bill = 5", "[bill]"):
        source = filled["source"].replace('[bill]\ncurrency = "EUR"', odd)
        assert clerk.post("/console/rates/form/effect", filled | {"source": source}).status_code == 200


def test_form_shows_at_once_who_pays_how_much_more(browser: Browsers, world: World) -> None:
    del world
    clerk, place = browser(Role.CLERK), "/console/rates/form/effect"
    fields = form_in(clerk.post("/console/rates/new", {"action": "form", "source": SOURCE}).text)
    clerk.post("/console/rates/new", {"action": "propose", "source": SOURCE})
    browser(Role.APPROVER).post("/console/rates/version/town/1/approve")
    fields["month"] = "2026-11"
    dearer = clerk.post(place, fields | {"import_price": ["0.40", "0.30", ""], "credit": ["0.16", "0.10", ""]})
    assert re.search(r"(\d+) of \1 accounts would have paid more in 2026-11", text_of(dearer))
    assert '<figure class="histogram">' in dearer.text
    wrong = clerk.post(place, fields | {"import_price": ["0.32", "cheap", ""], "base": "-1"})
    assert wrong.status_code == 200
    assert "import 2 : must be an amount with at most six decimals, such as 0.2150" in text_of(wrong)
    assert 'href="#base"' in wrong.text
    for bad in ({"source": "["}, {"month": "2026-13"}, {"week": ["x"]}):
        answer = clerk.post(place, fields | bad)
        assert (answer.status_code, "not known yet" in answer.text) == (200, True)
    assert browser(Role.VIEWER).post(place, fields).status_code == 403


def test_form_and_text_lead_to_each_other(browser: Browsers) -> None:
    clerk = browser(Role.CLERK)
    empty = form_in(clerk.get("/console/rates/new").text)
    assert empty["week"] == ["1" * 192], "a town without a tariff begins with one price"
    wrong = clerk.post("/console/rates/form", empty | {"action": "preview"})
    assert 'id="fault-import-0"' in wrong.text
    fields = form_in(clerk.post("/console/rates/new", {"action": "form", "source": SOURCE}).text)
    text = clerk.post("/console/rates/form", fields | {"action": "text"})
    assert "[[period]]" in text.text
    inside = SOURCE.replace('"16:00"', '"16:15"')
    refused = text_of(clerk.post("/console/rates/new", {"action": "form", "source": inside}))
    assert "the form can't show it: a price changes within an hour" in refused.replace("&#39;", "'")
    assert clerk.post("/console/rates/form", fields | {"action": "text", "source": "["}).status_code == 422
    assert browser(Role.VIEWER).post("/console/rates/form", fields | {"action": "text"}).status_code == 403


def test_approver_sees_who_pays_how_much_more_before_the_approval(browser: Browsers, world: World) -> None:
    del world
    browser(Role.CLERK, name="anna").post("/console/rates/new", {"action": "propose", "source": SOURCE})
    ben = browser(Role.APPROVER, name="ben")
    begun = ben.post("/console/rates/version/town/1/preview", {"month": "2026-10"})
    result = result_of(ben, begun.headers["location"])
    page = ben.get(result)
    assert "would have paid more" in text_of(page)
    assert "An approval can&#39;t be undone" in page.text or "An approval can't be undone" in page.text
    assert 'action="/console/rates/version/town/1/approve"' in page.text
    assert ben.post("/console/rates/version/town/1/approve").status_code == 303
    assert 'action="/console/rates/version/town/1/approve"' not in ben.get(result).text


def test_file_that_is_too_long_or_no_text_is_refused(browser: Browsers) -> None:
    clerk = browser(Role.CLERK)
    for content, said in ((b"#" * 300_000, "more than 262,144 bytes"), (b"\xff", "no text in UTF-8: byte 0")):
        files = {"file": ("tariff.toml", content, "text/plain")}
        answer = clerk.post("/console/rates/new", {"action": "propose"}, files=files)
        assert answer.status_code == 422
        assert said in text_of(answer)
    files = {"file": ("tariff.toml", SOURCE.encode(), "text/plain")}
    assert clerk.post("/console/rates/new", {"action": "propose"}, files=files).status_code == 303


def test_one_person_proposes_and_another_one_approves(browser: Browsers, database: Database) -> None:
    both = browser(Role.CLERK, Role.APPROVER, name="anna")
    ben = browser(Role.APPROVER, name="ben")
    assert "Bills need prices." in text_of(ben.get("/console/rates"))
    assert 'href="/console/users#invite">Invite' in browser(Role.ADMIN, name="eva").get("/console/rates").text
    done = both.post("/console/rates/new", {"action": "propose", "source": SOURCE})
    assert "another person has to approve it" in text_of(both.get(done.headers["location"]))
    place = "/console/rates/version/town/1"
    own = both.post(f"{place}/approve")
    assert own.status_code == 409
    assert "anna proposed it; a second person has to approve it" in text_of(own)
    assert browser(Role.CLERK, name="eve").post(f"{place}/approve").status_code == 403
    assert ben.post(f"{place}/approve").status_code == 303
    assert ben.post(f"{place}/approve").status_code == 409, "the second one sees it"
    page = text_of(browser(Role.VIEWER).get("/console/rates"))
    assert "town v1 ● published" in page
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(action="tariff."), 9)
    assert [(e["person"], e["action"]) for e in entries] == [("ben", "tariff.publish"), ("anna", "tariff.propose")]


def test_versions_are_compared_by_what_they_say(browser: Browsers) -> None:
    clerk = browser(Role.CLERK, name="anna")
    clerk.post("/console/rates/new", {"action": "propose", "source": SOURCE})
    dearer = {"action": "propose", "source": SOURCE.replace('"0.3200"', '"0.3300"')}
    asks = clerk.post("/console/rates/new", dearer)
    assert asks.status_code == 422
    assert 'name="replaces" value="1"' in asks.text
    assert "town v1, which anna proposed, begins at the same time and waits for a second person" in text_of(asks)
    assert clerk.post("/console/rates/new", dearer | {"replaces": "1"}).status_code == 303
    page = text_of(browser(Role.VIEWER).get("/console/rates/version/town/2"))
    assert "What differs from v1" in page
    assert "period peak.import 0.3200 0.3300" in page
    late = browser(Role.APPROVER).post("/console/rates/version/town/1/approve")
    assert "was replaced or published meanwhile" in text_of(late), "what was not looked at is not approved"


def test_proposals_of_different_days_wait_beside_each_other(browser: Browsers) -> None:
    clerk, ben = browser(Role.CLERK), browser(Role.APPROVER, name="ben")
    later = SOURCE.replace("2026-10-01", "2027-12-01")
    assert later != SOURCE
    for source in (SOURCE, later):
        assert clerk.post("/console/rates/new", {"action": "propose", "source": source}).status_code == 303
    for version in (1, 2):
        answer = ben.post(f"/console/rates/version/town/{version}/approve")
        assert answer.status_code == 303, text_of(answer)


def test_preview_shows_winners_and_losers_and_proposes(browser: Browsers, world: World) -> None:
    clerk = browser(Role.CLERK)
    fields = {"action": "preview", "source": SOURCE, "month": "2026-10"}
    begun = clerk.post("/console/rates/new", fields)
    assert begun.status_code == 303
    result = result_of(clerk, begun.headers["location"])
    page = text_of(clerk.get(result))
    count = len({held.account for meter in world.inputs.registry.meters.values() for held in meter.holdings})
    assert 0 < count < ROWS
    assert "no tariff" in page
    assert "Propose these prices" in page
    assert "An approval can't be undone" in page.replace("&#39;", "'")
    assert f"{count} of {count} accounts would have paid more in 2026-10, 0 less and 0 the same." in page
    assert "since no tariff was in force" in page
    assert "Accounts by how much more they pay" in page
    assert clerk.get(f"{result}?order=more&skip=100").status_code == 200
    assert clerk.get("/console/rates/preview/none").status_code == 404
    assert browser(Role.VIEWER).get(result).status_code == 403
    wrong = clerk.post("/console/rates/new", {**fields, "month": "2026-13"})
    assert (wrong.status_code, "is no month" in text_of(wrong)) == (422, True)


EXAMPLE = parse_tariff(SOURCE)
EQUAL = (("peak", "0.3", "0.3"), ("off-peak", "0.2", "0.2"))  # as the rule of the regional price needs
FIXTURES = [
    EXAMPLE,
    tariff(),
    *(
        tariff(version=n, prices=EQUAL, peak=(f"{n:02d}:00", "22:00"), policy=random_policy(Random(n)))
        for n in range(12)
    ),
    tariff(
        tax=[{"name": "levy", "per_kwh": "0.005"}, {"name": "VAT", "percent": "20", "on": ["import", "levy"]}],
        bill={"currency": "EUR"},
        reminder=[{"days": 14, "fee": "5.00"}, {"days": 7}],
        tariff={
            "name": "town",
            "text": "a test",
            "timezone": ZONE,
            "effective": "2026-10-01",
            "base": "12.00",
            "corrects": "a slip",
        },
    ),
    *(each for seed in range(8) for each in random_world(seed).inputs.tariffs),
]
SHOWN = [each for each in FIXTURES if not beyond(each.file)]
EVENING = slice(16 * 8, 21 * 8)


def changed(**fields: object) -> PricesForm:
    """Return the example's form with other fields."""
    return form_of(EXAMPLE.file).model_copy(update=fields)


@pytest.mark.parametrize("one", SHOWN, ids=lambda one: f"{one.label} {one.policy.name} {one.file.tariff.effective}")
def test_form_writes_the_tariff_that_it_was_made_of(one: Tariff) -> None:
    form, kept = form_of(one.file), one.file.canonical()
    made = written(form, kept_of(source_of(one.file)))
    assert made.faults == {}
    again = parse_tariff(made.text)
    assert form_of(again.file) == form
    assert np.array_equal(table_of(again.file), table_of(one.file))
    hours = ("hours",)
    assert {k: v for k, v in again.file.canonical().items() if k not in hours} == {
        k: v for k, v in kept.items() if k not in hours
    }


def test_fixtures_have_every_table_of_a_tariff() -> None:
    assert {name for each in SHOWN for name, table in each.file if table} == set(TariffFile.model_fields)


@pytest.mark.parametrize("seed", range(5))
def test_any_painted_week_is_read_again(seed: int) -> None:
    random = Random(seed)
    weeks = ["".join(random.choice("12") for _ in range(24 * 8)) for _ in range(2)]
    weeks[1] = weeks[0] if seed % 2 else weeks[1]
    made = written(changed(week=weeks), kept_of(SOURCE))
    assert form_of(parse_tariff(made.text).file).week == weeks


def test_example_is_written_as_briefly_as_by_hand() -> None:
    text = written(form_of(EXAMPLE.file), kept_of(SOURCE)).text
    assert text.count("[[hours]]") <= SOURCE.count("[[hours]]")
    assert 'days = ["weekend", "holiday"]' in text
    assert "effective = 2026-10-01" in text


def test_painted_hours_have_their_price() -> None:
    weeks = list(form_of(EXAMPLE.file).week)
    assert weeks[1][EVENING] == "11111222" * 5, "winter's peak, 4 pm to 9 pm"
    weeks[1] = weeks[1][: EVENING.start] + "2" * (5 * 8) + weeks[1][EVENING.stop :]
    made = parse_tariff(written(changed(week=weeks), kept_of(SOURCE)).text)
    assert (table_of(made.file)[1] == 1).all(), "winter has one price"
    assert (table_of(made.file)[0] == table_of(EXAMPLE.file)[0]).all(), "summer is as it was"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"16:00"', '"16:15"', "a price changes within an hour"),
        ("effective = 2026-10-01", "effective = 2026-10-01T06:00:00", "it begins at a time of the day"),
    ],
)
def test_what_the_form_can_not_show_is_said(old: str, new: str, words: str) -> None:
    assert beyond(parse_tariff(SOURCE.replace(old, new)).file) == [words]


def test_more_prices_than_colours_are_beyond_the_form() -> None:
    prices = [(f"p{n}", "0.3", "0.1") for n in range(7)]
    assert beyond(tariff(prices=prices).file) == ["it has more than 6 prices"]


@pytest.mark.parametrize(
    ("fields", "place", "words"),
    [
        ({"base": "-1"}, "base", "must be an amount"),
        ({"base": "5,00"}, "base", "has a comma: write a point before the decimals"),
        ({"effective": "tomorrow"}, "effective", "must be a date"),
        ({"effective": "2299-01-01"}, "effective", "before the year"),
        ({"text": ""}, "text", "1 to 200 characters"),
        ({"import_price": ["0.3", "dear"]}, "import-1", "must be an amount"),
        ({"credit": ["", "0.1"]}, "credit-0", "must be an amount"),
        ({"name": ["x" * 33, "off-peak"]}, "name-0", "1 to 32 characters"),
        ({"name": ["peak", "peak"]}, "name-1", "is there twice"),
        ({"season_from": ["06-31", "10-01"]}, "season-from-0", "must be month and day"),
        ({"season_until": ["10-02", "06-01"]}, "season-from-1", "overlaps season"),
        ({"season_until": ["09-01", "06-01"]}, "season-from-0", "no season on 09-01"),
        ({"holidays": "Christmas 2026-12-25"}, "holidays", "must be a date and a name"),
        ({"holidays": "2026-12-25 A\n2026-12-25 B"}, "holidays", "is there twice"),
        ({"name": ["peak", ""], "import_price": ["1", ""], "credit": ["1", ""]}, "week-0", "a price that was removed"),
        ({"name": [], "import_price": [], "credit": []}, "name-0", "must be a price"),
    ],
)
def test_fault_stands_beside_its_field(fields: dict[str, object], place: str, words: str) -> None:
    found = written(changed(**fields), kept_of(SOURCE)).faults
    assert words in found[place]
    said = " ".join(found.values())
    assert not any(raw in said for raw in ("Input should", "Value error", "String should", "isoformat"))


def test_line_without_text_is_no_price_and_those_after_it_keep_their_hours() -> None:
    form = changed(name=["", "off-peak", "peak"], import_price=["", "0.2", "x"], credit=["", "0.1", "0.1"])
    form = form.model_copy(update={"week": [week.replace("1", "3") for week in form.week]})
    assert set(written(form, kept_of(SOURCE)).faults) == {"import-2"}
    good = form.model_copy(update={"import_price": ["", "0.2", "0.3"]})
    made = parse_tariff(written(good, kept_of(SOURCE)).text)
    assert [each.name for each in made.prices] == ["off-peak", "peak"]
    assert (table_of(made.file) == 1 - table_of(EXAMPLE.file)).all()


def test_text_of_no_tariff_is_refused() -> None:
    for source in ("", "[", "tariff = 1\npolicy = 2"):
        with pytest.raises(ConfigError):
            kept_of(source)
