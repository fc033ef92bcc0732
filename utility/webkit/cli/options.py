"""The utility's commands: their ``--config`` option, and the settings and database it opens."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from getpass import getuser
from pathlib import Path
from typing import Annotated, Any

import typer

from commonwatt.cli.options import Commands as Commands
from commonwatt.config.files import load_settings, place_of
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.time.times import parse_time
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock, load_clock
from commonwatt.runtime.service import errors_reported
from utility.access.actor import MACHINE, Actor, on_machine
from utility.database.base import Connection
from utility.database.database import Database, open_database
from utility.database.town_zone import town_zone

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        is_eager=True,  # Before the times, which need its town (`time_option`).
        help="The utility's file (TOML); its one table is called utility.",
    ),
]


def time_option(about: str, *names: str) -> Any:
    """Return an option that is a time; without an offset it is of the town's zone.

    Args:
        about: Its help.
        names: Its names; none: the parameter's.
    """
    return typer.Option(*names, parser=str, callback=_time_of, metavar="TIME", help=about)


def _time_of(context: typer.Context, text: str | None) -> EpochSeconds | None:
    """Return the time that an option's text gives."""
    if text is None or context.resilient_parsing:
        return None
    with suppress(ConfigError):
        return parse_time(text, "")
    with errors_reported(), from_file(Path(context.params["config"])) as (database, _):
        zone = town_zone(database)
    try:
        return parse_time(text, "", zone)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error


def day_option(option: str, text: str) -> int:
    """Return a day of UTC, counted from 1970.

    Args:
        option: The name of the option that has it, for the error.
        text: The day, such as 2026-10-01.

    Raises:
        ConfigError: It is none.
    """
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError as error:
        raise ConfigError(f"{option} {text}: no day; such as 2026-10-01") from error


def load(config: Path) -> tuple[UtilitySettings, Clock]:
    """Return the settings of a file, and the clock they name."""
    settings = load_settings(config, "utility", UtilitySettings)
    return settings, load_clock(settings.clock)


def check_named(option: str, name: object | None, there: Collection[object]) -> None:
    """Check that what an option names is registered; ``None``: it was not given.

    Raises:
        ConfigError: It is not.
    """
    if name is not None and name not in there:
        raise ConfigError(f"{option}: {name!r:.40} is not registered")


def place_of_database(config: Path) -> str:
    """Return the name of the file's key for the database, for error messages."""
    return place_of(config, "utility", "database")


def local_actor() -> Actor:
    """Return the user of this machine, who can read the utility's files; no login proves who that is."""
    return on_machine(f"{getuser()[:18]}@{MACHINE}")


@contextmanager
def opened(url: str, *, create: bool, named: str) -> Iterator[Database]:
    """Open a database, and close it when the context ends."""
    database = open_database(url, create=create, named=named)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def from_file(config: Path) -> Iterator[tuple[Database, Clock]]:
    """Open the database of a configuration file; the service may run at the same time."""
    settings, clock = load(config)
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        yield database, clock


@contextmanager
def reading(config: Path) -> Iterator[tuple[Connection, EpochSeconds]]:
    """Open a transaction that reads the database of a configuration file, with the time of its clock."""
    with from_file(config) as (database, clock), database.reads.begin() as connection:
        yield connection, int(clock.now())
