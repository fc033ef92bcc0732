"""SQL on the servers of towns: what a database is and has."""

from sqlalchemy import inspect, text

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import ConfigError, StoreError
from utility.database.base import SQLAlchemyError
from utility.database.engines import make_engine


def where(url: str) -> str:
    """Return the database of a URL with its server, in words without its password."""
    parsed = parse_database(url)
    return f"{parsed.database} at {parsed.host or parsed.query.get('host') or 'this machine'}:{parsed.port or 5432}"


def look(url: str) -> tuple[str | None, int]:
    """Return the schema of a town's database, ``None`` if it is empty, and its size in bytes.

    Raises:
        ConfigError: The URL is of an SQLite file, or the database another program's.
        StoreError: The server does not answer, or refuses.
    """
    parsed = parse_database(url)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError("database: a town of many is a database of a PostgreSQL server; this is an SQLite file")
    engine = make_engine(parsed)
    try:
        with engine.connect() as connection:
            size = int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
            tables = set(inspect(connection).get_table_names())
            if tables and not {"alembic_version", "setting"} <= tables:
                raise ConfigError(f"{where(url)}: is another program's database, without Commonwatt's tables")
            schema = "SELECT version_num FROM alembic_version"
            return (str(connection.execute(text(schema)).scalar_one()) if tables else None), size
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreError(f"{where(url)}: {why}") from error
    finally:
        engine.dispose()
