"""The table of the towns, ``towns.toml`` at the office: each town's database and utilities."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from commonwatt.config.database_url import parse_database
from commonwatt.config.files import check_model, read_toml
from commonwatt.config.settings import DatabaseUrl, Settings
from commonwatt.model.exceptions import ConfigError

TownName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")]  # a town's name in the table
BaseUrl = Annotated[str, Field(pattern=r"^https?://[^/\s]+$")]  # where a utility answers, such as https://u1:8080


class TownEntry(Settings):
    """A town: a database of its own on a PostgreSQL server, and what works on it."""

    database: DatabaseUrl = Field(
        repr=False, description="The URL of the town's database, as in the `utility.toml` of its utilities."
    )
    utilities: tuple[BaseUrl, ...] = Field(
        (), description="Where its utilities answer, such as https://u1.example:8080."
    )
    files: Path | None = Field(
        None, description="The folder with the town's files: `exports` and `releases`, for analysis."
    )


class TownsFile(Settings):
    """The table."""

    towns: dict[TownName, TownEntry] = Field({})


def load_towns(path: Path) -> dict[str, TownEntry]:
    """Return the towns of a table by name, in the order of the file; a relative folder is taken from the file's."""
    if not path.exists():
        raise ConfigError(f"{path}: there is no table of towns", "write one, as docs/cluster.md shows")
    towns = check_model(path, TownsFile, read_toml(path)).towns
    _check_databases(path, towns)
    base = path.resolve().parent
    return {
        name: town if town.files is None else town.model_copy(update={"files": base / town.files})
        for name, town in towns.items()
    }


def _check_databases(path: Path, towns: dict[str, TownEntry]) -> None:
    """Refuse two towns whose URLs name one database."""
    seen: dict[tuple[object, ...], str] = {}
    for name, town in towns.items():
        url = parse_database(town.database)
        hosts = url.query.get("host"), url.query.get("port")
        other = seen.setdefault((url.host, url.port or 5432, url.database, *hosts), name)
        if other != name:
            raise ConfigError(f"{path}: towns.{name}.database: is the database of {other} too; give each town its own")
