"""A person sets up a street in a real browser: wide by pointing, on a phone by touch, and without any script."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from commonwatt.site.draft import SiteDraft
from commonwatt.site.places import load_site
from harness.browser import Visit, served, visit
from harness.console import Browser as Person
from harness.console import office, standing_api
from harness.foreign.discoveries import BATTERY, DISCOVERY, PLUG, SITE, SUN, grid, put, solo
from harness.parts import with_parts
from tests.browser.conftest import NOW
from utility.access.people import Role
from utility.assembly.application import make_app
from utility.database.database import Database, open_database
from utility.registry.store.registration import fill_registry
from utility.settings import UtilitySettings


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site.toml").write_text(SITE)
    return tmp_path


@pytest.fixture
def database(site: Path) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{site}/utility.db", create=True)
    with opened.writes.begin() as connection:
        fill_registry(connection, load_site(site / "site.toml")[1])
    put(opened, DISCOVERY, NOW)
    yield opened
    opened.close()


@pytest.fixture
def open_setup(chrome: Browser, database: Database, site: Path) -> Iterator[Callable[..., Visit]]:
    """Return the administrator's window: ``open_setup(width=390, scripts=False)``."""
    settings = UtilitySettings(second_factor="optional", office=office(), site=site)
    app = with_parts(make_app(standing_api(database, NOW, settings=settings, machine_s=lambda: int(time.time()))))
    with served(app) as address:
        opened: list[Visit] = []

        def window(**options: Any) -> Visit:
            opened.append(visit(chrome, address, Person(app, Role.ADMIN, name="anna"), **options))
            return opened[-1]

        yield window
        for one in opened:
            one.page.context.close()


def card(page: Page, name: str) -> Locator:
    return page.locator(".device").filter(has_text=name)


def begin(seen: Visit) -> None:
    """Go to the devices: name the street, choose a broker."""
    page = seen.page
    seen.open("/console/")
    expect(page.get_by_role("heading", name="Set up your street")).to_be_visible()
    page.get_by_label("Name of the street").fill("Sunny Lane")
    page.get_by_label("Language of its residents").select_option("de")
    assert seen.check() == []
    page.get_by_role("button", name="Save, next: broker").click()
    page.get_by_label("Address").fill("192.168.1.20")
    page.get_by_role("button", name="Use this broker").click()
    expect(page.get_by_text("192.168.1.20:1883 is connected")).to_be_visible()
    assert seen.check() == []
    page.get_by_role("button", name="Next: devices").click()
    expect(page.get_by_text("Broker answers: 5 devices seen")).to_be_visible()
    assert seen.check() == []


def finish(seen: Visit, site: Path) -> None:
    """Start to share, and read what is set up."""
    page = seen.page
    page.get_by_role("button", name="Next: sharing").click()
    expect(page.get_by_text("Home 1 gives: its battery is at 64 %")).to_be_visible()
    page.get_by_role("button", name="Start sharing").click()
    expect(page.get_by_text("The street shares").first).to_be_visible()
    assert seen.check() == []
    page.get_by_role("button", name="Next: done").click()
    expect(page.get_by_text("Sunny Lane, Berlin, EUR").first).to_be_visible()
    assert seen.check() == []
    page.get_by_role("link", name="Backup", exact=True).click()
    expect(page.get_by_role("heading", name="Backup of your street")).to_be_visible()
    for label in ("Passphrase, at least", "The same again"):
        page.get_by_label(label).fill("seven quiet owls at noon")
    page.get_by_role("button", name="Set the passphrase").click()
    page.get_by_role("button", name="Back up now").click()
    expect(page.get_by_text("A backup is being made")).to_be_visible()
    assert (site / "backup-now").exists()
    assert seen.check() == []
    page.get_by_role("link", name="Back to setup").click()
    page.get_by_role("button", name="To your street").click()
    expect(page).to_have_url(f"{seen.address}/console/microgrids/street")
    assert SiteDraft(site).is_sharing("street")


@pytest.mark.parametrize("scripts", [True, False], ids=["touch", "no-script"])
def test_street_is_set_up_on_a_phone_by_forms_alone(
    open_setup: Callable[..., Visit], site: Path, *, scripts: bool
) -> None:
    seen = open_setup(width=390, dark=True, touch=scripts, scripts=scripts)
    begin(seen)
    page = seen.page
    for device in (BATTERY, grid("p1"), SUN, PLUG):
        form = card(page, device["name"])
        form.get_by_label("Home").select_option("Home 1")
        if device is BATTERY:
            form.get_by_label("capacity").fill("10.2")
        if device["share"] or device["reduce"]:
            form.get_by_role("checkbox").check()
        form.get_by_role("button", name="Place it").click()
        expect(page.locator("form.device").filter(has_text=device["name"])).to_have_count(0)
    assert seen.check() == []
    page.go_back()
    for choice in page.get_by_label("Home", exact=True).all():
        expect(choice).to_have_value("")  # No card has the home that was chosen for another one.
    page.go_forward()
    page.get_by_role("link", name="Placed · 4").click()
    expect(card(page, "washer")).to_contain_text("Home 1 · one device")
    assert seen.check() == []
    finish(seen, site)
    placed = {one.role: one.told for one in SiteDraft(site).devices("street")}
    assert placed == {"battery": ("share",), "grid": (), "sun": (), "load": ("reduce",)}


def test_device_goes_to_the_home_at_which_a_person_points_and_new_ones_appear_by_themselves(
    open_setup: Callable[..., Visit], site: Path, database: Database
) -> None:
    seen = open_setup()
    page = seen.page
    page.clock.install()
    begin(seen)
    capacity = card(page, BATTERY["name"]).get_by_label("capacity")
    capacity.fill("10.2")
    louder = BATTERY | {"level_percent": 66.0}
    put(database, DISCOVERY | {"cards": [louder, *DISCOVERY["cards"][1:], solo("tasmota", "attic")]}, NOW)
    page.clock.run_for(5_000)
    expect(card(page, "attic")).to_be_visible()
    expect(card(page, BATTERY["name"]).locator(".value")).to_contain_text("66 %")
    expect(capacity).to_have_value("10.2")
    expect(capacity).to_be_focused()
    put(database, DISCOVERY, NOW)
    page.clock.run_for(5_000)
    expect(card(page, "attic")).to_have_count(0)
    card(page, BATTERY["name"]).get_by_role("checkbox").check()
    card(page, BATTERY["name"]).locator("b").first.click()
    assert seen.check() == []
    page.locator("[data-home='Home 1'] b").click()
    expect(page.locator("[data-home='Home 1']")).to_contain_text("battery 10.2 kWh, may share")
    page.get_by_role("link", name="Placed · 1").click()
    put(database, DISCOVERY | {"cards": [louder]}, NOW)
    page.clock.run_for(5_000)
    expect(card(page, BATTERY["name"]).locator(".value")).to_contain_text("66 %")
    put(database, DISCOVERY, NOW)
    page.get_by_role("link", name="To place").click()
    card(page, "p1").locator(".dot").drag_to(page.locator("[data-home='Home 1']"))
    expect(page.locator("[data-home='Home 1']")).to_contain_text("complete")
    finish(seen, site)


def test_refused_device_keeps_what_was_typed_and_has_the_focus(open_setup: Callable[..., Visit]) -> None:
    seen = open_setup()
    page = seen.page
    page.clock.install()
    seen.open("/console/setup/devices")
    form = card(page, BATTERY["name"])
    form.get_by_label("Home").select_option("Home 1")
    form.get_by_label("keeps at least").fill("35")
    form.get_by_role("button", name="Place it").click()
    expect(page.get_by_role("alert")).to_contain_text("a battery needs its capacity")
    expect(form.get_by_label("capacity")).to_be_focused()
    expect(form.get_by_label("keeps at least")).to_have_value("35")
    seen.faults.clear()  # Chromium reports the answer 422.
    form.get_by_label("capacity").blur()
    with page.expect_response("**/console/setup/devices?microgrid=street"):
        page.clock.run_for(5_000)
    expect(form.get_by_label("keeps at least")).to_have_value("35")
    assert seen.check() == []


def typed(page: Page, target: Locator, text: str) -> None:
    """Walk by Tab to a part of the page, and type there; a press of Enter or Space stands for a key."""
    expect(target).to_be_visible()
    for _ in range(150):
        if target.evaluate("part => part === document.activeElement"):
            break
        page.keyboard.press("Tab")
    expect(target).to_be_focused()
    if text in ("Enter", "Space"):
        page.keyboard.press(text)
    else:
        page.keyboard.type(text)


def test_street_is_set_up_by_the_keyboard_alone(open_setup: Callable[..., Visit], site: Path) -> None:
    """# req: K5, C2"""
    seen = open_setup()
    page = seen.page
    seen.open("/console/")
    typed(page, page.get_by_label("Name of the street"), "Sunny Lane")
    typed(page, page.get_by_label("Language of its residents"), "Deutsch")
    typed(page, page.get_by_role("button", name="Save, next: broker"), "Enter")
    typed(page, page.get_by_label("Address"), "192.168.1.20")
    typed(page, page.get_by_role("button", name="Use this broker"), "Enter")
    expect(page.get_by_text("192.168.1.20:1883 is connected")).to_be_visible()
    typed(page, page.get_by_role("button", name="Next: devices"), "Enter")
    for device, capacity in ((BATTERY, "10.2"), (grid("p1"), "")):
        form = card(page, device["name"])
        typed(page, form.get_by_label("Home"), "Home 1")
        if capacity:
            typed(page, form.get_by_label("capacity"), capacity)
            typed(page, form.get_by_role("checkbox"), "Space")
        typed(page, form.get_by_role("button", name="Place it"), "Enter")
        expect(page.get_by_role("status")).to_contain_text("is placed in Home 1")
        expect(page.locator("form.device select:focus"), "the next device").to_have_count(1)
    typed(page, page.locator("#homes summary").first, "Enter")
    expect(page.locator("#homes input[name=name]:focus")).to_have_count(1)
    page.keyboard.type("Casa Ana")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("Home 1 is Casa Ana now")
    typed(page, page.get_by_role("button", name="Next: sharing"), "Enter")
    typed(page, page.get_by_role("button", name="Start sharing"), "Enter")
    typed(page, page.get_by_role("button", name="Next: done"), "Enter")
    typed(page, page.get_by_role("button", name="To your street"), "Enter")
    expect(page).to_have_url(f"{seen.address}/console/microgrids/street")
    draft = SiteDraft(site)
    assert (draft.town["name"], draft.is_sharing("street")) == ("Sunny Lane", True)
    assert {one.role: one.told for one in draft.devices("street")} == {"battery": ("share",), "grid": ()}
    assert seen.check() == []
