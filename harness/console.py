"""A browser without a network: asks the utility's application as a person who is logged in, or as a program."""

import asyncio
import re
from collections.abc import Coroutine
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from threading import Thread
from typing import Any, TypeVar

import httpx
from fastapi import FastAPI

from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock
from utility.access.passwords import hash_password
from utility.access.people import Role
from utility.access.secrets import STEP_S, code_of
from utility.access.store import access
from utility.assembly.metrics import UtilityMetrics
from utility.database.database import Database
from utility.database.health import Health
from utility.settings import OfficeSettings, UtilitySettings
from utility.webkit.rights import COOKIE, Gate
from utility.webkit.services import Api

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, which runs on the loop, while this thread waits."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # The threads on which endpoints run live as long as the loop's first task.
    Thread(target=loop.run_until_complete, args=(asyncio.Event().wait(),), name="requests", daemon=True).start()
    return loop


def local_headers(app: FastAPI) -> dict[str, str]:
    """Return the header of a program that can read the utility's token file."""
    gate: Gate = app.state.gate
    return {"Authorization": f"Bearer {gate.local_key}"}


class Client:
    """Asks an application without a network, as a program on the utility's machine."""

    def __init__(self, app: FastAPI) -> None:
        self._transport = httpx.ASGITransport(app=app)
        self._headers = local_headers(app)

    def get(self, path: str, params: dict[str, Any] | None = None) -> httpx.Response:
        async def ask() -> httpx.Response:
            options: dict[str, Any] = {"transport": self._transport, "headers": self._headers}
            async with httpx.AsyncClient(base_url="http://utility", **options) as client:
                return await client.get(path, params=params)

        return asyncio.run(ask())


def shown(seed: str, now: float) -> str:
    """Return the code that the app shows at a time, epoch seconds."""
    return code_of(seed, int(now) // STEP_S)


def wrong(seed: str, now: float) -> str:
    """Return a code that is not accepted at a time."""
    right = {code_of(seed, int(now) // STEP_S + step) for step in range(-3, 4)}
    return next(code for code in map("{:06}".format, range(10)) if code not in right)


NOT_FOR_PEOPLE = {
    "a setting's name": re.compile(r"\b[a-z]+(_[a-z]+)*_(s|w|mwh|percent|permille|bytes)\b"),
    "a strategy's name in files": re.compile(r"\bspec\b"),
    "a value of a file": re.compile(r"\((file|none)\)|=as in"),
    "a validator's text": re.compile(r"Input should be|Value error|[Ss]tring should"),
    "epoch seconds": re.compile(r"\b1[5-9]\d{8}\b"),
    "a time for programs": re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?Z|\d{4}-\d\d-\d\dT\d\d:\d\d"),
    "a command line": re.compile(r"\bcommonwatt [a-z]+ |(?<!\S)--[a-z]"),
}
"""What no page shows, but in examples of code."""

ENGINEERS = re.compile(
    r"\b(fresh|slots?|relay(s|ed)?|puts|compact|levels|witness(es)?|dead letters?|requested blocks|last event|tiers?"
    r"|ven|lapsed)\b",
    re.IGNORECASE,
)
"""Words that other people read only with their sentence beside them (macro ``term``)."""

_TERM = re.compile(r'<abbr class="term" tabindex="0" title="[^"]+">[^<]*</abbr>')
_MAIN = re.compile(r"<main.*?</main>", re.DOTALL)
_CODE = re.compile(r"<(pre|code|textarea|script)\b.*?</\1>|<[^>]*>", re.DOTALL)


def words_of(page: str) -> str:
    """Return the words of a page, without examples of code; also of a part of a page."""
    main = _MAIN.search(page)
    return " ".join(_CODE.sub(" ", main[0] if main else page).split())


def unexplained(page: str) -> list[str]:
    """Return an engineer's words on a page that stand there without their sentence, with what is around them."""
    text = words_of(_TERM.sub(" ", page))
    return [text[max(0, at.start() - 40) : at.end() + 20] for at in ENGINEERS.finditer(text)]


def faults_of_words(text: str) -> list[str]:
    """Return what is not for people, with what stands around it."""
    return [
        f"{what} on the page: …{text[max(0, at.start() - 40) : at.end() + 20]}…"
        for what, words in NOT_FOR_PEOPLE.items()
        for at in words.finditer(text)
    ]


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
