"""Pictures of the console for the documentation, from a running demonstration: ``python -m harness.real.pictures``.

Each role's first page on a desk and on a phone, light and dark, in ``docs/pictures``; and three pages in ``docs``.
"""

import argparse
import io
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page

from commonwatt.config.files import load_settings
from commonwatt.config.utility import UtilitySettings
from harness.browser import chromium
from harness.past.office import ADMIN, ANTON, CLARA, OTTO, RITA, ROSA, VERA
from utility.access.passwords import hash_password
from utility.access.roles import Role
from utility.access.store import access
from utility.database.database import Database, open_database
from utility.webkit.rights import COOKIE

DOCS = Path(__file__).resolve().parents[2] / "docs"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
THEMES = ("light", "dark")
COLOURS = 128  # of a picture: small files
STARTS_WITHIN_S = 120
DRAWN_MS = 1_500  # a plot has asked for its series and is drawn
PEOPLE = {one.role: one.name for one in (VERA, OTTO, CLARA, ANTON, ROSA, RITA, ADMIN)}  # who is pictured


@contextmanager
def demonstration(data: Path, runs_s: int) -> Iterator[tuple[Database, str]]:
    """Start the demonstration's town, and let it run for a while; yield its database and address."""
    command = [
        sys.executable,
        "-m",
        "commonwatt",
        "demo",
        "--no-view",
        "--data",
        str(data),
        "--for",
        f"{runs_s + 900}s",
    ]
    process = subprocess.Popen(command)
    try:
        settings_file = data / "utility" / "utility.toml"
        _wait_for(settings_file.exists)
        settings = load_settings(settings_file, "utility", UtilitySettings)
        address = f"http://{settings.http}"
        _wait_for(lambda: _answers(address))
        time.sleep(runs_s)
        database = open_database(settings.database, create=False)
        yield database, address
        database.close()
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def person(database: Database, role: Role) -> str:
    """Open a session of the demonstration's person of a role; return the session's cookie."""
    name = PEOPLE[role]
    _wait_for(lambda: _is_there(database, name))
    with database.writes.begin() as connection:
        found = access.find_person(connection, name)
        if found is not None and found.state != "active":
            access.set_password(connection, name, hash_password(secrets.token_hex()))
        return access.open_session(connection, name, "127.0.0.1", "pictures", int(time.time())).cookie


def _is_there(database: Database, name: str) -> bool:
    with database.reads.begin() as connection:
        return access.find_person(connection, name) is not None


def take(page: Page, path: Path) -> None:
    """Write what a page shows as a small PNG."""
    page.wait_for_timeout(DRAWN_MS)
    picture = Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB")
    picture.quantize(COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(path, optimize=True)


def window(browser: Browser, address: str, cookie: str, size: str, theme: str) -> BrowserContext:
    """Open a window of a size and a theme, logged in."""
    width, height = SIZES[size]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if theme == "dark" else "light",
        reduced_motion="reduce",
    )
    url = address.replace("http:", "https:")
    context.add_cookies(
        [{"name": COOKIE, "value": cookie, "url": url, "secure": True, "httpOnly": True, "sameSite": "Lax"}]
    )
    return context


def first_pages(browser: Browser, address: str, cookies: dict[Role, str]) -> None:
    """Take each role's first page at each size in each theme."""
    folder = DOCS / "pictures"
    folder.mkdir(exist_ok=True)
    for role, cookie in cookies.items():
        for size in SIZES:
            for theme in THEMES:
                with window(browser, address, cookie, size, theme) as context:
                    page = context.new_page()
                    page.goto(f"{address}/console/", wait_until="load")
                    take(page, folder / f"{role}-{size}-{theme}.png")


def three_pages(browser: Browser, address: str, cookies: dict[Role, str]) -> None:
    """Take the town, its first microgrid, and, if there is one, the newest bill of a resident."""
    links = {
        "town": (Role.OPERATOR, "/console/town", ""),
        "microgrid": (Role.OPERATOR, "/console/microgrids", "tbody th a"),
        "bill": (Role.RESIDENT, "/console/home", "a[href*='/home/bills/']"),
    }
    for name, (role, path, link) in links.items():
        with window(browser, address, cookies[role], "desktop", "light") as context:
            page = context.new_page()
            page.goto(f"{address}{path}", wait_until="load")
            if link and not page.locator(link).count():
                print(f"there is no {name} yet: its picture stays")
                continue
            if link:
                page.locator(link).first.click()
                page.wait_for_load_state("load")
            take(page, DOCS / f"console-{name}.png")


def _wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + STARTS_WITHIN_S
    while not condition():
        if time.monotonic() > ends:
            raise TimeoutError(f"the demonstration did not start within {STARTS_WITHIN_S} s")
        time.sleep(0.5)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def main() -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(description="Make the documentation's pictures of the console.")
    parser.add_argument("--runs", type=int, default=180, help="seconds that the town runs before, at 60 times")
    asked = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        demonstration(Path(folder) / "data", asked.runs) as (database, address),
    ):
        cookies = {role: person(database, role) for role in PEOPLE}
        with chromium() as browser:
            first_pages(browser, address, cookies)
            three_pages(browser, address, cookies)


if __name__ == "__main__":
    main()
