"""``commonwatt login``: password and second factor at the prompt, for the commands that decide."""

import json
from collections.abc import Callable, Mapping
from http.client import HTTPException
from http.cookies import SimpleCookie
from socket import gethostname
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from commonwatt.config.utility import UtilitySettings
from commonwatt.doctor.running import connect_to
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.runtime.service import errors_reported
from utility.access.roles import Role
from utility.webkit.cli.options import ConfigOption, load
from utility.webkit.cli.service import Login, keep_login, login_file, reason_of

app = typer.Typer(help="Log in for the commands that decide: tariffs, bills, corrections, releases.")

HOURS = 12  # for how long a login is valid
_ROLES = (Role.CLERK, Role.APPROVER)  # the roles that commands use


@app.callback(invoke_without_command=True)
def login(
    config: ConfigOption,
    name: Annotated[str, typer.Option("--name", prompt="Name", help="Your name at login.")],
) -> None:
    """Log in with your password, and a code if you have a second factor; both are asked for.

    Commands that decide act as you for 12 hours, with your roles clerk and approver. The login is a token: it is in a
    file that only this machine's user can read, and the console's page of tokens shows and ends it.
    """
    with errors_reported():
        settings, _ = load(config)
        visit = _Visit(settings)
        visit.log_in(name, typer.prompt("Password", hide_input=True), lambda: str(typer.prompt("Code of your app")))
        keep_login(Login(address=settings.http, name=name, token=visit.token()))
    typer.echo(f"logged in as {name} for {HOURS} hours; the login is in {login_file()}, and ends on the page of tokens")


class _Visit:
    """A short session at the console, by its own forms: guesses count as they do there."""

    def __init__(self, settings: UtilitySettings) -> None:
        self._settings = settings
        self._cookies: dict[str, str] = {}

    def log_in(self, name: str, password: str, code: Callable[[], str]) -> None:
        """Open the session; ``code`` asks for a code."""
        status, place, _ = self._send("POST", "/console/login", {"name": name, "password": password})
        if status == 303 and place.startswith("/console/login/code"):
            status, _, _ = self._send("POST", "/console/login/code", {"code": code()})
        if status == 429:
            raise ConfigError("too many wrong ones; try again later")
        if status != 303:
            raise ConfigError("the name, the password or the code is wrong")

    def token(self) -> str:
        """Return a token for commands, and end the session."""
        me = self._json("GET", "/me", {})
        headers = {"X-CSRF": me["csrf"], "Content-Type": "application/json"}
        roles = [role for role in _ROLES if role in me["roles"]]
        if not roles:
            raise ConfigError(f"{me['name']}: has neither the role clerk nor approver; no command needs a login")
        asked = {"label": f"commonwatt login at {gethostname()}"[:64], "roles": roles, "hours": HOURS}
        made = self._json("POST", "/tokens", headers, json.dumps(asked))
        self._send("POST", "/console/logout", {"csrf": me["csrf"]})
        return str(made["token"])

    def _json(self, method: str, path: str, headers: Mapping[str, str], body: str | None = None) -> Any:
        status, _, content = self._ask(method, path, headers, body)
        if status >= 400:
            raise ConfigError(reason_of(content))
        return json.loads(content)

    def _send(self, method: str, path: str, fields: Mapping[str, str]) -> tuple[int, str, bytes]:
        return self._ask(method, path, {"Content-Type": "application/x-www-form-urlencoded"}, urlencode(fields))

    def _ask(self, method: str, path: str, headers: Mapping[str, str], body: str | None) -> tuple[int, str, bytes]:
        """Return status, place and content of an answer; keep its cookies."""
        settings = self._settings
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        connection = connect_to(settings.http, settings.http_certificate)
        try:
            connection.request(method, path, body, {**headers, **cookies})
            with connection.getresponse() as answer:
                for text in answer.headers.get_all("Set-Cookie", ()):
                    self._cookies |= {name: one.value for name, one in SimpleCookie(text).items()}
                return answer.status, answer.headers.get("Location", ""), answer.read()
        except (OSError, HTTPException) as error:
            raise StoreError(f"{settings.http}: no answer ({str(error) or type(error).__name__})") from error
        finally:
            connection.close()
