"""Checks of the utility's database URL. They need SQLAlchemy, which is installed with the utility only."""

import re
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from commonwatt.network.addresses import is_loopback

_DRIVERS = ("sqlite", "sqlite+pysqlite", "postgresql+psycopg")


def parse_database(url: str) -> URL:
    """Parse a URL as the database driver does.

    Raises:
        ValueError: The text is no URL, or its database or driver is not supported. The message never quotes
            the URL, because it may contain a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    # The parser treats the text after an @ in a password as the host.
    if parsed is None or "@" in (parsed.host or ""):
        raise ValueError(
            "is not an SQLAlchemy URL, such as sqlite:///utility.db or "
            "postgresql+psycopg://USER:PASSWORD@HOST:5432/NAME (special characters in a password as %40 for @)"
        )
    if parsed.drivername not in _DRIVERS:
        raise ValueError(f"{parsed.drivername} is not supported; use sqlite:///... or postgresql+psycopg://...")
    return parsed


def database_fault(url: str) -> str | None:
    """Return the fault of a database URL, without connecting; ``None``: no fault.

    Without ``sslmode`` PostgreSQL's driver accepts plain text and any certificate.
    """
    try:
        parsed = parse_database(url)
    except ValueError as error:
        return str(error)
    if parsed.get_backend_name() == "sqlite":
        name = parsed.database or ""
        if name in ("", ":memory:") or name.startswith("file:"):
            return "names no file, as sqlite:///utility.db does (three slashes); a database in memory is not kept"
        return None
    if any("," in text and re.search(r":\d+(,|$)", text) for text in _all(parsed, "host") if "[" not in text):
        return "has ports behind the names of several hosts: write host=db1,db2,db3, and port=5433 if it is not 5432"
    named = [parsed.host or "", *_all(parsed, "host"), *_all(parsed, "hostaddr")]
    hosts = [host for text in named for host in text.split(",") if host and not host.startswith("/")]
    beyond = [host for host in hosts if not is_loopback(host if host.count(":") == 1 else f"{host}:5432")]
    if not beyond or _all(parsed, "sslmode")[-1:] in (("verify-full",), ("disable",)):
        return None
    return (
        f"{beyond[0]} is beyond this machine, and others could read and change what goes there: add "
        "sslmode=verify-full and sslrootcert=FILE to the URL, or for a private network "
        "sslmode=disable"
    )


def absolute_database(url: str, folder: Path) -> str:
    """Return the URL with a relative SQLite path taken from ``folder``."""
    parsed = parse_database(url)
    if parsed.get_backend_name() != "sqlite" or Path(str(parsed.database)).is_absolute():
        return url
    return parsed.set(database=str(folder / str(parsed.database))).render_as_string(hide_password=False)


def sqlite_url(path: Path) -> str:
    """Return the URL of an SQLite file; its path may contain any characters."""
    return URL.create("sqlite", database=str(path)).render_as_string()


def _all(url: URL, word: str) -> tuple[str, ...]:
    value = url.query.get(word, ())
    return (value,) if isinstance(value, str) else value
