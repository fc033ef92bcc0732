"""What the console's pages share: the service behind them, and how a page is rendered."""

import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, unquote
from zoneinfo import ZoneInfo

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from commonwatt.identity.guesses import Guesses
from commonwatt.look.writing import DOLLARS, NUMBERS, Writing
from commonwatt.model.units import AccountNumber, EpochSeconds
from commonwatt.network.addresses import is_loopback
from utility.access.people import STAFF, Actor
from utility.database.database import Database
from utility.webkit.console.live import Streams
from utility.webkit.console.navigation import NavigationEntry, entries_for, groups_of
from utility.webkit.console.rendering import Renderer, console_renderer
from utility.webkit.console.static_files import StaticFiles, load_static
from utility.webkit.services import Api

SAID = "__Host-commonwatt-said"  # the cookie of the message that the next page shows, once
_ASKED = re.compile(r"(?:^|,)\s*(en|de|es)\b")  # the first language of a browser that pages have
_SEAL = 32  # characters of it that prove that it is ours
_OPTIONS: dict[str, Any] = {"path": "/", "secure": True, "httponly": True, "samesite": "lax"}


@dataclass(frozen=True)
class Console:
    """The console of one utility."""

    api: Api  # the service behind the pages
    static: StaticFiles = field(default_factory=load_static)  # the files that pages load
    guesses: Guesses = field(default_factory=Guesses)  # counts guesses of passwords in open sessions
    streams: Streams = field(default_factory=Streams)  # tell browsers what has changed
    renderer: Renderer = field(default_factory=console_renderer)  # renders templates
    # Return what rooms above have shown on every page of staff, by variable.
    shared: dict[str, Callable[[], object]] = field(default_factory=lambda: {"board": lambda: None})
    # Return how an account's pages are written, set by a room above; ``None``: nothing says it; without a
    # currency: the language alone.
    written: list[Callable[[AccountNumber], Writing | None]] = field(default_factory=list)

    @property
    def database(self) -> Database:
        """The database."""
        return self.api.database

    @property
    def demonstration(self) -> Path | None:
        """The folder of the demonstration whose console it is; ``None``: it is of a real town."""
        settings = self.api.settings
        return settings.clock.parent if settings.clock is not None and is_loopback(settings.http) else None

    def now(self) -> EpochSeconds:
        """Return the time of the service's clock, by which all values of pages have their age."""
        return int(self.api.clock.now())

    def zone(self) -> ZoneInfo:
        """Return the town's time zone, of all times and days of pages."""
        return self.api.zone.read()

    def entries(self, actor: Actor) -> list[NavigationEntry]:
        """Return the pages that a person is offered."""
        return entries_for(
            actor, self.demonstration is not None, self.api.zone.street, self.api.settings.site is not None
        )

    def reader(self, request: Request, actor: Actor | None, account: AccountNumber | None = None) -> Writing:
        """Return how a page is written: in English for staff, else as its account says, else as the browser asks."""
        if actor is not None and actor.has(*STAFF):
            return DOLLARS
        account = actor.account if actor is not None else account
        said = next((written(account) for written in self.written if account is not None), None)
        asked = _ASKED.search(request.headers.get("accept-language", "en").lower())
        town = self.api.zone
        currency = "$" if town.currency == "USD" else town.currency
        if said is not None and said.currency:
            return said
        language = said.language if said else town.language or (asked[1] if asked else "en")
        return Writing(language=language, numbers=NUMBERS.get(language, DOLLARS.numbers), currency=currency)

    def page(
        self,
        request: Request,
        actor: Actor | None,
        template: str,
        content: Mapping[str, Any],
        status: int = 200,
        zone: ZoneInfo | None = None,
    ) -> HTMLResponse:
        """Return a page.

        Args:
            actor: The person who asks; ``None``: nobody is logged in.
            content: Its variables, besides those of every page: ``actor``, ``now``, ``zone``, ``emulated_until``,
                ``pace`` (town seconds in a real one), ``machine_s`` (by which sessions end), ``csrf_secret``,
                ``navigation``, ``searches`` (whether there is a search), ``here`` (the request's path), ``message``,
                ``reader`` (how it is written) and ``board`` (the alarms; none for those who may not see them).
            zone: The zone of its times; ``None``: the town's, from the database.
        """
        is_staff, zone = actor is not None and actor.has(*STAFF), zone or self.zone()
        reader: Writing = content.get("reader") or self.reader(request, actor)
        shared = {
            "actor": actor,
            "now": self.now(),
            "zone": zone,
            "emulated_until": self.api.zone.emulated_until,
            "pace": self.api.clock.speed,
            "machine_s": self.api.machine_s(),
            "csrf_secret": "" if actor is None else actor.csrf,
            "searches": is_staff,
            "navigation": [] if actor is None else groups_of(self.entries(actor)),
            "here": request.url.path,
            "message": reader.counted(_message(request, actor)),
            **{name: make() if is_staff else None for name, make in self.shared.items()},
            "reader": reader,
        }
        shared |= {} if is_staff else {"writing": reader}
        answer = HTMLResponse(self.renderer.render(template, {**shared, **content}), status)
        if shared["message"]:
            answer.delete_cookie(SAID, **_OPTIONS)
        return answer

    def see_other(self, actor: Actor, path: str, message: str = "") -> RedirectResponse:
        """Return the answer to a form: go to a page, which shows a message once."""
        answer = RedirectResponse(path, 303)
        if message:
            answer.set_cookie(SAID, _seal(actor, message[:800]) + quote(message[:800], safe=""), max_age=60, **_OPTIONS)
        return answer

    def fragment(self, request: Request, actor: Actor, template: str, content: Mapping[str, Any]) -> HTMLResponse:
        """Return a part of a page, for htmx; its variables are those of ``page``."""
        return self.page(request, actor, template, content)


def _message(request: Request, actor: Actor | None) -> str:
    """Return the message of the last form; only ours and of this session, and not for a part of a page."""
    said = request.cookies.get(SAID, "")
    seal, message = said[:_SEAL], unquote(said[_SEAL:])
    if actor is None or request.headers.get("hx-request") or not message:
        return ""
    return message if hmac.compare_digest(seal.encode(), _seal(actor, message).encode()) else ""


def _seal(actor: Actor, message: str) -> str:
    return hmac.digest(actor.csrf.encode(), message.encode(errors="replace"), "sha256").hex()[:_SEAL]


async def console_of(request: Request) -> Console:
    """Return the console that is asked."""
    console: Console = request.app.state.console
    return console


RequestConsole = Annotated[Console, Depends(console_of)]  # the console that is asked, of a route
