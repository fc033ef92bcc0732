"""The controller's page: one static file over ``/status``, and which request gets which answer.

A password protects both where the settings name its file, by the browser's own login. Beyond this machine they are
served only with a password. ``/metrics`` names no meter and needs none.
"""

import base64
import hashlib
import hmac
import json
import logging
import re
import secrets
from collections.abc import Callable
from math import ceil
from pathlib import Path
from threading import Lock

from commonwatt.config.settings import GatewaySettings
from commonwatt.identity.guesses import Guesses
from commonwatt.identity.passwords import PasswordHash, load_password
from commonwatt.look.palette import flow_picture, parts_of, stylesheet
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import duration
from commonwatt.network.http_server import HttpRequest, Response
from commonwatt.network.tls import Stamp, stamp
from gateway.alarms import View

PAGE = Path(__file__).with_name("page.html").read_text(encoding="utf-8").replace("/* palette */", stylesheet())
USER = "page"  # the one user of guesses: the page has one password, with any user name

NOT_SERVED = (
    "The page and /status need a password beyond this machine. On the controller, add http_password = "
    '"page-password.json" to the gateway\'s file, run: commonwatt gateway password --config FILE, and restart the '
    "gateway.\n"
)
NOT_YET = (
    "The page and /status need a password, and there is none yet, or its file can't be read. On the controller, run: "
    "commonwatt gateway password --config FILE\n"
)
LOG_IN = "A password is needed, with any name; or ask on the controller: commonwatt status --config FILE\n"

log = logging.getLogger(__name__)


def _hash(name: str) -> str:
    """Return the Content-Security-Policy's source of the page's one element of this name."""
    (text,) = re.findall(f"<{name}>(.*?)</{name}>", PAGE, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_POLICY = f"default-src 'none'; style-src {_hash('style')}; script-src {_hash('script')}; connect-src 'self'"
_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", f"{_POLICY}; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),  # Another page's request has the browser's login too.
)


class Site:
    """Answers the requests to one gateway's page, on many threads.

    Args:
        status: Returns the gateway's status; empty until it has read its store.
        now: Returns seconds that only go forward.
    """

    def __init__(self, settings: GatewaySettings, status: Callable[[], View], now: Callable[[], float]) -> None:
        self._controller = settings.controller
        self._status, self._now = status, now
        self._file, self._is_served = settings.http_password, settings.serves_page
        self._password: PasswordHash | None = None
        self._stamp: Stamp | None = None
        self._secret = secrets.token_bytes(32)
        self._right = b""  # a digest of the right password, since its hash takes 16 MiB; empty: not typed yet
        self._guesses = Guesses()
        self._hashing, self._loading = Lock(), Lock()
        if not self._is_served:
            text = "http = %s is beyond this machine, without http_password: the page is not served"
            log.warning(text, settings.http)

    def answer(self, request: HttpRequest) -> Response | None:
        """Answer a request; ``None``: it is not for the page."""
        if request.method != "GET":
            return _answer(405, "nothing can be sent here\n")
        if request.path not in ("/", "/status", "/power"):
            return None
        if (refusal := self._refusal(request)) is not None:
            return refusal
        if request.path == "/":
            return _answer(200, PAGE, "text/html; charset=utf-8")
        status = self._status()
        if request.path == "/status":
            return _answer(200, json.dumps(status), "application/json")
        power = {name: watts for name, watts in (status.get("power") or {}).items() if name != "end"}
        return _answer(200, flow_picture(power["use_w"], parts_of(**power)) if power else "", "image/svg+xml")

    def _refusal(self, request: HttpRequest) -> Response | None:
        """Return why a request may not read; ``None``: it may."""
        if not self._is_served:
            return _answer(403, NOT_SERVED)
        if self._file is None:
            return None
        if (password := self._current()) is None:
            return _answer(403, NOT_YET)
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and hmac.compare_digest(key.encode(), password.local_key().encode()):
            return None
        typed = _typed(key) if scheme.lower() == "basic" else None
        return self._log_in() if typed is None else self._guess(typed, password, request.address)

    def _guess(self, typed: str, password: PasswordHash, address: str) -> Response | None:
        """Return the refusal of a typed password; ``None``: it is right."""
        wait_s = self._guesses.guess(USER, address, self._now())
        if wait_s > 0:
            seconds = ceil(wait_s)
            text = f"Too many wrong passwords. Try again in {duration(seconds)}.\n"
            return _answer(429, text, headers=(("Retry-After", str(seconds)),))
        digest = hmac.digest(self._secret, typed.encode(), "sha256")
        if not hmac.compare_digest(digest, self._right):
            with self._hashing:  # One at a time, since each takes 16 MiB.
                is_right = password.fits(typed)
            with self._loading:
                # A password that was changed meanwhile is not right any more.
                if not is_right or password is not self._password:
                    log.warning("page: a wrong password from %s", address)
                    return self._log_in()
                self._right = digest
            log.info("page: login from %s", address)
        self._guesses.right(USER, address, self._now())
        return None

    def _log_in(self) -> Response:
        asks = f'Basic realm="Controller {self._controller}", charset="UTF-8"'
        return _answer(401, LOG_IN, headers=(("WWW-Authenticate", asks),))

    def _current(self) -> PasswordHash | None:
        """Return the password's hash; ``None``: there is none. If its file changed, read it: the old one ends."""
        assert self._file is not None
        with self._loading:
            if (seen := _stamp(self._file)) != self._stamp:
                self._stamp, self._right = seen, b""
                self._password = None if seen is None else self._load(self._file)
            return self._password

    def _load(self, path: Path) -> PasswordHash | None:
        try:
            return load_password(path)
        except ConfigError as error:
            log.error("page: nobody can log in: %s", error)
            return None


def _typed(key: str) -> str | None:
    """Return the password of a browser's login; ``None``: it is none."""
    try:
        return base64.b64decode(key, validate=True).decode().partition(":")[2]
    except ValueError:  # binascii.Error and UnicodeDecodeError are some
        return None


def _stamp(path: Path) -> Stamp | None:
    try:
        return stamp(path)
    except ConfigError:
        return None


def _answer(
    status: int, body: str, kind: str = "text/plain; charset=utf-8", headers: tuple[tuple[str, str], ...] = ()
) -> Response:
    return Response(status=status, body=body, content_type=kind, headers=(*_HEADERS, *headers))
