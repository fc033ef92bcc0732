"""The option of the commands of the utility, and what it opens."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from commonwatt.config.files import load_settings, place_of
from commonwatt.config.settings import UtilitySettings
from commonwatt.runtime.clock import Clock, load_clock
from utility.store.database import Database, open_database

ConfigOption = Annotated[
    Path, typer.Option("--config", "-c", help="The utility's file (TOML); its one table is called utility.")
]


def load(config: Path) -> tuple[UtilitySettings, Clock]:
    """Return what a file says, and its clock."""
    settings = load_settings(config, "utility", UtilitySettings)
    return settings, load_clock(settings.clock)


def place_of_database(config: Path) -> str:
    """Name the key of a file that says where the database is."""
    return place_of(config, "utility", "database")


@contextmanager
def opened(url: str, *, create: bool, named: str) -> Iterator[Database]:
    """Open a database for the duration."""
    database = open_database(url, create=create, named=named)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def from_file(config: Path) -> Iterator[tuple[Database, Clock]]:
    """Open the database of a file; whether the service runs makes no difference."""
    settings, clock = load(config)
    with opened(settings.database, create=False, named=place_of_database(config)) as database:
        yield database, clock
