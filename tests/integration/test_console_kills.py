"""The utility is killed while it handles a form: the change is made whole, with its audit entry, or not at all."""

import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.console import PASSWORD
from harness.network.waiting import PATIENCE_S
from harness.real.site import Site
from utility.webkit.rights import COOKIE

TOWN = 'microgrid = [{id = "r", kind = "residential", count = 1, houses = 1}]\n'
EVE = {"name": "eve", "display": "Eve", "roles": "viewer"}


class Admin:
    """The first administrator's browser, which keeps its cookie over restarts."""

    def __init__(self, site: Site) -> None:
        self.address = f"http://{site.layout.part('utility').http}"
        done = httpx.post(site.first_login(), data={"password": PASSWORD}, timeout=30)
        assert done.status_code == 303
        self.headers = {"Cookie": f"{COOKIE}={done.cookies[COOKIE]}"}

    def get(self, path: str) -> str:
        answer = httpx.get(self.address + path, headers=self.headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.text

    def invite_eve(self) -> httpx.Response:
        found = re.search(r'name="csrf" content="([^"]+)"', self.get("/console/users"))
        assert found is not None
        fields = {**EVE, "csrf": found[1], "current": PASSWORD}
        return httpx.post(self.address + "/console/users", data=fields, headers=self.headers, timeout=30)

    def invited(self) -> tuple[bool, int]:
        """Return whether Eve is there, and how many entries of the audit log name her."""
        is_there = "/console/users/eve" in self.get("/console/users")
        return is_there, self.get("/console/audit?subject=eve").count(">invited a person</td>")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path / "site", TOWN) as made:
        yield made


@pytest.mark.parametrize("when", ["before", "after"])
def test_form_at_whose_commit_the_utility_dies_is_whole_or_not_there(site: Site, when: str) -> None:
    site.start("utility")
    admin = Admin(site)
    site.stop("utility")
    patched = "from harness.real.mid_form import main; main()"
    site.commands["utility"] = [sys.executable, "-c", patched, when, *site.layout.part("utility").command[4:]]
    site.start("utility")
    with pytest.raises(httpx.TransportError):
        admin.invite_eve()
    assert site.processes.pop("utility").wait(PATIENCE_S) == -signal.SIGKILL
    del site.commands["utility"]
    site.start("utility")
    assert admin.invited() == ((True, 1) if when == "after" else (False, 0))
    again = admin.invite_eve()
    assert (again.status_code == 200) is (when == "before"), again.text
    assert admin.invited() == (True, 1)
