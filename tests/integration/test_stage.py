"""A visitor of the demonstration: one link a role, each of which logs in once; something happens, and more by order."""

import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from itertools import pairwise
from pathlib import Path

from commonwatt.demo.console import SEES
from commonwatt.demo.tour import stage_of
from harness.console import PASSWORD
from harness.network.waiting import eventually
from harness.real.demonstration import FORKING
from tests.integration.test_town import demo, running

LINK = re.compile(r"http://127\.0\.0\.1:\d+/console/invitation/\S+")


class Stays(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Follow nothing."""


def ask(address: str, cookie: str = "", **form: str) -> tuple[str, str]:
    """Send a form, or ask for a page; return the page or where the answer leads, and the cookie of a login."""
    headers = {"Origin": address[: address.index("/console")], "Cookie": cookie}
    body = urllib.parse.urlencode(form).encode() if form else None
    try:
        with urllib.request.build_opener(Stays).open(
            urllib.request.Request(address, body, headers), timeout=60
        ) as page:
            return page.read().decode(), ""
    except urllib.error.HTTPError as answer:
        return answer.headers.get("Location", ""), answer.headers.get("Set-Cookie", "").partition(";")[0]


def accept(link: str) -> str:
    """Choose a password by a link; return the cookie of that login; empty: it was refused."""
    return ask(link, password=PASSWORD)[1]


def cut_a_feeder(data: Path, address: str, cookie: str) -> list[str]:
    """Press the button as an operator; return what the page says of r001 when it is well again."""
    page = f"{address}/console/tour"
    (csrf,) = set(re.findall(r'name="csrf" value="([^"]+)"', ask(page, cookie)[0]))
    assert "Cut%20a%20feeder" in ask(f"{page}/feeder", cookie, csrf=csrf)[1]
    eventually(
        lambda: stage_of(data)["steps"][0]["state"] == "well again", 900
    )  # On a busy machine time passes slowly.
    text = ask(page, cookie)[0]
    assert '<span aria-hidden="true">●</span> well again' in text
    assert '<span class="badge good"><span aria-hidden="true">●</span> audit: all readings older than' in text
    return re.findall(r'<a href="/console/microgrids/r001">([^<]+)</a> \S', text)


def links_of(lines: list[str]) -> dict[str, str]:
    return {
        line.split(":")[0]: following.strip()
        for line, following in pairwise(lines)
        if LINK.fullmatch(following.strip())
    }


def test_a_visitor_logs_in_once_by_each_roles_link_and_sees_something_happen(tmp_path: Path) -> None:
    data = tmp_path / "town"
    with running(demo(data, "--speed", "120", program=FORKING), tmp_path) as (process, said):
        lines = [said.readline()]
        while "eight things to try" not in lines[-1]:
            assert lines[-1], "it must run"
            lines.append(said.readline())
        links = links_of(lines)
        assert list(links) == list(SEES)
        cookies = {role: accept(link) for role, link in links.items()}
        assert all(cookie.startswith("__Host-commonwatt=") for cookie in cookies.values())
        assert not accept(links["clerk"]), "a link works once"
        address = links["operator"].partition("/console")[0]
        told = cut_a_feeder(data, address, cookies["operator"])
        assert [one for one in told if "shares" not in one and "Guests" not in one] == [
            "Cut a feeder: well again.",
            "r001 is back on the town&#39;s net.",
            "r001 is an island.",
            "The feeder of r001 is cut for half an hour.",
        ]
        assert ask(f"{address}/console/tour/feeder", cookies["viewer"], csrf="any") == ("", ""), "it is refused"
        while "Clouds come up" not in lines[-1]:
            assert lines[-1], "it must go on until the first scene"
            lines.append(said.readline())
        assert any(line.startswith("10:") and "r001 is an island." in line for line in lines), "the terminal has it too"
        while not (seen := re.fullmatch(r" +see http://127\.0\.0\.1:\d+/console/(\S+)\n", said.readline())):
            pass  # The line is wrapped.
        assert seen[1] == "town"
        process.send_signal(signal.SIGINT)
        output = said.read()
    assert process.returncode == 0, output
    assert "nothing lost, nothing counted twice" in output
