"""The controller's page in a real browser: it shows each part of a status in words, and no name becomes markup."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect
from prometheus_client import CollectorRegistry

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.passwords import Cost, PasswordHash
from commonwatt.network.http_server import HttpServer
from gateway.alarms import alarms
from gateway.page import Site
from harness.browser import Visit
from harness.network.waiting import PATIENCE_S
from harness.surroundings.page import NOW, add_battery, add_meter, decided, empty, words

PASSWORD = "seven small lanterns"
HOSTILE = "<script>alert(1)</script>&\"'`<img src=x onerror=y>"


def busy() -> dict[str, Any]:
    """Return a status in which each section of the page has content."""
    view = empty()
    for n, level in ((1, 21), (2, 82), (10, 66)):
        add_battery(view, str(100 + n), f"house {n}", level)
    decided(view)
    add_meter(view, "7", HOSTILE, direction=HOSTILE, heard=0, states=["off_grid"])
    for n in range(20):
        add_meter(view, str(200 + n), f"apartment {n}")
    changes = [
        {"time": NOW - 60, "mode": "phase", "value": "islanded", "why": "the town's side has no voltage"},
        {"time": NOW, "mode": "reducing", "value": "off", "why": ""},
    ]
    own = {"manager": "r002", "manages": False, "why": "", "reached": 1, "able": False}
    heard = {"heard_s": 0.3, "lost": False}
    view |= {
        "power": {"end": NOW - 5, "sun_w": 900, "use_w": 1300, "import_w": 0, "export_w": 0, "between_w": 100},
        "sharing_words": words(view),
        "mode_changes": changes,
        "head_end": "utility.example:8883",
        "backlog_age_s": 7200,
        "aggregation": "lossy",
        "trust": "meters",
        "offset_s": -37,
        "saves": {"the LTE line": "whole quarter-hours are relayed"},
        "tuned": ["meters", "relay_s", "strategy"],
        "rates": [{"tariff": "town", "period": "peak", "until": NOW, "import": "0.32", "credit": "0.16"}],
        "hosted": {"r002": {"meters": {"registered": 20}, "backlog": {"parts": 1}}},
        "last_commands": [
            {"time": NOW - 60, "meter": "102", "cmd": "initialize", "result": "done"},
            {"time": NOW - 5, "meter": "77", "cmd": HOSTILE, "result": "ignored_old"},
        ],
        "takeover": {
            "microgrids": {"r001": own},
            "others": {"r003": heard | {"lost": True, "heard_s": 1300.0}, "utility": heard | {"heard_s": None}},
        },
    }
    view["connected"]["head_end"], view["connection_failures"] = False, {"head_end": HOSTILE}
    view["modes"] |= {"phase": "islanded", "limited": "takes nothing from the town", "reducing": "it is an island"}
    view["witness"] |= {"key": "a" * 64, "codes": {"2026-05": ["1" * 64, "2" * 64]}}
    view["meters"]["silent"] = {"7": None}
    return view | {"alarms": [asdict(alarm) for alarm in alarms(view)]}


@pytest.fixture
def shown() -> dict[str, Any]:
    """The status that is served; a test changes it."""
    return busy()


@pytest.fixture
def address(shown: dict[str, Any], tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "page-password.json"
    file.write_text(f'{{"password": "{PasswordHash.of(PASSWORD, Cost(log_n=10, r=1, p=1)).text()}"}}')
    settings = GatewaySettings(microgrid="r001", http_password=file)
    site = Site(settings, lambda: deepcopy(shown), lambda: 1000.0)
    server = HttpServer("127.0.0.1:0", CollectorRegistry(), dict, pages=site.answer)
    server.start()
    assert server._server is not None
    yield f"http://127.0.0.1:{server._server.server_address[1]}"
    server.stop()


def opened(chrome: Browser, address: str, *, width: int = 1280, dark: bool = False) -> Visit:
    context = chrome.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        http_credentials={"username": "anna", "password": PASSWORD},
    )
    context.set_default_timeout(PATIENCE_S * 1000)  # A busy machine is no fault.
    seen = Visit(context.new_page(), address)
    seen.open("/")
    expect(seen.page.get_by_role("heading", level=1)).to_have_text("Controller r001")
    return seen


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_each_part_of_the_status_is_on_the_page(chrome: Browser, address: str, width: int, dark: bool) -> None:
    seen = opened(chrome, address, width=width, dark=dark)
    main = seen.page.locator("main")
    shown = main.text_content() or ""
    texts = (
        f"No connection to the utility: {HOSTILE}.",
        "mean of the minute that ended 5 s ago",
        "house 1 is below its minimum, so house 2 and house 10 share.",
        "21.0 % of 10.00 kWh",
        "The microgrid takes nothing from the town.",
        "All reduce: it is an island.",
        "phase islanded: the town's side has no voltage",
        "to the utility at utility.example:8883",
        "oldest quarter-hour2 hours",
        "sent asaverages",
        "20 meters, 1 part of quarter-hours for the utility",
        "managed by r002; 1 meter reached, too few meters reached to manage it",
        "lost, heard 21 min ago",
        "never heard: an older release, or UDP is blocked",
        "up: 400.00 MB of 2.00 GB",
        "1.00 GB expected",
        "for the LTE linewhole quarter-hours are relayed",
        "holds instead: how meters aggregate, how often readings are relayed.",
        "uncertain: from the meters' median",
        "37 s earlier",
        "20:00:00 EDT",
        "through accepted1,200",
        "$0.32 a kWh taken, $0.16 a kWh given",
        "2026-05, replaced11111111 11111111",
        "outgoing meter 102",
        f"{HOSTILE} meter 7, shut down, off the power net",
        f"meter 77: {HOSTILE}",
        "house 2: introduce itself",
    )
    assert [text for text in texts if text not in shown] == []
    assert seen.page.title() == "r001: 6 alarms"
    assert seen.page.locator("main script, main img").count() == 0
    places = main.locator("section", has_text="heard lately").locator("li b").all_text_contents()
    assert places[:3] == ["apartment 0", "apartment 1", "apartment 2"]
    assert places[-4:] == ["house 1", "house 2", "house 10", HOSTILE], "the silent ones come last"
    # A technician has the controller's command line.
    assert [fault for fault in seen.check() if not fault.startswith("a command line")] == []


def test_the_list_of_all_meters_stays_open_while_the_page_loads_again(
    chrome: Browser, address: str, shown: dict[str, Any]
) -> None:
    seen = opened(chrome, address)
    last = seen.page.get_by_text("house 10", exact=True).last
    expect(last).not_to_be_visible()
    seen.page.get_by_text("All 24 meters").click()
    shown["sharing_words"] = "Another sentence."
    seen.page.evaluate("look()")
    expect(seen.page.get_by_text("Another sentence.")).to_be_visible()
    expect(last).to_be_visible()


def test_a_good_gateway_says_so_and_one_that_starts_too(chrome: Browser, address: str, shown: dict[str, Any]) -> None:
    good = empty() | {"alarms": [], "records": {}}
    good["lte"] |= {"used": None}
    shown.clear()
    shown.update(good)
    main = opened(chrome, address).page.locator("main")
    for text in (
        "All is well: no alarm.",
        "No meter is registered.",
        "None since the gateway started.",
        "Nothing was counted yet.",
    ):
        expect(main).to_contain_text(text)
    for absent in ("Power now", "Takeover", "Saves bytes", "Check codes", "Rates", "What changed", "Also hosted"):
        expect(main).not_to_contain_text(absent)
    page = main.page
    shown.clear()
    page.reload()
    expect(main).to_contain_text("The gateway is starting; this page loads again by itself.")
