"""``commonwatt utility people``: what can't wait for a browser, as the first invitation or a lost second factor."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.words import moment
from commonwatt.network.addresses import is_loopback
from commonwatt.runtime.clock import machine_s
from utility.access.roles import Role
from utility.access.rules import NewPerson
from utility.access.store import second_factors
from utility.access.store.acting import By, Link
from utility.people import store as people
from utility.webkit.cli.options import Commands, ConfigOption, from_file, load, local_actor

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
