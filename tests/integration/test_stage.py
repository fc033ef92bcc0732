"""A visitor of the demonstration: one link a role, each of which logs in once; something happens on stage."""

import re
import signal
import urllib.error
import urllib.parse
import urllib.request
from itertools import pairwise
from pathlib import Path

from commonwatt.demo.people import SEES
from harness.console import PASSWORD
from harness.real.demonstration import FORKING
from tests.integration.test_town import demo, running

LINK = re.compile(r"http://127\.0\.0\.1:\d+/console/invitation/\S+")


def accept(link: str) -> bool:
    """Choose a password by a link; return whether that logged in."""
    address = urllib.parse.urlsplit(link)
    form = urllib.parse.urlencode({"password": PASSWORD}).encode()
    headers = {"Origin": f"{address.scheme}://{address.netloc}"}

    class Stays(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: object) -> None:
            """Follow nothing."""

    try:
        urllib.request.build_opener(Stays).open(urllib.request.Request(link, form, headers), timeout=60)
    except urllib.error.HTTPError as answer:
        return answer.code == 303 and "__Host-commonwatt=" in answer.headers["Set-Cookie"]
    return False


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
        assert all(accept(link) for link in links.values())
        assert not accept(links["clerk"]), "a link works once"
        while "Clouds come up" not in lines[-1]:
            assert lines[-1], "it must go on until the first scene"
            lines.append(said.readline())
        while not (seen := re.fullmatch(r" +see http://127\.0\.0\.1:\d+/console/(\S+)\n", said.readline())):
            pass  # The line is wrapped.
        assert seen[1] == "town"
        process.send_signal(signal.SIGINT)
        output = said.read()
    assert process.returncode == 0, output
    assert "nothing lost, nothing counted twice" in output
