"""SQL on the servers of towns: what a database is and has, and how it is closed, compared and opened in a move."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Event

from sqlalchemy import Connection, inspect, text

from commonwatt.config.database_url import parse_database
from commonwatt.model.exceptions import ConfigError, StoreError
from utility.database.base import SQLAlchemyError
from utility.database.engines import make_engine

_CLOSED = "closed by commonwatt towns move: "  # beginning of the comment that a closed database has

_SERVERS_OWN = "postgres"  # the database from which the town's is opened and closed
_CALM_S = 1.0  # seconds until a session that begins is listed, and one that is told to end has ended
_TRIES = 30  # looks within which the sessions of a closed database must have ended
_ARCHIVED_WITHIN_S = 600  # longest wait for the archive, seconds

_PLACE = text("""
    SELECT pg_is_in_recovery() AS recovers, system_identifier || '/' || CASE WHEN pg_is_in_recovery() THEN ''
            ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS server,
        current_setting('archive_mode') <> 'off' AND has_function_privilege('pg_switch_wal()', 'execute') AS archives,
        CAST(current_setting('max_connections') AS int)
            - CAST(current_setting('superuser_reserved_connections') AS int) AS connections,
        datallowconn AS is_open, pg_database_size(oid) AS size, CASE WHEN NOT datallowconn AND
            starts_with(shobj_description(oid, 'pg_database'), :closed) THEN shobj_description(oid, 'pg_database') END
            AS closed
    FROM pg_control_system() LEFT JOIN pg_database ON datname = :name
""")
_OTHERS = text("""
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = :name AND usesysid IS NOT NULL AND pid <> :own
""")  # The server's own workers have no user, and write nothing that is acknowledged.
_FIGURES = text("""
    SELECT (SELECT value FROM setting WHERE key = 'store_id') AS store,
        (SELECT value FROM setting WHERE key = 'run') AS run,
        (SELECT count(*) + (SELECT coalesce(sum(blocks), 0) FROM batch) FROM part) AS parts,
        (SELECT max(quarter) FROM compacted) AS newest_quarter,
        (SELECT count(*) FROM compacted WHERE quarter = (SELECT max(quarter) FROM compacted)) AS its_blocks,
        (SELECT count(*) FROM bill) AS bills, (SELECT max(no) FROM audit) AS decisions
""")
_ARCHIVED = text("""
    SELECT last_archived_wal ~ '^[0-9A-F]{24}' AND left(last_archived_wal, 24) >= :segment AS done, last_failed_wal
    FROM pg_stat_archiver
""")

_pause = Event()


@dataclass(frozen=True, kw_only=True)
class Place:
    """What a server says of a town's database."""

    recovers: bool  # whether the server replays its log, as a restored copy or a standby does
    server: str  # the server's id with its timeline, which a restored copy that was promoted has not
    archives: bool  # whether the server archives its log, and our user may end a segment of it
    connections: int  # how many connections the server accepts, without those for superusers
    is_open: bool | None  # whether the database accepts connections; ``None``: there is none of that name
    size: int | None  # its bytes
    closed: str | None  # the comment on the database from the move that closed it; ``None``: no move did


def name_of(url: str) -> str:
    """Return the name of a URL's database."""
    return str(parse_database(url).database)


def where(url: str) -> str:
    """Return the database of a URL with its server, in words without its password."""
    parsed = parse_database(url)
    return f"{parsed.database} at {parsed.host or parsed.query.get('host') or 'this machine'}:{parsed.port or 5432}"


@contextmanager
def connected(url: str, *, to_server: bool = False) -> Iterator[Connection]:
    """Connect to the database of a URL, or to its server's own; each statement is a transaction.

    Raises:
        ConfigError: The URL is of an SQLite file.
        StoreError: The server does not answer, or refuses.
    """
    parsed = parse_database(url)
    if parsed.get_backend_name() != "postgresql":
        raise ConfigError("database: a town of many is a database of a PostgreSQL server; this is an SQLite file")
    engine = make_engine(parsed.set(database=_SERVERS_OWN) if to_server else parsed)
    try:
        with engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")
    except SQLAlchemyError as error:
        why = " ".join(str(getattr(error, "orig", None) or error).split())
        raise StoreError(f"{where(url)}: {why}") from error
    finally:
        engine.dispose()


def look(url: str) -> Place:
    """Return what a server says of the database of a URL.

    Raises:
        CommonwattError: As ``connected``.
    """
    with connected(url, to_server=True) as connection:
        row = connection.execute(_PLACE, {"name": name_of(url), "closed": _CLOSED}).mappings().one()
        return Place(**row)


def schema_of(url: str) -> str | None:
    """Return the schema of a town's database; ``None``: it is empty.

    Raises:
        ConfigError: It is another program's.
        StoreError: The server does not answer, or refuses.
    """
    with connected(url) as connection:
        tables = set(inspect(connection).get_table_names())
        if not tables:
            return None
        if not {"alembic_version", "setting"} <= tables:
            raise ConfigError(f"{where(url)}: is another program's database, without Commonwatt's tables; name another")
        return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one())


@contextmanager
def _alone_in(server: Connection, url: str) -> Iterator[Connection]:
    """Give the only session of a database; from then on, and after it, the server refuses every other one.

    This is the fence of a move. The catalogue stops new sessions, also a superuser's; each session that was there is
    ended, and its open transaction with it. So a utility that slept meanwhile wakes with a dead connection: its COMMIT
    fails, and it acknowledges nothing. A session that does not end is waited for, and the move goes no further.

    Raises:
        StoreError: A session does not end.
    """
    allow(server, url, accepts=True)
    with connected(url) as own:
        pid = own.execute(text("SELECT pg_backend_pid()")).scalar_one()
        allow(server, url, accepts=False)
        for looks in range(_TRIES):
            left = list(server.execute(_OTHERS, {"name": name_of(url), "own": pid}).scalars())
            # A session that began just before is listed a moment later, so the first look is not enough.
            if looks and not left:
                break
            _pause.wait(_CALM_S)
        else:
            raise StoreError(
                f"{where(url)}: the session of process {left[0]} does not end; end it, and repeat the move"
            )
        yield own


def allow(server: Connection, url: str, *, accepts: bool) -> None:
    """Open a database for sessions, or refuse new ones."""
    server.exec_driver_sql(f"ALTER DATABASE {_name(server, url)} ALLOW_CONNECTIONS {str(accepts).lower()}")


def close(url: str) -> str:
    """Close a town's database for every session; return the comment on it, with what it had at its end.

    The comment is in the server's log after every transaction of the town: a copy of the server that has the same
    comment has all of them.

    Raises:
        CommonwattError: As ``connected``; or a session does not end.
    """
    with connected(url, to_server=True) as server:
        with _alone_in(server, url) as own:
            figures = dict(own.execute(_FIGURES).mappings().one())
        comment = _CLOSED + json.dumps({"move": secrets.token_hex(8), **figures})
        server.exec_driver_sql(f"COMMENT ON DATABASE {_name(server, url)} IS '{comment}'")
    return comment


def reopen(url: str) -> None:
    """Open a closed database, and remove the comment.

    Raises:
        CommonwattError: As ``connected``.
    """
    with connected(url, to_server=True) as server:
        allow(server, url, accepts=True)
        server.exec_driver_sql(f"COMMENT ON DATABASE {_name(server, url)} IS NULL")


def archive(url: str) -> str:
    """Have a server archive its log up to now; return the log's present place, when all before it is in the archive.

    Raises:
        StoreError: The log does not come to the archive; or as ``connected``.
    """
    with connected(url, to_server=True) as server:
        place = server.execute(text("SELECT CAST(pg_current_wal_insert_lsn() AS text)")).scalar_one()
        segment = server.execute(text("SELECT pg_walfile_name(pg_switch_wal())")).scalar_one()
        for _ in range(_ARCHIVED_WITHIN_S):
            found = server.execute(_ARCHIVED, {"segment": segment}).one()
            if found.done:
                return str(place)
            _pause.wait(1)
    raise StoreError(
        f"{where(url)}: the server's log is not in the archive after {_ARCHIVED_WITHIN_S} s (segment {segment}; last "
        f"failure: {found.last_failed_wal or 'none'}); see the server's log, then repeat the move"
    )


def differences(url: str, comment: str) -> list[str]:
    """Return where a closed database differs from what the comment of its original says; it stays closed.

    Raises:
        CommonwattError: As ``connected``; or a session does not end.
    """
    with connected(url, to_server=True) as server:
        try:
            with _alone_in(server, url) as own:
                found = dict(own.execute(_FIGURES).mappings().one())
        finally:
            allow(server, url, accepts=False)
    said = json.loads(comment.removeprefix(_CLOSED))
    return [f"{name}: {value}, not {said[name]}" for name, value in found.items() if value != said[name]]


def _name(server: Connection, url: str) -> str:
    """Return the name of a URL's database, quoted."""
    return server.dialect.identifier_preparer.quote_identifier(name_of(url))
