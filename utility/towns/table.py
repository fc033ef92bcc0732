"""The table of the towns, ``towns.toml`` at the office: each town's database, head-ends and utilities."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.config.database_url import parse_database
from commonwatt.config.files import check_model, read_toml, toml_table
from commonwatt.config.settings import DatabaseUrl, Settings
from commonwatt.model.exceptions import ConfigError
from commonwatt.network.addresses import Address
from commonwatt.runtime.files import write_private

TownName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]  # a town's name in the table
BaseUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]  # where a utility answers, such as https://u1:8080


class Town(Settings):
    """A town: a database of its own on a PostgreSQL server, and what works on it."""

    database: DatabaseUrl = Field(
        repr=False, description="The URL of the town's database, as in the `utility.toml` of its utilities."
    )
    head_ends: tuple[Address, ...] = Field((), description="The head-end brokers of the town, HOST:PORT each.")
    utilities: tuple[BaseUrl, ...] = Field(
        (), description="Where its utilities answer, such as https://u1.example:8080."
    )
    stanza: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}$",
        description="The name of the town's PostgreSQL server in pgBackRest's settings; a move restores from it.",
    )
    files: Path | None = Field(
        None, description="The folder with the town's files: `archive`, `exports` and `releases`, for analysis."
    )


class TownsFile(Settings):
    """The table."""

    towns: dict[TownName, Town] = Field({})


def load_towns(path: Path) -> dict[str, Town]:
    """Return the towns of a table by name, in the order of the file; a relative folder is taken from the file's.

    Raises:
        ConfigError: The file is missing or wrong, or two towns have one database; names file, line and key.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no table of towns", "begin one with: commonwatt towns add")
    towns = check_model(path, TownsFile, read_toml(path)).towns
    _check_databases(path, towns)
    base = path.resolve().parent
    return {
        name: town if town.files is None else town.model_copy(update={"files": base / town.files})
        for name, town in towns.items()
    }


def save_towns(path: Path, towns: dict[str, Town]) -> None:
    """Replace the table in one durable step; only this user can read it, since it may hold passwords.

    Raises:
        ConfigError: Two towns have one database; the file is unchanged.
    """
    _check_databases(path, towns)
    tables = (
        toml_table(f"[towns.{name}]", town.model_dump(mode="json", exclude_defaults=True))
        for name, town in towns.items()
    )
    write_private(path, "\n".join(tables))


def _check_databases(path: Path, towns: dict[str, Town]) -> None:
    """Refuse two towns whose URLs name one database."""
    seen: dict[tuple[object, ...], str] = {}
    for name, town in towns.items():
        url = parse_database(town.database)
        hosts = url.query.get("host"), url.query.get("port")
        other = seen.setdefault((url.host, url.port or 5432, url.database, *hosts), name)
        if other != name:
            raise ConfigError(f"{path}: towns.{name}.database: is the database of {other} too; give each town its own")
