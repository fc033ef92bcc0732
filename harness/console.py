"""A browser without a network: asks the utility's application as a person who is logged in."""

import re
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
from fastapi import FastAPI

from commonwatt.config.office import OfficeSettings
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from harness.network.one_loop import run
from utility.access.passwords import hash_password
from utility.access.roles import Role
from utility.access.store import access
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.webkit.rights import COOKIE, Gate
from utility.webkit.services import Api

PASSWORD = "three slow green boats"


def standing_api(database: Database, now: EpochSeconds, **others: Any) -> Api:
    """Return what an application uses of a service that stands still at a time, without a broker."""
    named: dict[str, Any] = {"metrics": UtilityMetrics(), "refused": {}, "machine_s": lambda: now}
    # Browsers of the harness have no authenticator apps.
    named["settings"] = UtilitySettings(second_factor="optional", office=office())
    named |= {"clock": Clock(origin=now, monotonic_origin=0, speed=0)} | others
    return Api(database=database, connected=lambda: True, complaint=lambda: "", health=Health(None), **named)


class Browser:
    """One person's browser; without a role nobody is logged in."""

    address = "127.0.0.1"  # the client's network address

    raises = True  # whether an error of the application comes through; otherwise its answer does

    def __init__(self, app: FastAPI, *roles: Role, name: str = "", account: int | None = None) -> None:
        self.app = app
        self.name = name or "-".join(sorted(roles))
        self.cookies = httpx.Cookies()
        self.csrf = ""
        if roles:
            self._log_in(frozenset(roles), account)

    def _log_in(self, roles: frozenset[Role], account: int | None) -> None:
        gate: Gate = self.app.state.gate
        now = gate.now()
        with gate.database.writes.begin() as connection:
            if access.find_person(connection, self.name) is None:
                person = access.Person(
                    name=self.name, display=self.name.title(), state="active", roles=roles, account=account, created=now
                )
                access.add_person(connection, person, "harness")
                access.set_password(connection, self.name, password_hash())
            opened = access.open_session(connection, self.name, "127.0.0.1", "harness", now)
        self.cookies.set(COOKIE, opened.cookie, domain="localhost.local")
        with gate.database.reads.begin() as connection:
            found = access.session_actor(connection, opened.cookie, "127.0.0.1", now)
        assert found is not None
        self.csrf = found[0].csrf

    def get(self, path: str, **options: Any) -> httpx.Response:
        """Ask for a page."""
        return self.send("GET", path, **options)

    def post(self, path: str, fields: dict[str, Any] | None = None, **options: Any) -> httpx.Response:
        """Send a form of a page, with the secret of the session, and the password that some ask again."""
        return self.send("POST", path, data={"current": PASSWORD, **(fields or {}), "csrf": self.csrf}, **options)

    def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send any request with the session's cookie."""

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, client=(self.address, 5), raise_app_exceptions=self.raises)
            async with httpx.AsyncClient(
                transport=transport, base_url="https://localhost", cookies=self.cookies, follow_redirects=False
            ) as client:
                answer = await client.request(method, path, **options)
                self.cookies = client.cookies
                return answer

        return run(ask())


@cache
def office() -> OfficeSettings:
    """Return an office whose key is in a folder of this process."""
    return OfficeSettings(key=Path(mkdtemp()) / "office-key")


@cache
def password_hash() -> str:
    """Return the hash of the password; a process makes it once."""
    return hash_password(PASSWORD)


def text_of(answer: httpx.Response) -> str:
    """Return the words of a page, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", answer.text).split())
