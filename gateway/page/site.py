"""The controller's pages with their login: which request gets which answer.

A password protects the pages and ``/status`` where the settings name its file. Beyond this machine they are served only
with a password. ``/metrics`` names no meter and needs none.
"""

import hmac
import logging
from collections.abc import Callable
from math import ceil
from pathlib import Path
from threading import Lock
from zoneinfo import ZoneInfo

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.guesses import Guesses
from commonwatt.identity.passwords import NO_PASSWORD, PasswordHash, load_password
from commonwatt.identity.sessions import Sessions
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import duration
from commonwatt.network.http_pages import Request, Response
from commonwatt.network.tls import Stamp, stamp
from gateway.page import document
from gateway.page.style import POLICY
from gateway.page.words import View

# Real seconds after which a session ends: without a request (an open page sends them by itself), and in any case.
IDLE_S, ABSOLUTE_S = 1800.0, 12 * 3600.0
MAX_SESSIONS = 32  # most sessions; a further login ends the session that was used longest ago
USER = "page"  # the one user of guesses: the page has one password

NOT_SERVED = (
    "The page and /status need a password beyond this machine. On the controller, add http_password = "
    '"page-password.json" to the gateway\'s file, run: commonwatt gateway password --config FILE, and restart the '
    "gateway.\n"
)
NOT_YET = (
    "The page and /status need a password, and there is none yet, or its file can't be read. On the controller, run: "
    "commonwatt gateway password --config FILE\n"
)
LOG_IN = "/status needs a session: log in at /, or ask on the controller: commonwatt status --config FILE\n"

_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", POLICY),
    ("Referrer-Policy", "same-origin"),  # With no-referrer a browser would not name the origin of a form.
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)

log = logging.getLogger(__name__)


class Site:
    """Answers the requests to one gateway's pages, on many threads.

    Args:
        view: Returns the gateway's status; empty until it has read its store.
        now: Returns seconds that only go forward.
    """

    def __init__(self, settings: GatewaySettings, view: Callable[[], View], now: Callable[[], float]) -> None:
        self._controller = settings.controller
        self._view = view
        self._now = now
        self._zone = ZoneInfo(settings.timezone)
        self._file = settings.http_password
        self._password: PasswordHash | None = None
        self._stamp: Stamp | None = None
        self._is_served = settings.serves_page
        secure = settings.http_certificate is not None
        port = (settings.http or "").rpartition(":")[2]
        # The port: browsers send a cookie to every port of a host. The prefix is allowed only with Secure.
        self._cookie = f"{'__Host-' if secure else ''}commonwatt-{port}"
        self._attributes = f"; Path=/; HttpOnly; SameSite=Strict{'; Secure' if secure else ''}"
        self._sessions = Sessions(idle_s=IDLE_S, absolute_s=ABSOLUTE_S, most=MAX_SESSIONS)
        self._guesses = Guesses()
        self._hashing, self._loading = Lock(), Lock()
        if not self._is_served:
            log.warning(
                "http = %s is beyond this machine, without http_password: the page is not served", settings.http
            )

    def answer(self, request: Request) -> Response | None:
        """Answer a request; ``None``: it is not for the pages, or the caller may have ``/status``."""
        path = request.path
        if path not in ("/", "/meters", "/batteries", "/status", "/login", "/logout"):
            return None if request.method == "GET" else _text(405, "nothing can be sent here\n")
        if not self._is_served:
            return _text(403, NOT_SERVED)
        if self._file is not None and self._current() is None:
            return _text(403, NOT_YET)
        if request.method == "POST":
            return self._post(request)
        if not self._may_read(request):
            return _text(401, LOG_IN) if path == "/status" else self._form(200 if path == "/" else 401)
        if path == "/status":
            return None
        return _redirect() if path in ("/login", "/logout") else self._page(path)

    def _page(self, path: str) -> Response:
        view, logs_out = self._view(), self._file is not None
        if not view:
            return _html(200, document.waiting(self._controller))
        make = {"/meters": document.all_meters, "/batteries": document.all_batteries}.get(path, document.overview)
        return _html(200, make(view, self._zone, can_log_out=logs_out))

    def _form(self, status: int, message: str = "", *headers: tuple[str, str]) -> Response:
        return _html(status, document.login(self._controller, message), *headers)

    # Sessions

    def _may_read(self, request: Request) -> bool:
        if self._file is None:
            return True
        password = self._current()
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if password is not None and scheme == "Bearer":
            return hmac.compare_digest(key.encode(), password.local_key().encode())
        token = request.cookie(self._cookie)
        return token is not None and self._sessions.use(token, self._now())

    def _post(self, request: Request) -> Response:
        if request.path not in ("/login", "/logout"):
            return _text(405, "nothing can be sent here\n")
        if not request.is_from_own_page():
            return _text(403, "the form is not of this page\n")
        return self._log_in(request) if request.path == "/login" else self._log_out(request)

    def _log_in(self, request: Request) -> Response:
        if self._file is None:
            return _redirect()
        password = self._current()
        wait_s = self._guesses.guess(USER, request.address, self._now())
        if wait_s > 0:
            seconds = ceil(wait_s)
            text = f"Too many wrong passwords. Try again in {duration(seconds)}."
            return self._form(429, text, ("Retry-After", str(seconds)))
        with self._hashing:  # One at a time, since each takes 16 MiB.
            right = (password or NO_PASSWORD).fits(request.field("password")) and password is not None
        # If the password was changed meanwhile, a session with the old one must not survive.
        if not right or password is not self._current():
            log.warning("page: a wrong password from %s", request.address)
            return self._form(401, "The password is wrong.")
        self._guesses.right(USER, request.address, self._now())
        log.info("page: login from %s", request.address)
        token = self._sessions.open(self._now())
        return _redirect(("Set-Cookie", f"{self._cookie}={token}{self._attributes}"))

    def _log_out(self, request: Request) -> Response:
        if (token := request.cookie(self._cookie)) is not None:
            self._sessions.close(token)
        return _redirect(("Set-Cookie", f"{self._cookie}={self._attributes}; Max-Age=0"))

    # The password

    def _current(self) -> PasswordHash | None:
        """Return the password's hash; ``None``: there is none. If its file changed, read it, and end all sessions."""
        if self._file is None:
            return None
        with self._loading:
            if (seen := _stamp(self._file)) != self._stamp:
                self._stamp = seen
                self._sessions.clear()
                self._password = None if seen is None else self._load(self._file)
            return self._password

    def _load(self, path: Path) -> PasswordHash | None:
        try:
            return load_password(path)
        except ConfigError as error:
            log.error("page: nobody can log in: %s", error)
            return None


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except ConfigError:
        return None


def _html(status: int, body: str, *headers: tuple[str, str]) -> Response:
    return Response(status=status, body=body, content_type="text/html; charset=utf-8", headers=(*_HEADERS, *headers))


def _text(status: int, body: str) -> Response:
    return Response(status=status, body=body, headers=_HEADERS)


def _redirect(*headers: tuple[str, str]) -> Response:
    return Response(status=303, headers=(("Location", "/"), *_HEADERS, *headers))
