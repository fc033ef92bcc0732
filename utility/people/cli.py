"""``commonwatt login`` and ``commonwatt utility people``: log in at the prompt; people without a browser."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from http.cookies import SimpleCookie
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from commonwatt.doctor.running import connect_to
from commonwatt.model.exceptions import ConfigError, StoreError
from commonwatt.model.text import moment
from commonwatt.network.addresses import is_loopback
from commonwatt.runtime.clock import machine_s
from commonwatt.runtime.service import errors_reported
from utility.access.people import NewPerson, Role
from utility.access.store import second_factors
from utility.access.store.audit_log import By, Link
from utility.people import store as people
from utility.settings import UtilitySettings
from utility.webkit.cli import (
    Commands,
    ConfigOption,
    Login,
    from_file,
    keep_login,
    load,
    local_actor,
    login_file,
    reason_of,
)

app = typer.Typer(help="Log in for the commands that decide: tariffs, bills, corrections, releases.")

HOURS = 12  # for how long a login is valid
_ROLES = (Role.CLERK, Role.APPROVER)  # the roles of each login


@app.callback(invoke_without_command=True)
def login(
    config: ConfigOption,
    name: Annotated[str, typer.Option("--name", prompt="Name", help="Your name at login.")],
    role: Annotated[list[Role] | None, typer.Option("--role", help="A further role; may be repeated.")] = None,
) -> None:
    """Log in with your password, and a code if you have a second factor; both are asked for.

    Commands that decide act as you for 12 hours, with your roles clerk and approver, and those of --role. The login is
    a token: it is in a file that only this machine's user can read, and the console's page of tokens shows and ends it.
    """
    with errors_reported():
        settings, _ = load(config)
        visit = _Visit(settings)
        visit.log_in(name, typer.prompt("Password", hide_input=True), lambda: str(typer.prompt("Code of your app")))
        keep_login(Login(address=settings.http, name=name, token=visit.token(role or ())))
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

    def token(self, further: Collection[Role]) -> str:
        """Return a token for commands, with the further roles that a person asks for, and end the session."""
        me = self._json("GET", "/me", {})
        if lacks := [role for role in further if role not in me["roles"]]:
            raise ConfigError(f"{me['name']}: has not the role {', '.join(lacks)}; it has {', '.join(me['roles'])}")
        headers = {"X-CSRF": me["csrf"], "Content-Type": "application/json"}
        roles = [role for role in (*_ROLES, *further) if role in me["roles"]]
        if not roles:
            raise ConfigError(f"{me['name']}: has none of the roles {', '.join(_ROLES)}; see --role")
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


people_app = Commands(no_args_is_help=True, help="People who log in to the console: invite, new link, disable.")

NameArgument = Annotated[str, typer.Argument(help="The person's name at login.")]


@people_app.command()
def invite(
    name: NameArgument,
    config: ConfigOption,
    role: Annotated[list[Role], typer.Option("--role", help="A role; may be repeated.")],
    display: Annotated[str, typer.Option("--display", help="The name for people; without it, the name.")] = "",
    account: Annotated[int | None, typer.Option("--account", min=1, help="A resident's account.")] = None,
) -> None:
    """Invite a person, and print the link with which the person chooses a password.

    The link works once, for seven days, and is printed only now. The first administrator of a machine without a
    browser: `commonwatt utility people invite anna --role admin --config utility.toml`, then open the link through a
    tunnel: `ssh -L 8080:127.0.0.1:8080 MACHINE`.
    """
    with _changing(config) as (by, settings):
        new = NewPerson(name=name, display=display, roles=frozenset(role), account=account)
        _told(settings, people.invite_person(by, new))


@people_app.command()
def link(name: NameArgument, config: ConfigOption) -> None:
    """Print a new link for a person who lost the password; the present password, sessions and tokens end at once."""
    with _changing(config) as (by, settings):
        _told(settings, people.new_link(by, name))


@people_app.command()
def disable(name: NameArgument, config: ConfigOption) -> None:
    """Disable a person: no login works until the console enables it; sessions, tokens and links end."""
    with _changing(config) as (by, _):
        people.disable(by, name)
        typer.echo(f"{name} is disabled")


@people_app.command("remove-second-factor")
def remove_second_factor(name: NameArgument, config: ConfigOption) -> None:
    """Remove the second factor of a person who lost it, such as of the only administrator; all sessions end."""
    with _changing(config) as (by, _):
        second_factors.remove_of_another(by, name)
        typer.echo(f"{name} has no second factor any more")


@people_app.command()
def demonstration(config: ConfigOption) -> None:
    """Print links for people of a demonstration who did not log in yet, one of each role, as JSON; make these people.

    Only for a demonstration, which has a `clock`, on this machine's own network.
    """
    with _changing(config) as (by, settings):
        if settings.clock is None or not is_loopback(settings.http):
            raise ConfigError(f"{config}: is no demonstration with a `clock` on a loopback address; use: people invite")
        links = people.demonstration_links(by)
        typer.echo(json.dumps([{"role": role, "link": _address(settings, one)} for role, one in links]))


@contextmanager
def _changing(config: Path) -> Iterator[tuple[By, UtilitySettings]]:
    with from_file(config) as (database, clock), database.writes.begin() as connection:
        by = By(connection=connection, actor=local_actor(), now=int(clock.now()), machine_s=machine_s())
        yield by, load(config)[0]


def _told(settings: UtilitySettings, link: Link) -> None:
    typer.echo(f"{link.name}: open {_address(settings, link)} before {moment(link.until)} and choose a password")


def _address(settings: UtilitySettings, link: Link) -> str:
    scheme = "http" if settings.http_certificate is None else "https"
    return f"{scheme}://{settings.http}{link.path}"
