"""What commands ask the utility's service as the person who logged in: ``commonwatt login`` keeps a token for them."""

import json
import os
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.progress import Progress

from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.running import ask_service, local_headers
from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError
from commonwatt.runtime.files import write_private
from utility.webkit.cli.options import load

_LOOK_S = 0.1  # real seconds between two looks at a long work

_NEXT = "log in with: commonwatt login --config {config}"

_pause = Event()


@dataclass(frozen=True, kw_only=True)
class Login:
    """A login of commands, as its file has it."""

    address: str  # the service's address, the only one to which the token is sent
    name: str  # the person
    token: str  # the token


def login_file() -> Path:
    """Return the file of the login, in the folder of this machine's user."""
    return Path.home() / ".config" / "commonwatt" / "login.json"


def keep_login(login: Login) -> None:
    """Store a login; only this machine's user can read it."""
    login_file().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(login_file(), json.dumps(asdict(login)) + "\n")


def _by_login(settings: UtilitySettings, method: str, path: str, content: object) -> tuple[int, bytes]:
    try:
        login = Login(**json.loads(login_file().read_text()))
    except (OSError, ValueError, TypeError):
        return 401, b'{"detail": "nobody is logged in here"}'
    if login.address != settings.http:
        return 401, b'{"detail": "the login here is for the service at another address"}'
    headers = {"Authorization": f"Bearer {login.token}"}
    return ask_service(settings.http, settings.http_certificate, headers, method, path, content)


# Asks the service: its settings, the method, the path, the content; returns status and body.
Way = Callable[[UtilitySettings, str, str, object], tuple[int, bytes]]
WAY: ContextVar[Way] = ContextVar("way", default=_by_login)  # how commands ask the service


def read(config: Path, path: str) -> Any:
    """Return what the service answers; without a login, to a program that can read the service's token file.

    Raises:
        CommonwattError: As ``ask``.
    """
    return ask(config, "GET", path, by_file=True)


def ask(config: Path, method: str, path: str, content: object = None, *, by_file: bool = False) -> Any:
    """Return the content of the service's answer to the person who is logged in.

    Args:
        by_file: Whether the service's token file will do, where nobody is logged in.

    Raises:
        ConfigError: No person is logged in, or the service refuses; says why.
        StoreError: The service does not answer.
        CommonwattError: The service failed.
    """
    settings, _ = load(config)
    try:
        code, body = WAY.get()(settings, method, path, content)
        if code == 401 and by_file and os.access(settings.tokens, os.R_OK):
            headers = local_headers(settings)
            code, body = ask_service(settings.http, settings.http_certificate, headers, method, path, content)
    except (OSError, HTTPException) as error:
        raise StoreError(
            f"{settings.http}: no answer ({str(error) or type(error).__name__}). Start the service; if it can't be "
            "started and a decision can't wait: commonwatt utility break-glass"
        ) from error
    if code == 401:
        raise ConfigError(f"{reason_of(body)}; {_NEXT.format(config=config)}")
    if 400 <= code < 500:
        raise ConfigError(reason_of(body))
    if code >= 500:
        raise CommonwattError(reason_of(body))
    return json.loads(body)


def name_of_login(config: Path, role: str) -> str:
    """Return the name of the person who is logged in, for what a command does on this machine.

    Raises:
        ConfigError: No person is, or the person does not have the role.
    """
    me = ask(config, "GET", "/me")
    if role not in me["roles"]:
        raise ConfigError(f"{me['name']}: this needs the role {role}")
    return str(me["name"])


def work(config: Path, path: str, content: object = None) -> str:
    """Begin a long work at the service, and wait for its end; return the path of its result.

    Raises:
        CommonwattError: It is refused, or failed; says why.
    """
    begun = ask(config, "POST", path, content)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(begun["what"], total=None)
        while begun["state"] in ("waiting", "running"):
            _pause.wait(_LOOK_S)
            begun = ask(config, "GET", f"/works/{begun['id']}")
            progress.update(task, completed=begun["done"], total=begun["whole"] or None)
    if begun["state"] == "failed":
        raise CommonwattError(begun["fault"])
    return str(begun["result"])


def reason_of(body: bytes) -> str:
    """Return why a request was refused."""
    try:
        detail = json.loads(body)["detail"]
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
    if isinstance(detail, list):
        return "\n".join(
            fault if isinstance(fault, str) else f"{'.'.join(map(str, fault['loc'][1:]))}: {fault['msg']}"
            for fault in detail
        )
    return str(detail)
