"""The controller's page as people read it."""

import re
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from commonwatt.model.words import duration
from commonwatt.protocol.sharing_words import Why, reason_of_code
from gateway.page.document import SHOWN_BATTERIES, all_batteries, all_meters, login, overview, waiting
from gateway.page.html import Html, el, html
from gateway.page.style import STYLE
from gateway.page.words import ago, batteries, byte_size, summary
from harness.surroundings.page import NOW, add_battery, add_meter, add_unknown, decided, empty

ZONE = ZoneInfo("America/New_York")
HOSTILE = "<script>alert(1)</script>&\"'`<img src=x onerror=y>"
VOID = {"meta", "input", "br", "link"}


class Reader(HTMLParser):
    """Reads a page; every element must be closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []  # names and attributes of all elements
        self._open: list[str] = []
        self._texts: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []
        self.text = re.sub(r"\s+", " ", " ".join(self._texts))  # the text outside the style

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self._texts.append(data)

    def names(self) -> set[str]:
        return {name for name, _ in self.elements}

    def links(self) -> list[str]:
        return [str(attrs["href"]) for name, attrs in self.elements if name == "a"]


def read(view: dict[str, Any], *, can_log_out: bool = False) -> Reader:
    return Reader(overview(view, ZONE, can_log_out=can_log_out))


def sharing_town() -> dict[str, Any]:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "2", "house 2", 82)
    add_battery(view, "3", "house 3", 30.5)
    add_battery(view, "4", "house 4", 66)
    decided(view, unconfirmed=("4",))
    return view


def test_house_2_comes_before_house_10() -> None:
    view = empty()
    for n in (10, 2, 1):
        add_battery(view, str(n), f"house {n}", 80)
        add_meter(view, str(100 + n), f"house {n}")
    assert [battery.place for battery in batteries(view)] == ["house 1", "house 2", "house 10"]
    text = Reader(all_meters(view, ZONE, can_log_out=False)).text
    assert re.findall("house [0-9]+", text) == [f"house {n}" for n in (1, 1, 2, 2, 10, 10)]


def why(view: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {battery.place: (battery.role, battery.why) for battery in batteries(view)}


# HTML


def test_text_is_escaped_and_html_is_not() -> None:
    assert el("p", HOSTILE, el("b", "x"), 5, None, ["a", ["b"]]) == (f"<p>{html(HOSTILE)}<b>x</b>5ab</p>")
    assert "<script" not in html(HOSTILE)
    made = el("input", value='"><b', required=True, autofocus=False, class_="a", http_equiv="r", id=None)
    assert made == '<input value="&quot;&gt;&lt;b" required class="a" http-equiv="r">'
    assert isinstance(el("p", Html("&amp;")), Html)


def test_names_from_outside_can_not_become_markup() -> None:
    view = sharing_town()
    add_meter(view, "9", HOSTILE, direction=HOSTILE, heard=0)
    add_battery(view, "10", HOSTILE, 10)
    view |= {"microgrid": HOSTILE, "connection_failures": {"head_end": HOSTILE}, "records": {HOSTILE: 1}}
    view["connected"]["head_end"] = False
    view["last_commands"] = [{"time": NOW, "meter": "9", "cmd": HOSTILE, "result": HOSTILE}]
    for page in (
        overview(view, ZONE, can_log_out=True),
        all_meters(view, ZONE, can_log_out=True),
        all_batteries(view, ZONE, can_log_out=True),
        login(HOSTILE, HOSTILE),
        waiting(HOSTILE),
    ):
        reader = Reader(page)
        assert not reader.names() & {"script", "img"}
        assert HOSTILE in reader.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    for page in (overview(sharing_town(), ZONE, can_log_out=True), login("r001")):
        reader = Reader(page)
        assert not reader.names() & {"script", "link", "img", "iframe", "object"}
        assert all(link.startswith("/") for link in reader.links())
        assert not any(key.startswith("on") or key in ("src", "style") for _, attrs in reader.elements for key in attrs)
        assert "url(" not in page
        assert "@import" not in page
        assert page.count("<style>") == 1
    assert "<" not in STYLE


def test_the_page_is_for_phones_and_loads_again_by_itself() -> None:
    metas = [attrs for name, attrs in read(sharing_town()).elements if name == "meta"]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in metas
    assert {"http-equiv": "refresh", "content": "15"} in metas
    assert "http-equiv" not in str(Reader(login("r001")).elements), "a form must not vanish while somebody types"


def test_an_empty_gateway_says_so() -> None:
    view = empty() | {"lte": {"level": "unknown", "allowance": 1, "used": None, "expected": None}, "records": {}}
    text = read(view).text
    for said in (
        "All is well",
        "This microgrid has no battery",
        "No meter is registered",
        "None since the gateway started",
        "Nothing was counted yet",
    ):
        assert said in text
    assert "starting" in Reader(waiting("r001")).text


def test_logging_out_is_offered_where_there_is_a_session() -> None:
    assert "Log out" in read(empty(), can_log_out=True).text
    assert "Log out" not in read(empty()).text


# Sharing


def test_who_shares_and_why_is_said_in_words() -> None:
    view = sharing_town()
    assert summary(view) == "house 1 is below its minimum, so house 2 and house 4 share."
    said = why(view)
    assert said["house 1"] == ("receives", "Below its minimum.")
    assert said["house 2"] == ("gives", "Above its minimum, and another battery needs help.")
    assert said["house 3"] == ("rests", "Less than 1 % of its capacity above its minimum: too close to share.")
    assert "not confirmed the command yet" in said["house 4"][1]
    assert [battery.place for battery in batteries(view)] == ["house 1", "house 2", "house 4", "house 3"]
    text = read(view).text
    assert "21.0 % of 10.00 kWh minimum 30.0 %" in text


def test_nobody_needs_help() -> None:
    view = sharing_town()
    view["batteries"]["1"]["level"] = view["batteries"]["2"]["level"]
    decided(view)
    assert summary(view) == "No battery shares: none is below its minimum."
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")


def test_nobody_can_help() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 21)
    add_battery(view, "3", "house 3", 25)
    assert summary(view).startswith("house 1 and house 3 are below the minimum, but no other battery")
    assert why(view)["house 1"] == ("receives", "Below its minimum, but no other battery can share.")


def test_a_battery_that_waits_for_help_and_help_that_has_begun_are_explained() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 29.5)
    add_battery(view, "2", "house 2", 82)
    assert summary(view) == (
        "No battery shares yet, though house 1 is below the minimum. "
        "Less than 1 % of its capacity below its minimum: help starts there."
    )
    assert why(view)["house 1"] == ("rests", "Less than 1 % of its capacity below its minimum: help starts there.")
    assert why(view)["house 2"] == ("rests", "Above its minimum; no battery needs help.")
    decided(view, sharing=("2",))
    assert summary(view) == "house 1 is below its minimum, so house 2 shares."


def test_each_strategy_explains_itself() -> None:
    view = sharing_town()
    decided(view, strategy="rangers")
    assert why(view)["house 2"][0] == "gives"
    words = "Above its minimum; batteries that already share give first, then larger surpluses."
    assert why(view)["house 4"] == ("rests", words)
    decided(view, strategy="aces")
    assert why(view)["house 1"] == ("rests", "Below its minimum; help starts when a battery is empty.")
    view["batteries"]["1"]["level"] = 11 * 10**6
    decided(view)
    assert why(view)["house 1"] == ("out", "Its meter reports a level that its battery can't have.")


def test_a_battery_whose_level_can_not_be_says_why() -> None:
    view = sharing_town()
    add_battery(view, "5", "house 5", 90, available=False)
    view["batteries"]["5"] |= {"role": "out", "why": reason_of_code(Why.FROZEN, 0).why}
    assert why(view)["house 5"] == ("out", reason_of_code(Why.FROZEN, 0).why)
    assert summary(view).endswith("1 battery can't take part.")


def test_batteries_that_are_ready_to_share_without_the_utility_say_so() -> None:
    view = empty()
    add_battery(view, "1", "house 1", 90)
    view["batteries"]["1"]["role"] = "gives"
    why_ready = "the utility does not answer, or help began less than 5 minutes ago"
    assert summary(view) == f"house 1 is ready to share: {why_ready}."


def test_a_battery_without_level_or_minimum_says_why() -> None:
    view = empty()
    add_unknown(view, "5", "house 5", Why.NO_LEVEL)
    assert why(view)["house 5"] == ("out", reason_of_code(Why.NO_LEVEL, 0).why)
    assert "not known or too old" in summary(view)
    assert reason_of_code(Why.NO_LEVEL, 0).why in read(view).text


def test_many_batteries_are_named_by_number_and_listed_on_their_own_page() -> None:
    view = empty()
    for n in range(40):
        add_battery(view, str(100 + n), f"house {n:02d}", 20 if n < 5 else 80)
    assert "house 00, house 01 and 3 other batteries" in summary(view)
    page = read(view)
    assert page.text.count("of 10.00 kWh") == SHOWN_BATTERIES
    assert "/batteries" in page.links()
    assert Reader(all_batteries(view, ZONE, can_log_out=False)).text.count("of 10.00 kWh") == 40


# Meters, line, clock, commands


def test_meters_are_listed_with_their_last_word_those_that_work_first() -> None:
    view = empty()
    add_meter(view, "1", "house 1")
    add_meter(view, "2", "house 2", heard=NOW - 4000, states=["initialized", "off_grid"])
    add_meter(view, "3", "house 3", heard=0, states=[])
    text = read(view).text
    assert "1 of 3 heard within 15 min" in text
    order = [text.index(said) for said in ("5 s ago", "66 min ago", "nothing since the start")]
    assert order == sorted(order)
    assert "outgoing meter 2, off the power net" in text
    assert "outgoing meter 3, shut down" in text
    assert "No alarm, but 2 meters silent" in text


def test_a_gateway_that_started_110_s_ago_calls_no_meter_silent() -> None:
    view = empty() | {"watched_s": 110}
    add_meter(view, "1", "house 1", heard=0, states=[])
    add_meter(view, "2", "house 2", heard=NOW - 5)
    text = read(view).text
    assert "silent" not in text
    assert "1 of 2 heard within 15 min" in text
    assert text.index("house 2") < text.index("house 1")
    assert "1 meter silent" in read(view | {"watched_s": 901}).text


def test_hundreds_of_meters_have_a_page_of_their_own() -> None:
    view = empty()
    for n in range(303):
        add_meter(view, str(n), f"apartment {n}")
    page = read(view)
    assert page.text.count("outgoing meter") == 10
    assert "/meters" in page.links()
    assert Reader(all_meters(view, ZONE, can_log_out=False)).text.count("outgoing meter") == 303
    assert len(overview(view, ZONE, can_log_out=False)) < 20_000


def test_times_are_local_with_their_zone() -> None:
    text = read(empty()).text
    assert "20:00:00 EDT" in text
    assert "Saturday, 20 June 2026" in text


def test_the_clock_says_how_far_it_is_trusted_and_was_set() -> None:
    text = read(empty() | {"trust": "meters", "offset_s": -37}).text
    assert "uncertain: from the meters' median" in text
    assert "37 s earlier" in text


def test_the_last_command_comes_first_in_words_with_its_result() -> None:
    view = sharing_town()
    view["last_commands"] = [
        {"time": NOW - 60, "meter": "2", "cmd": "initialize", "result": "done"},
        {"time": NOW - 5, "meter": "2", "cmd": "share_power_on", "result": "ignored_old"},
        {"time": NOW - 1, "meter": "77", "cmd": "new_command", "result": "done"},
    ]
    text = read(view).text
    order = [
        text.index(s) for s in ("meter 77: new_command", "house 2: share ignored old", "house 2: introduce itself")
    ]
    assert order == sorted(order)


def test_an_island_says_so_and_why() -> None:
    assert "The town's net connected" in read(empty()).text
    modes = {
        "phase": "resynchronising",
        "reason": "the voltage is back; the switch closes in 200 s if it stays",
        "contradiction": "the utility says that power is lost; the sensor is right",
        "limited": "takes at most 5000 W from the town, for 12 min more",
        "reducing": "the microgrid is an island",
        "autonomous": "the utility has not answered for 7 min: the microgrid decides alone",
        "shedding": "3 of 10 places are off in turn: 2.5 h of average use is left above the floors",
        "holding": "a storm is announced: batteries help one that is nearly empty alone, for 90 min more",
    }
    modes = empty()["modes"] | modes
    text = read(empty() | {"modes": modes}).text
    assert "The town's net island, about to return" in text
    assert "closes in 200 s if it stays" in text
    assert "the sensor is right" in text
    assert "The microgrid takes at most 5000 W from the town, for 12 min more." in text
    assert "All reduce: the microgrid is an island." in text
    assert "3 of 10 places are off in turn: 2.5 h" in text
    assert "a storm is announced" in text
    assert "not answered for 7 min: the microgrid decides alone" in text
    assert "not known" in read(empty() | {"modes": modes | {"phase": None}}).text


def test_the_last_changes_of_the_modes_say_why_the_newest_first() -> None:
    assert "What changed" not in read(empty()).text
    changes = [
        {"time": NOW - 60, "mode": "phase", "value": "islanded", "why": "the town's side has no voltage"},
        {"time": NOW, "mode": "reducing", "value": "off", "why": ""},
    ]
    text = read(empty() | {"mode_changes": changes}).text
    assert text.index("reducing off") < text.index("phase islanded: the town's side has no voltage")


def test_the_line_and_the_backlog_have_their_figures() -> None:
    view = empty() | {"backlog_age_s": 7200, "aggregation": "lossy"}
    text = read(view).text
    assert "up: 400.00 MB of 2.00 GB 1.00 GB expected" in text
    assert "oldest quarter-hour 2 hours" in text
    assert "sent as averages" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0 s"),
        (99, "99 s"),
        (100, "1 min"),
        (5999, "99 min"),
        (6000, "1 hour"),
        (86_400, "24 hours"),
        (9**6, "6 days"),
    ],
)
def test_time_spans_have_one_unit(seconds: int, text: str) -> None:
    assert duration(seconds) == text


def test_a_time_of_zero_is_no_time() -> None:
    assert ago(0, NOW) == "nothing since the start"
    assert [byte_size(n) for n in (5, 5_000, 5 * 10**6, 5 * 10**9)] == ["5 bytes", "5.00 kB", "5.00 MB", "5.00 GB"]


def test_what_a_controller_hosts_besides_its_own_microgrid_is_named_and_else_nothing() -> None:
    view = empty()
    assert "Also hosted here" not in read(view).text
    view["hosted"] = {"r002": {"meters": {"registered": 20}, "backlog": {"parts": 1}}}
    assert "Also hosted here r002 20 meters, 1 part of quarter-hours for the utility" in read(view).text


def test_the_clique_is_shown_with_who_manages_what_and_how_the_others_are_heard() -> None:
    view = sharing_town()
    assert "Takeover" not in read(view).text
    state = {"manager": "r001", "manages": True, "why": "", "reached": 12, "able": True}
    away = state | {"manager": "r002", "manages": False, "able": False, "reached": 1}
    taken = state | {"manager": "r003", "why": "r003 can't command it, and r002 saw the same"}
    heard = {"heard_s": 0.3, "lost": False, "deadline_s": 4.3}
    view["takeover"] = {
        "microgrids": {"r001": away, "r002": away | {"manager": None}, "r003": taken},
        "others": {
            "r002": heard,
            "r003": heard | {"lost": True, "heard_s": 1300.0},
            "utility": heard | {"heard_s": None},
        },
    }
    text = read(view).text
    assert "r001 managed by r002; 1 meter reached, too few meters reached to manage it" in text
    assert "r002 no manager known" in text
    assert "r003 managed here: r003 can't command it, and r002 saw the same; 12 meters reached" in text
    assert "to r003 lost, heard 21 min ago" in text
    assert "to utility never heard: an older release, or UDP is blocked" in text
    assert "r002 manages r001, and this one does not." in text


def test_what_the_gateway_does_by_itself_to_save_bytes_is_shown_beside_what_the_utility_set() -> None:
    assert "Saves bytes" not in read(empty()).text
    saves = {"line": ("quarters", "meters"), "disk": ("meters",)}
    text = read(empty() | {"saves": saves, "tuned": ["strategy"]}).text
    line = "whole quarter-hours are relayed, meters send identical readings as one"
    assert f"by itself for the LTE line {line} for the disk meters send identical readings as one" in text
    assert "holds instead" not in text
    text = read(empty() | {"saves": saves, "tuned": ["meters", "relay_s"]}).text
    assert "holds instead: how often readings are relayed, how meters aggregate." in text
