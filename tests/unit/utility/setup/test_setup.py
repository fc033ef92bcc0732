"""The pages of setup write the street's site file; what devices announce stays text; refusals stand at the form."""

import errno
import hashlib
import json
import os
import re
import sqlite3
import tomllib
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from commonwatt.model.units import QUARTER_S, quarter_of
from commonwatt.protocol.commands import DeviceState, ForeignDevice, Stage
from commonwatt.site.draft import PlacedDevice, SiteDraft
from commonwatt.site.places import load_site
from commonwatt.street.backup import KEY_FILE
from harness.console import Browser, Client, text_of
from harness.foreign.discoveries import BATTERY, DISCOVERY, PLUG, SITE, SUN, grid, solo
from harness.surroundings.messages import append, blocks
from tests.unit.utility.assembly.test_refused_forms import FORBIDDEN, WRONG
from tests.unit.utility.conftest import NOW
from utility.access.people import Role, on_machine
from utility.access.store import audit_log
from utility.database.base import OperationalError
from utility.database.database import Database, open_database, save_setting
from utility.database.town_zone import TOWN
from utility.outbox.store import Told
from utility.readings.store.completeness import completeness
from utility.readings.store.writer import Writer
from utility.registry.store.accounts import load_dated_registry
from utility.registry.store.registration import fill_registry
from utility.registry.store.registry import removed_meters
from utility.settings import UtilitySettings
from utility.setup import cards
from utility.setup.decisions import changing_site

DEVICES = "/console/setup/devices"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.toml").write_text(SITE)
    return folder


@pytest.fixture
def care() -> str | None:
    return None


@pytest.fixture
def settings(settings: UtilitySettings, site: Path, care: str | None) -> UtilitySettings:
    return settings.model_copy(update={"site": site, "care": care})


@pytest.fixture
def found() -> dict[str, Any]:
    """What the controller discovered; a test may change it."""
    return deepcopy(DISCOVERY)


@pytest.fixture
def asked(found: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """When the controller was asked."""
    times = list[int]()
    monkeypatch.setattr("utility.setup.decisions.newest", lambda *_: (NOW, found))
    monkeypatch.setattr("utility.discovery.decisions.ask", lambda *given: times.append(given[-1]))
    return times


@pytest.fixture
def admin(browser: Callable[..., Browser], asked: list[int]) -> Browser:
    del asked
    return browser(Role.ADMIN, name="anna")


def place(admin: Browser, card: dict[str, Any], home: str = "Home 1", **more: str) -> Any:
    return admin.post(f"{DEVICES}/place", {"card": card["key"], "home": home, "role": card["role"]} | more)


def form_of(text: str, card: dict[str, Any]) -> str:
    """Return a card of the page."""
    (form,) = (one for one in re.findall(r'<form[^>]*class="device".*?</form>', text, re.DOTALL) if card["name"] in one)
    return str(form)


def recorded(database: Database) -> list[tuple[str, str, str]]:
    with database.reads.begin() as connection:
        entries = audit_log.entries(connection, audit_log.AuditFilter(person="anna"), 50)
    return [(each["action"], each["subject"], str(each["after"])) for each in reversed(entries)]


def test_five_steps_make_a_street_and_each_change_is_recorded(
    admin: Browser, site: Path, database: Database, asked: list[int]
) -> None:
    assert admin.get("/console/").headers["location"] == "/console/setup"
    assert admin.get("/console/setup").headers["location"] == "/console/setup/you"
    said = {"name": "Sunny Lane", "timezone": "Europe/Vienna", "currency": "EUR", "language": "de"}
    assert admin.post("/console/setup/you", said).headers["location"] == "/console/setup/broker"
    assert admin.get("/console/setup").headers["location"] == "/console/setup/broker"
    admin.post("/console/setup/broker", {"address": "192.168.1.20", "user": "mqtt", "password": "hidden"})
    admin.post("/console/setup/look", {"step": "broker"})
    assert asked == [NOW]
    assert "192.168.1.20:1883 is connected" in text_of(admin.get("/console/setup/broker"))
    assert admin.get("/console/setup").headers["location"] == DEVICES
    assert place(admin, BATTERY, capacity_kwh="10.2", share="true").headers["location"] == f"{DEVICES}?microgrid=street"
    assert place(admin, SUN).status_code == place(admin, grid("p1")).status_code == 303
    assert place(admin, PLUG, reduce="true").status_code == 303
    assert admin.get("/console/").headers["location"] == "/console/setup"
    assert admin.get("/console/setup").headers["location"] == "/console/setup/sharing"
    page = text_of(admin.get("/console/setup/sharing"))
    assert "Home 1 gives: its battery is at 64 %, above its minimum of 50 %." in page
    assert "Sharing is off" in page
    admin.post("/console/setup/sharing", {"on": "false"})
    assert admin.get("/console/").headers["location"] == "/console/town", "a person decided"
    admin.post("/console/setup/sharing", {"on": "true"})
    assert admin.get("/console/").headers["location"] == "/console/town"
    assert admin.get("/console/setup").headers["location"] == "/console/setup/done"
    done = text_of(admin.get("/console/setup/done"))
    assert "Sunny Lane, Vienna, EUR" in done
    assert "battery, washer; complete · account 50001, invite the resident" in " ".join(done.split()), done
    assert "/console/users?account=50001&amp;display=Home+1#invite" in admin.get("/console/setup/done").text
    draft = SiteDraft(site)
    assert draft.is_sharing("street")
    assert [(one.role, one.capacity_wh, one.minimum_percent, one.told) for one in draft.devices("street")] == [
        ("grid", None, None, ()),
        ("sun", None, None, ()),
        ("battery", 10_200, 50, ("share",)),
        ("load", None, None, ("reduce",)),
    ]
    entries = recorded(database)
    assert [action for action, _, _ in entries] == [
        "setup.describe",
        "setup.broker",
        *["setup.place"] * 4,
        *["setup.share"] * 2,
    ]
    assert BATTERY["share"]["topic"] in entries[2][2], "the audit log says which topic was allowed"
    assert "hidden" not in str(entries)
    assert "hidden" not in (site / "site.toml").read_text()


def test_refused_device_keeps_what_was_typed_and_says_why_at_its_own_card(admin: Browser, site: Path) -> None:
    before = (site / "site.toml").read_text()
    answer = place(admin, BATTERY, minimum_percent="35", share="true")
    assert answer.status_code == 422
    card = form_of(answer.text, BATTERY)
    assert re.search(r'name="capacity_kwh"[^>]*aria-invalid="true"', card)
    assert re.search(r'name="minimum_percent"[^>]*value="35"', card)
    assert re.search(r'name="share"[^>]*checked', card)
    assert '<option selected="">Home 1</option>' in card
    assert "Capacity: a battery needs its capacity" in text_of(answer)
    assert "aria-invalid" not in form_of(answer.text, SUN)
    assert "Home: choose the home of the device" in text_of(place(admin, SUN, home=""))
    place(admin, SUN)
    again = place(admin, SUN, home="Home 2")
    assert "“roof” is in Home 1 already; remove it there first. Nothing was changed." in text_of(again)
    assert '<option selected="">Home' not in again.text, "no other card has the home that was chosen for this one"
    assert (site / "site.toml").read_text() != before


def test_refused_broker_keeps_its_address_and_never_shows_the_password(admin: Browser, site: Path) -> None:
    fields = {"address": "192.168.1.20:1883", "user": "", "password": "hidden-word"}
    answer = admin.post("/console/setup/broker", fields)
    assert answer.status_code == 422
    assert "A password needs its user name" in text_of(answer)
    assert 'value="192.168.1.20:1883"' in answer.text
    assert "hidden-word" not in answer.text
    assert SiteDraft(site).source("street") is None


def test_own_broker_shows_what_to_type_into_devices_and_the_audit_log_has_no_password(
    admin: Browser, site: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("commonwatt.site.devices_broker.found", lambda _: Path("/usr/sbin/mosquitto"))
    assert "this computer runs one" in text_of(admin.get("/console/setup/broker")).lower()
    assert admin.post("/console/setup/broker/own").status_code == 303
    logins = json.loads((site / "devices" / "logins.json").read_text())
    page = text_of(admin.get("/console/setup/broker"))
    assert f"start it by commonwatt street --lan --site {site} A program on this computer uses this:" in page
    assert f"Address 127.0.0.1 Port {logins['port']} User devices Password {logins['devices']}" in page
    source = SiteDraft(site).source("street")
    assert source is not None
    assert {key: source[key] for key in ("address", "user", "password")} == {
        "address": f"127.0.0.1:{logins['port']}",
        "user": "commonwatt",
        "password": "source.password",
    }
    assert logins["commonwatt"] not in str(recorded(database)) + page


def test_what_a_device_announces_is_text_and_the_form_decides_nothing_of_it(
    admin: Browser, site: Path, found: dict[str, Any]
) -> None:
    evil = solo("tasmota", "<b id=probe>'\"", title="<script>alert(1)</script>", note="&lt; <i>")
    found["cards"].append(evil)
    page = admin.get(DEVICES).text
    assert "<script>alert" not in page
    assert "<b id=probe" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    place(admin, BATTERY, capacity_kwh="5", share="true", topic="W/other/Reboot", rules="[]", meter="{}")
    assert "Reboot" not in (site / "site.toml").read_text()
    answer = admin.post(f"{DEVICES}/place", {"card": "tasmota made-up 0", "home": "Home 1", "role": "sun"})
    assert answer.status_code == 422
    assert "made-up" not in (site / "site.toml").read_text()


def test_battery_that_nothing_ends_offers_no_promise_and_says_so(admin: Browser, found: dict[str, Any]) -> None:
    found["cards"][0]["share"] = {"topic": "x/set", "ends": "none", "ends_s": None}
    card = form_of(admin.get(DEVICES).text, BATTERY)
    assert 'name="share"' not in card
    assert "Nothing ends it if this computer dies: it does not share" in card
    assert "Nothing ends it if this computer dies" in text_of(place(admin, BATTERY, capacity_kwh="5", share="true"))
    place(admin, BATTERY, capacity_kwh="5")
    assert "battery 5 kWh, does not share: nothing ends it if we die" in text_of(admin.get(DEVICES))


def test_number_without_a_preset_becomes_a_meter_by_one_word_or_is_ignored(
    admin: Browser, site: Path, found: dict[str, Any]
) -> None:
    pulses, other = found["unknown"]
    card = {"key": pulses["key"], "role": "load"}
    assert "unit: say what the number counts" in text_of(place(admin, card)).replace("What is it?", "unit").lower()
    assert place(admin, card, unit="pulses").status_code == 303
    adapter = tomllib.loads((site / "site.toml").read_text())["microgrid"][0]["adapter"]
    assert adapter["rule"] == [
        {"preset": "counter-wh", "topic": "{device}", "kind": "register", "unit": "Wh", "format": "plain"}
    ]
    assert adapter["meter"][0]["source"] == "garage/counter/total"
    assert f'value="{pulses["key"]}"' not in admin.get(DEVICES).text, "the adapter did not read its new file yet"
    assert "0.7 kW uses" in text_of(admin.get(f"{DEVICES}?shown=placed"))
    admin.post(f"{DEVICES}/ignore", {"card": other["key"]})
    assert other["topic"] not in admin.get(DEVICES).text


def test_placed_device_is_exchanged_and_removed_and_its_home_renamed(
    admin: Browser, site: Path, database: Database
) -> None:
    place(admin, SUN)
    page = admin.get(f"{DEVICES}?shown=placed")
    assert "Home 1 · sun" in text_of(page)
    new = solo("tasmota", "barn")
    answer = admin.post(f"{DEVICES}/exchange", {"device": SUN["key"], "card": new["key"]})
    assert answer.headers["location"] == f"{DEVICES}?microgrid=street&shown=placed"
    assert [one.title for one in SiteDraft(site).devices("street")] == ["barn"]
    admin.post("/console/setup/homes/rename", {"home": "Home 1", "name": "Miller"})
    assert list(SiteDraft(site).homes("street")) == ["Miller", "Home 2"]
    assert "no grid meter yet: its use is not known" in text_of(admin.get(DEVICES))
    admin.post(f"{DEVICES}/remove", {"device": new["key"]})
    assert SiteDraft(site).devices("street") == []
    assert admin.post(f"{DEVICES}/remove", {"device": new["key"]}).status_code == 422
    done = ["setup.place", "setup.exchange", "setup.rename", "setup.remove"]
    assert [action for action, _, _ in recorded(database)] == done


def test_exchanged_device_is_told_on_its_own_topic_which_the_audit_log_has(
    admin: Browser, found: dict[str, Any], database: Database
) -> None:
    place(admin, PLUG, reduce="true")
    told: dict[str, Any] = {"topic": "cmnd/dryer/Power", "ends": "will", "ends_s": 45}
    found["cards"].append(solo("tasmota", "dryer", role="load", reduce=told))
    answer = admin.post(f"{DEVICES}/exchange", {"device": PLUG["key"], "card": "tasmota dryer 0"})
    assert answer.status_code == 303
    assert told["topic"] in recorded(database)[-1][2]


def test_removed_grid_meter_lacks_no_reading_from_the_present_quarter_on_and_keeps_its_readings(
    site: Path, tmp_path: Path
) -> None:
    draft = SiteDraft(site)
    draft.use_broker("street", address="10.0.0.5")
    for name in ("p1", "p2"):
        draft.place("street", grid(name), home=f"Home {name}", role="grid")
    draft.save()
    gone, stays = (device.meters for device in draft.devices("street"))
    quarter = quarter_of(NOW)
    with closing(open_database(f"sqlite:///{tmp_path}/street.db", create=True)) as database:
        with database.writes.begin() as connection:
            fill_registry(connection, load_site(site / "site.toml")[1], now=NOW - 9 * QUARTER_S)
        slots = dict.fromkeys(range(60), 5)
        for meter in (*gone, *stays):
            made = append(blocks(slots, meter=meter, quarter=quarter - 1), sender="street")
            Writer(database).commit([replace(made, owner="street")])
        with changing_site(database, site, on_machine("anna"), NOW, "setup.remove", "p1") as draft:
            draft.remove("street", grid("p1")["key"])
        counts = {one.meter: one.counts for one in completeness(database, quarter - 1, quarter + 9)}
        with database.reads.begin() as connection:
            assert set(removed_meters(connection).values()) == {quarter}
        with database.writes.begin() as connection:
            fill_registry(connection, load_site(site / "site.toml")[1], now=NOW)  # As the street takes the file.
            assert load_dated_registry(connection).meters[gone[0]].end == quarter
    assert {(counts[meter].exact, counts[meter].missing) for meter in gone} == {(60, 0)}
    assert {(counts[meter].exact, counts[meter].missing) for meter in stays} == {(60, 9 * 60)}


def test_devices_of_a_microgrid_whose_controller_is_elsewhere_are_placed_by_the_same_page(
    admin: Browser, site: Path, found: dict[str, Any], monkeypatch: pytest.MonkeyPatch, database: Database
) -> None:
    assert 'name="microgrid"><option' not in "".join(admin.get(DEVICES).text.split("\n"))
    mill = SITE.partition("[[microgrid]]")[2].replace("street", "mill").replace("9102", "9103")
    mill = mill.replace("[microgrid.", 'address = "192.168.1.20"\n[microgrid.')
    (site / "site.toml").write_text(f"{SITE}\n[[microgrid]]{mill}")
    heard = {"street": found | {"cards": [SUN]}, "mill": found | {"cards": [PLUG]}}
    monkeypatch.setattr("utility.setup.decisions.newest", lambda _, microgrid: (NOW, heard.get(microgrid, found)))
    of_mill = f"{DEVICES}?microgrid=mill"
    street, other = text_of(admin.get(DEVICES)), text_of(admin.get(of_mill))
    assert ("roof" in street, "washer" in street, "carry it there anew" in street) == (True, False, False)
    assert ("roof" in other, "washer" in other) == (False, True)
    assert "The controller of mill is elsewhere: when its devices are placed, make its bundle" in other
    assert "Use our own broker" not in admin.get("/console/setup/broker?microgrid=mill").text
    answer = admin.post("/console/setup/broker", {"address": "10.0.0.9", "microgrid": "mill"})
    assert answer.headers["location"] == "/console/setup/broker?microgrid=mill"
    assert place(admin, PLUG, microgrid="mill").headers["location"] == of_mill
    assert place(admin, PLUG).status_code == 422, "the street's controller does not hear it"
    assert place(admin, PLUG, microgrid="r009").status_code == 422
    draft = SiteDraft(site)
    assert ([one.title for one in draft.devices("mill")], draft.devices("street")) == (["washer"], [])
    assert (draft.source("mill") or {})["address"] == "10.0.0.9:1883"
    assert '"microgrid": "mill"' in recorded(database)[-1][2]
    assert "To your street" in admin.get("/console/setup/done?microgrid=%3Cb%3E").text
    assert admin.get(of_mill).text.count("commonwatt site pack mill") == 1
    removed = admin.post(f"{DEVICES}/remove", {"device": PLUG["key"], "microgrid": "mill"})
    assert removed.headers["location"] == f"{of_mill}&shown=placed"


@pytest.mark.parametrize("care", ["127.0.0.1:8444"])
@pytest.mark.parametrize(
    ("told", "says"),
    [
        (None, "It is asked within a minute."),
        ({}, "It was asked AT and has not answered yet."),
        (
            {"asked": NOW - 121},
            "It was asked AT and has not answered yet: it does not run, or its line is down, which Fleet",
        ),
        ({"result": "done", "time": NOW}, "It has what is placed since AT."),
        ({"result": "refused", "time": NOW, "reason": "<b>older"}, "Not taken AT: &lt;b&gt;older. It is asked again"),
        ({"result": "unsupported", "time": NOW}, "Not taken AT: unsupported. It is asked again within a day."),
    ],
)
def test_page_says_whether_a_cared_for_controller_has_what_is_placed(
    told: dict[str, Any] | None, says: str, admin: Browser, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mill = SITE.partition("[[microgrid]]")[2].replace("street", "mill")
    (site / "site.toml").write_text(f"{SITE}\n[[microgrid]]{mill}")
    made = partial(Told, controller="mill", topic="unpack", content="", time=NOW, command="", state="")
    at, outcome = (told or {}).get("asked", NOW), told if told and "result" in told else {}
    found = None if told is None else replace(made(result=outcome.get("result"), outcome=outcome), time=at)
    monkeypatch.setattr("utility.setup.pages.told_bundle", lambda *_: found)
    text = text_of(admin.get(f"{DEVICES}?microgrid=mill"))
    said = re.sub(r"15 Jan 2027 [0-9:]+( (?=[.:]))?", "AT", " ".join(text.split())).replace("▲ ", "")
    assert f"The controller of mill is elsewhere and takes what is placed by itself. {says}" in said
    assert "site pack" not in text


def test_full_disk_is_said_and_changes_nothing(
    admin: Browser, site: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, save = (site / "site.toml").read_bytes(), SiteDraft.save

    def full(draft: SiteDraft) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def full_later(draft: SiteDraft) -> None:
        save(draft)
        cause = sqlite3.OperationalError("database or disk is full")
        cause.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise OperationalError("COMMIT", {}, cause)

    for failing in (full, full_later):
        monkeypatch.setattr(SiteDraft, "save", failing)
        answer = place(admin, SUN)
        assert (answer.status_code, "he disk is full" in answer.text, "Log in" in answer.text) == (503, True, False)
        assert (site / "site.toml").read_bytes() == before
        assert admin.app.state.api.health.alarms() == ["disk_full"]
    assert not recorded(database)


def test_tick_of_a_promise_stands_before_the_button(admin: Browser) -> None:
    card = form_of(admin.get(DEVICES).text, BATTERY)
    assert card.index('name="share"') < card.index("Place it")


def test_microgrid_of_several_has_the_towns_name_too(admin: Browser, database: Database) -> None:
    with database.writes.begin() as connection:
        save_setting(connection, TOWN, json.dumps({"name": "Calle del Sol", "street": ""}))
    assert "<title>Calle del Sol: r001" in admin.get("/console/microgrids/r001").text


def test_head_says_whether_the_street_took_the_file(admin: Browser, site: Path) -> None:
    def says() -> str:
        return text_of(admin.get("/console/setup/done"))

    digest = hashlib.sha256((site / "site.toml").read_bytes()).hexdigest()
    assert "everything is saved as you go" in says()
    (site / "applied.json").write_text(json.dumps({"sha256": digest, "fault": ""}))
    assert "everything is saved as you go" in says()
    place(admin, SUN)
    assert "being taken over" in says()
    (site / "applied.json").write_text(json.dumps({"sha256": digest, "fault": "port 1883 is in use"}))
    assert "not taken over, the street runs on as before: port 1883 is in use" in says()


@pytest.mark.parametrize("text", ["", "[", "microgrid = 1", SITE.replace("houses", "lanes")])
def test_file_that_a_person_writes_just_now_is_a_sentence(admin: Browser, site: Path, text: str) -> None:
    (site / "site.toml").write_text(text)
    assert admin.get("/console/").headers["location"] == "/console/town"
    answer = admin.get("/console/setup/devices")
    assert (answer.status_code, "site.toml: " in text_of(answer)) == (422, True)
    assert admin.post("/console/setup/sharing", {"on": "true"}).status_code == 422
    assert (site / "site.toml").read_text() == text


def test_broker_that_refuses_and_a_street_without_devices_say_what_to_look_at(
    admin: Browser, found: dict[str, Any]
) -> None:
    admin.post("/console/setup/broker", {"address": "10.0.0.5"})
    refusal = "the broker refused it: Not authorized"
    found["sources"] = [{"name": "", "address": "10.0.0.5:1883", "connected": False, "complaint": refusal}]
    found["cards"] = found["unknown"] = []
    found["fault"] = "the adapter does not answer"
    assert "No answer : the adapter does not answer." in text_of(admin.get("/console/setup/broker"))
    found["fault"] = ""
    page = text_of(admin.get("/console/setup/broker"))
    assert "No connection to 10.0.0.5:1883 : the broker refused it: Not authorized." in page
    assert ("Are user and password those of the broker" in page, "firewall" in page) == (True, False)
    found["sources"][0]["complaint"] = "[Errno 111] Connection refused"
    page = text_of(admin.get("/console/setup/broker"))
    assert ("user and password" in page, "firewall" in page) == (False, True)
    assert "No device is found yet." in text_of(admin.get(DEVICES))
    found["sources"][0]["complaint"] = "not connected yet"
    page = text_of(admin.get("/console/setup/broker"))
    assert "No answer yet : the street connects to 10.0.0.5:1883" in page
    assert "No connection" not in page, "each change starts the adapter anew"


@pytest.mark.parametrize(("after_s", "shows"), [(60, False), (1, False), (-2, True)])
def test_refusal_of_a_login_that_was_corrected_is_not_shown_any_more(
    admin: Browser, found: dict[str, Any], site: Path, after_s: int, *, shows: bool
) -> None:
    login = {"address": "10.0.0.5", "user": "mqtt", "password": "right"}
    admin.post("/console/setup/broker", login)
    found["sources"] = [{"name": "", "address": "10.0.0.5:1883", "connected": False, "complaint": "not authorised"}]
    applied = site / "applied.json"
    applied.write_text("{}")
    for path in (site / "site.toml", site / "street/source.password"):
        os.utime(path, (NOW - 60, NOW - 60))
    os.utime(applied, (NOW + after_s, NOW + after_s))  # the answer was asked for at ``NOW``
    page = text_of(admin.get("/console/setup/broker"))
    assert ("not authorised" in page) is shows
    assert ("No answer yet : the street connects to 10.0.0.5:1883" in page) is not shows
    found["fault"] = "the adapter does not answer"
    assert "does not answer" not in text_of(admin.get("/console/setup/broker")), "it just starts"
    os.utime(applied, (NOW - 12, NOW - 12))
    assert "does not answer" in text_of(admin.get("/console/setup/broker"))
    found["fault"] = ""
    os.utime(site / "street/source.password", (NOW + 90, NOW + 90))
    assert "not authorised" not in text_of(admin.get("/console/setup/broker")), "it is being taken over"


def test_without_a_broker_the_next_step_is_to_choose_one(admin: Browser, found: dict[str, Any]) -> None:
    found["cards"] = found["unknown"] = []
    assert "Next: devices" not in text_of(admin.get("/console/setup/broker"))
    assert "No broker is chosen yet. Choose the one" in text_of(admin.get(DEVICES))
    admin.post("/console/setup/broker", {"address": "10.0.0.5"})
    assert "Next: devices" in text_of(admin.get("/console/setup/broker"))


def test_grid_meters_come_first_in_the_order_of_their_numbers(admin: Browser, found: dict[str, Any]) -> None:
    found["cards"] = [SUN, grid("p10"), grid("p2")]
    words = text_of(admin.get(DEVICES))
    assert words.index("p2") < words.index("p10") < words.index("roof")


@pytest.mark.parametrize("has_time", [True, False])
def test_figures_are_promised_only_by_a_right_clock(
    admin: Browser, settings: UtilitySettings, monkeypatch: pytest.MonkeyPatch, *, has_time: bool
) -> None:
    monkeypatch.setattr("utility.setup.pages.read_machine", lambda _: SimpleNamespace(synchronised=has_time))
    page = text_of(admin.get("/console/setup/done"))
    assert ("within five minutes" in page, "clock is not synchronized" in page) == (has_time, not has_time)
    object.__setattr__(settings, "clock_is_right", True)
    assert "within five minutes" in text_of(admin.get("/console/setup/done"))


def test_utility_of_a_town_has_no_setup_and_nothing_links_to_it(
    browser: Callable[..., Browser], settings: UtilitySettings
) -> None:
    assert '"/console/setup"' in browser(Role.ADMIN).get("/console/fleet").text
    assert '"/console/setup"' not in browser(Role.VIEWER).get("/console/fleet").text
    object.__setattr__(settings, "site", None)
    town = browser(Role.ADMIN)
    assert town.get("/console/").headers["location"] == "/console/town"
    assert '"/console/setup"' not in town.get("/console/fleet").text
    for path in ("", "/you", "/devices"):
        assert town.get(f"/console/setup{path}").status_code == 404
    assert town.post("/console/setup/sharing", {"on": "true"}).status_code == 404


BACKUP = "/console/setup/backup"
WORDS = "seven quiet owls at noon"


def test_backup_is_asked_for_under_a_passphrase_typed_twice_that_no_log_and_no_page_has(
    admin: Browser, site: Path, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    assert "Back up now" not in admin.get(BACKUP).text
    assert "set a passphrase first" in text_of(admin.post(BACKUP))
    for fields, why in (
        ({"passphrase": "too-short", "again": "too-short"}, "the passphrase needs at least 12 letters"),
        ({"passphrase": WORDS, "again": WORDS.upper()}, "is another passphrase than the first one"),
    ):
        answer = admin.post(f"{BACKUP}/passphrase", fields)
        assert (answer.status_code, why in text_of(answer)) == (422, True)
        assert not any(word in answer.text for word in fields.values())
    assert not (site / KEY_FILE).exists()
    assert admin.post(f"{BACKUP}/passphrase", {"passphrase": WORDS, "again": WORDS}).headers["location"] == BACKUP
    assert "Back up now" in admin.get(BACKUP).text
    assert admin.post(BACKUP).status_code == 303
    assert (site / "backup-now").exists()
    assert [action for action, _, _ in recorded(database)] == ["setup.passphrase", "setup.backup"]
    assert WORDS not in caplog.text + str(recorded(database)) + admin.get(BACKUP).text


def test_backups_are_listed_and_sent_to_administrators_in_person_and_no_other_file_is(
    admin: Browser, browser: Callable[..., Browser], site: Path
) -> None:
    (site / "backups").mkdir()
    (site / KEY_FILE).write_text("{}")
    for name in ("street-2026-05-01.cwb", "street-2026-05-02.cwb", "last.json", ".half"):
        (site / "backups" / name).write_text(json.dumps({"name": name, "fault": "No space left on device"}))
    page = admin.get(BACKUP)
    assert "The last backup was not made : No space left on device." in text_of(page)
    assert re.findall(r'href="(/console/setup/backup/[^"]*)"', page.text) == [
        f"{BACKUP}/street-2026-05-02.cwb",
        f"{BACKUP}/street-2026-05-01.cwb",
    ]
    (site / "backups" / "last.json").write_text('{"name": "street-2026-05-02.cwb", "fault": ""}')
    assert "The last backup was made : street-2026-05-02.cwb." in text_of(admin.get(BACKUP))
    answer = admin.get(f"{BACKUP}/street-2026-05-01.cwb")
    assert "street-2026-05-01.cwb" in answer.text
    assert answer.headers["content-disposition"] == 'attachment; filename="street-2026-05-01.cwb"'
    for name in ("last.json", ".half", "..%2fsite.toml", "..%2f..%2fsite.toml", "%2fetc%2fpasswd", "street-1.cwb"):
        answer = admin.get(f"{BACKUP}/{name}")
        assert (answer.status_code, "boundary" in answer.text) == (404, False), name
    for role in (Role.VIEWER, Role.OPERATOR):
        assert browser(role).get(f"{BACKUP}/street-2026-05-01.cwb").status_code == 403
        assert browser(role).get(BACKUP).status_code == 403
    assert Client(admin.app).get(f"{BACKUP}/street-2026-05-01.cwb").status_code == 403, "no token gets one"


FORMS: dict[str, dict[str, str]] = {
    "you": {"name": "x", "timezone": "Europe/Berlin", "currency": "EUR", "language": "de"},
    "broker": {"address": "10.0.0.5", "user": "x", "password": "y"},
    "devices/place": {
        "card": SUN["key"],
        "home": "Home 2",
        "role": "sun",
        "capacity_kwh": "3",
        "minimum_percent": "50",
        "share": "true",
        "reduce": "true",
        "unit": "kwh",
    },
    "devices/ignore": {"card": "x"},
    "devices/exchange": {"device": BATTERY["key"], "card": SUN["key"]},
    "devices/remove": {"device": "x"},
    "homes/rename": {"home": "Home 1", "name": "x"},
    "sharing": {"on": "true"},
    "look": {"step": "devices"},
    "backup/passphrase": {"passphrase": WORDS, "again": WORDS},
}


@pytest.mark.parametrize("path", FORMS)
def test_wrong_input_of_each_form_is_refused_with_a_sentence_or_harmless(admin: Browser, site: Path, path: str) -> None:
    place(admin, BATTERY, capacity_kwh="5")
    for name in FORMS[path]:
        for wrong in WRONG.values():
            text = wrong.decode(errors="replace") if isinstance(wrong, bytes) else wrong
            answer = admin.post(f"/console/setup/{path}", FORMS[path] | {name: text})
            assert answer.status_code in (303, 422), (name, text[:40])
            said = re.findall(r'role="alert".*?</p>', answer.text, re.DOTALL)
            assert answer.status_code == 303 or said, (name, text[:40])
            assert not FORBIDDEN.search(" ".join(said)), said
            assert str(site) not in answer.text.replace(f"--site {site}", "")
            SiteDraft(site).homes("street")


def battery(home: str = "H", title: str = "B", *, may_give: bool = True) -> PlacedDevice:
    told = ("share",) if may_give else ()
    return PlacedDevice(
        key=title, title=title, home=home, role="battery", meters=(7,), account=1, minimum_percent=50, told=told
    )


@pytest.mark.parametrize(
    ("facts", "may_give", "says"),
    [
        ({"level_percent": 64.0}, True, "H gives: its battery is at 64 %, above its minimum of 50 %."),
        ({"level_percent": 64.0}, False, "H gives nothing: its battery is at 64 %, and may not be told to give."),
        ({"level_percent": 31.4}, False, "H receives: its battery is at 31 %, below its minimum of 50 %."),
        ({"level_percent": 50.0}, True, "H neither gives nor receives: its battery is at its minimum of 50 %."),
        ({}, True, "H: its battery's level is not known yet."),
        (
            {"level_percent": 64.0, "age_s": 310},
            True,
            "H gives: its battery is at 64 % (5 min ago), above its minimum of 50 %.",
        ),
        ({"level_percent": 64.0, "age_s": 700}, True, "H: its battery's level is not known yet."),
    ],
)
def test_who_would_help_whom_is_one_sentence_each(facts: dict[str, Any], says: str, *, may_give: bool) -> None:
    by_key = {"B": solo("victron", "B") | facts}
    assert [words for _, words in cards.helping([battery(may_give=may_give)], by_key, None)] == [says]


def test_two_batteries_of_a_home_are_told_apart() -> None:
    placed = [battery(title="cellar"), battery(title="attic"), battery("Other", "barn")]
    says = [words.partition(":")[0] for _, words in cards.helping(placed, {}, None)]
    assert says == ["H, cellar", "H, attic", "Other"]


@pytest.mark.parametrize(
    ("stage", "power_w", "says"),
    [
        ("obeys", -800.0, "H is told to give, and obeys: its battery is at 64 % and gives 0.8 kW."),
        ("asked", 0.0, "H is told to give, and has not shown yet that it obeys: its battery is at 64 %."),
        ("disobeys", None, "H is told to give, and does not obey: its battery is at 64 %."),
        ("off", None, "H may give: its battery is at 64 %, above its minimum of 50 %."),
    ],
)
def test_while_the_street_shares_it_is_said_who_is_told_and_obeys(stage: str, power_w: float | None, says: str) -> None:
    state = DeviceState(stage=Stage(stage), since=NOW, failsafe="will", failsafe_s=60)
    told = {7: ForeignDevice(name="B", preset="victron", states={"sharing": state})}
    by_key = {"B": solo("victron", "B") | {"level_percent": 64.0, "power_w": power_w}}
    assert [words for _, words in cards.helping([battery()], by_key, told)] == [says]


def test_placed_battery_is_changed_without_being_removed(admin: Browser, site: Path, database: Database) -> None:
    place(admin, BATTERY, capacity_kwh="10,2")
    assert "Home 1 · battery 10.2 kWh, does not share" in text_of(admin.get(f"{DEVICES}?shown=placed"))
    said = {"capacity_kwh": "9.6", "minimum_percent": "30", "share": "true"}
    assert place(admin, BATTERY, **said).status_code == 303
    (now,) = SiteDraft(site).devices("street")
    assert (now.capacity_wh, now.minimum_percent, now.told) == (9_600, 30, ("share",))
    assert BATTERY["share"]["topic"] in recorded(database)[-1][2]
    page = text_of(admin.get(f"{DEVICES}?shown=placed"))
    assert "battery 9.6 kWh, may share" in page, "sharing is off"
    del said["share"]
    assert place(admin, BATTERY, **said).status_code == 303
    assert SiteDraft(site).devices("street")[0].told == ()


def test_only_devices_that_fit_are_offered_in_exchange(admin: Browser, found: dict[str, Any]) -> None:
    place(admin, grid("p1"))
    page = f"{DEVICES}?shown=placed"
    assert "No other device is found that fits." in text_of(admin.get(page))
    assert "It takes the place" not in text_of(admin.get(page))
    found["cards"].append(grid("p2"))
    offered = re.findall(r'<option value="([^"]*)', admin.get(page).text)
    assert offered == [grid("p2")["key"]]


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("999999", "Capacity: must be at most 100000."),
        ("0", "Capacity: must be at least 0.1."),
        ("1.234,5", "Capacity: must be an amount such as 12.50."),
        ("letters", "Capacity: must be an amount such as 12.50."),
    ],
)
def test_wrong_capacity_is_refused_in_words_and_stands_there_again(admin: Browser, typed: str, says: str) -> None:
    answer = place(admin, BATTERY, capacity_kwh=typed)
    assert (answer.status_code, says in text_of(answer)) == (422, True), text_of(answer)
    assert re.search(rf'name="capacity_kwh"[^>]*value="{typed}"', form_of(answer.text, BATTERY))


def test_device_is_called_once_by_its_maker_and_name() -> None:
    names = [("openWB", "4"), ("OpenDTU 1141", "1141"), ("evcc", "evcc")]
    called = [cards.name_of({"title": title, "name": name}) for title, name in names]
    assert called == ["openWB “4”", "OpenDTU 1141", "evcc"]


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        ({"power_w": 400.0}, ("0.4 kW", "takes")),
        ({"power_w": -1900.0}, ("1.9 kW", "gives")),
        ({"power_w": 1900.0, "role": "sun"}, ("1.9 kW", "makes")),
        ({"level_percent": 64.0, "power_w": -800.0}, ("64 %", "gives 0.8 kW")),
        ({"level_percent": 64.0}, ("64 %", "its level")),
        ({"level_percent": 64.0, "power_w": 0.0, "age_s": 600}, ("64 %", "10 min ago")),
        ({"total_kwh": 8412.64}, ("8,412.6", "kWh in total")),
        ({}, ("", "no number yet")),
    ],
)
def test_card_shows_the_number_that_a_person_recognizes(facts: dict[str, Any], shown: tuple[str, str]) -> None:
    assert cards.live(solo("tasmota", "x") | facts) == shown
