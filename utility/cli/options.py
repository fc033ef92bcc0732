"""The ``--config`` option of the utility's commands, and the settings and database it opens."""

from collections.abc import Iterator
from contextlib import contextmanager
from getpass import getuser
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.config.files import load_settings, place_of
from commonwatt.config.utility import UtilitySettings
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.times import parse_time
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.clock import Clock, load_clock
from utility.access.actor import MACHINE, Actor
from utility.jobs.calendar_periods import NEW_YORK
from utility.people import on_machine
from utility.store.database import Database, open_database

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The utility's file (TOML); its one table is called utility.")
]


def time_of(text: str | EpochSeconds) -> EpochSeconds:
    """Return the time that an option's text gives, or its default; a local one is of the town's zone."""
    try:
        return parse_time(str(text), "", NEW_YORK)
    except ConfigError as error:
        raise typer.BadParameter(str(error).removeprefix(": ")) from error


def load(config: Path) -> tuple[UtilitySettings, Clock]:
    """Return the settings of a file, and the clock they name."""
    settings = load_settings(config, "utility", UtilitySettings)
    return settings, load_clock(settings.clock)


def place_of_database(config: Path) -> str:
    """Return the name of the file's key for the database, for error messages."""
    return place_of(config, "utility", "database")


def local_actor() -> Actor:
    """Return the person at this machine, who can read the utility's files."""
    return on_machine(f"{getuser()}@{MACHINE}")


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
