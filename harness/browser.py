"""A real Chromium before a served utility: what its pages request, complain about, and violate."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import html5lib
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Locator, Page, sync_playwright

from harness.console import Browser as Person
from harness.console import faults_of_words
from harness.network.waiting import PATIENCE_S
from harness.real.parts import real_part
from utility.webkit.rights import COOKIE

_TEXT = """() => { const it = document.querySelector("main").cloneNode(true);
  for (const one of it.querySelectorAll("pre, code, textarea, script")) one.remove();
  return it.textContent.replace(/\\s+/g, " "); }"""
STARTS_WITHIN_S = 30
_MOST_TABS = 200


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium; without it the test is skipped."""
    program = real_part("chromium")
    with sync_playwright() as playwright:
        # In CI the browser runs as root, where its sandbox can't start.
        browser = playwright.chromium.launch(executable_path=str(program), headless=True, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of this machine; yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        ends = time.monotonic() + STARTS_WITHIN_S
        while not server.started and time.monotonic() < ends:
            time.sleep(0.01)
        assert server.started
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(STARTS_WITHIN_S)


@dataclass
class Visit:
    """A person's window, and everything that was wrong in it."""

    page: Page  # the window
    address: str  # the utility's address
    # Errors of scripts, violations of the content policy, failed and foreign requests.
    faults: list[str] = field(default_factory=list)
    scripts: bool = True  # whether scripts run in it

    def __post_init__(self) -> None:
        self.page.on("console", lambda told: self._told(told.type, told.text))
        self.page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        self.page.on("request", lambda request: self._requested(request.url))

    def _told(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"{kind}: {text}")

    def _requested(self, url: str) -> None:
        if urlsplit(url).netloc != urlsplit(self.address).netloc and not url.startswith("data:"):
            self.faults.append(f"foreign request: {url}")

    def open(self, path: str) -> None:
        """Open a page, and wait until it has loaded everything."""
        answer = self.page.goto(self.address + path, wait_until="networkidle")
        assert answer is not None
        if answer.status >= 400:
            self.faults.append(f"{path}: status {answer.status}")
        self.faults += html_faults(answer.text())

    def check(self) -> list[str]:
        """Return what is wrong with the page as it is: accessibility, HTML, width, and all earlier faults."""
        found = list(self.faults)
        if not self.scripts:
            return found  # What examines a page is a script.
        for violation in (
            Axe().run(self.page, options={"rules": {"target-size": {"enabled": True}}}).response["violations"]
        ):
            places = [node["target"] for node in violation["nodes"][:3]]
            found.append(f"axe {violation['id']}: {violation['help']} at {places}")
        text = self.page.evaluate(_TEXT)
        found += faults_of_words(text)
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if wide > 0:
            found.append(f"the page is {wide} pixels wider than the window")
        return found


def press(target: Locator, is_touched: bool) -> None:
    """Press a button or follow a link, by touch or with the keyboard alone."""
    if is_touched:
        target.tap()
    else:
        by_keyboard(target)


def by_keyboard(target: Locator, text: str | None = None, key: str = "Enter") -> None:
    """Go to an element with the Tab key alone; type a text over what is there, or press a key."""
    target.wait_for()
    keys = target.page.keyboard
    for _ in range(_MOST_TABS):
        if target.evaluate("it => it === document.activeElement"):
            break
        keys.press("Tab")
    else:
        raise AssertionError(f"{_MOST_TABS} times the Tab key do not lead to {target}")
    if text is None:
        keys.press(key)
        return
    keys.press("Control+A")
    keys.insert_text(text)


def html_faults(text: str) -> list[str]:
    """Return the errors in the text of a page, by the rules of the HTML standard."""
    parser = html5lib.HTMLParser()
    parser.parse(text)
    return [f"HTML {code} at {place} {details}" for place, code, details in parser.errors]


def visit(
    browser: Browser,
    address: str,
    person: Person | None,
    *,
    width: int = 1280,
    dark: bool = False,
    touch: bool = False,
    scripts: bool = True,
) -> Visit:
    """Open a window, logged in as a person; with ``touch`` its screen is a phone's; ``scripts``: whether any runs."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
        timezone_id="America/New_York",
        reduced_motion="reduce",
        has_touch=touch,
        java_script_enabled=scripts,
    )
    context.set_default_timeout(PATIENCE_S * 1000)  # A busy machine is no fault.
    if person is not None:
        secure = address.replace("http:", "https:")
        value = person.cookies[COOKIE]
        context.add_cookies(
            [{"name": COOKIE, "value": value, "url": secure, "secure": True, "httpOnly": True, "sameSite": "Lax"}]
        )
    return Visit(context.new_page(), address, scripts=scripts)
