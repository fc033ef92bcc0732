"""A PostgreSQL server for a test, its pgBackRest, and a line that loses the answer to a chosen COMMIT."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
import pytest
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.pool import NullPool

from harness.docs.marked import DOCS
from harness.network.proxy import Proxy, Way
from harness.network.waiting import free_port
from harness.real.parts import need_root, real_part
from utility.database.base import setting
from utility.database.database import Database, open_database
from utility.database.postgres import commits
from utility.database.postgres.commits import CommittingConnection

USER = "postgres"  # the server's user when the tests run as root, since the server refuses root; also its only role


class Postgres:
    """One server, made anew; its log is copied to ``folder``."""

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        """Choose port and folders; a server that is not ``durable`` is faster, and must not be crashed."""
        self.port = free_port()  # its port on 127.0.0.1
        self._bin = real_part("initdb").resolve().parent
        # Its data; the server's user must reach it, and other users can't read pytest's folders.
        self.data = Path("/tmp") / f"commonwatt-postgres-{os.getpid()}-{self.port}"
        self._log = folder / "postgres.log"
        self.sockets = ""  # the folder of its socket; empty: it has none
        self.environment: dict[str, str] = {}  # more variables of its environment
        self._options = "" if durable else " -c fsync=off -c full_page_writes=off -c synchronous_commit=off"

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of its database."""
        return f"postgresql+psycopg://{USER}@127.0.0.1:{self.port}/postgres"

    def url_of(self, name: str, user: str = USER) -> str:
        """Return the SQLAlchemy URL of another database of this server, or for another user."""
        return f"postgresql+psycopg://{user}@127.0.0.1:{self.port}/{name}"

    def start(self) -> None:
        """Start it, and wait until it answers; after a crash it recovers first."""
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.sockets}{self._options}"
        )
        self._run("pg_ctl", "start", "-w", "-D", str(self.data), "-l", str(self.data / "log"), "-o", options)

    def crash(self) -> None:
        """Stop it like a power cut: without closing connections or writing anything."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate", "-D", str(self.data))

    def stop(self) -> None:
        """Stop it cleanly."""
        self._run("pg_ctl", "stop", "-w", "-m", "fast", "-D", str(self.data))

    def standby(self, port: int) -> "Postgres":
        """Make and start an asynchronous standby, which asks for this server's log at another port."""
        made = Postgres(self._log.parent)
        made.environment, made.sockets = self.environment, self.sockets
        primary = f"host=127.0.0.1 port={port} user={USER} sslmode=disable gssencmode=disable"
        made._run("pg_basebackup", "-R", "-D", str(made.data), "-d", primary)
        made.start()
        return made

    def execute(self, *statements: str) -> None:
        """Run statements, each in its own transaction."""
        engine = create_engine(self.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))

    def run_script(self, name: str, statements: str) -> None:
        """Run a script of statements in the database ``name``."""
        with psycopg.connect(self.url_of(name).replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute(statements.encode())

    @property
    def pid(self) -> int:
        """The server's first process; the others are its children."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def __enter__(self) -> Self:
        self._run("initdb", "-D", str(self.data), "-U", USER, "--auth=trust", "--no-sync", "--no-instructions")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if (self.data / "postmaster.pid").exists():
            self.crash()
        shutil.copyfile(self.data / "log", self._log)
        shutil.rmtree(self.data)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._bin / program), *arguments]
        if os.geteuid() == 0:
            command = ["runuser", "-u", USER, "--", *command]
        # Its output is discarded: the server would keep an inherited pipe open as long as it runs.
        nothing, environment = subprocess.DEVNULL, os.environ | self.environment
        done = subprocess.run(command, cwd="/", env=environment, stdout=nothing, stderr=nothing, check=False)
        assert done.returncode == 0, f"{program} failed: {self._said()}"

    def _said(self) -> str:
        log = self.data / "log"
        return log.read_text() if log.exists() else "no log"


GUIDE = DOCS / "stores.md"
SHIPPED = DOCS.parent / "deploy" / "pgbackrest"


class PgBackRest:
    """Backups of a private server; its folders lie beside the server's data."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._folder = Path(f"{server.data}-backups")
        self._config = self._folder / "pgbackrest.conf"

    def set_up(self) -> None:
        """Install the shipped files, and restart the server with them."""
        need_root("the guide's commands run as the server's user")
        real_part("pgbackrest")
        self._folder.mkdir()
        text = (SHIPPED / "pgbackrest.conf").read_text()
        text = text.replace("/var/lib/postgresql/15/main", str(self._server.data))
        text = re.sub(r"/(var/lib|mnt)/pgbackrest", lambda found: str(self._folder / found[1].replace("/", "-")), text)
        own = {"log-path": self._folder, "lock-path": self._folder / "lock"}
        of_server = {"pg1-port": self._server.port, "pg1-socket-path": self._folder, "pg1-user": USER}
        text = text.replace("[global]", "\n".join(["[global]", *(f"{key}={value}" for key, value in own.items())]))
        self._config.write_text(text + "".join(f"{key}={value}\n" for key, value in of_server.items()))
        with (self._server.data / "postgresql.conf").open("a") as file:
            file.write((SHIPPED / "postgresql.conf").read_text())
        self._server.environment = {"PGBACKREST_CONFIG": str(self._config)}
        self._stubs()
        subprocess.run(["chown", "-R", f"{USER}:", str(self._folder)], check=True)
        self._server.sockets = str(self._folder)
        self._server.stop()
        self._server.start()

    def _stubs(self) -> None:
        """Make ``sudo`` and ``systemctl`` of the guide's commands."""
        stubs = {"sudo": f'shift; user=$1; shift; exec runuser -u "$user" -- env PGBACKREST_CONFIG={self._config} "$@"'}
        for name, script in stubs.items():
            path = self._folder / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def run(self, beginning: str, **replaced: str) -> str:
        """Run the guide's command that begins so after ``--stanza=commonwatt``, with values of an option replaced."""
        found = [line for line in GUIDE.read_text().splitlines() if f"--stanza=commonwatt {beginning}" in line]
        assert found, f"the guide has no command with {beginning}"
        line = found[0]
        for option, value in replaced.items():
            line, count = re.subn(rf'--{option}="[^"]*"', f'--{option}="{value}"', line)
            assert count == 1
        return self.run_line(line)

    def run_line(self, line: str) -> str:
        """Run a line of shell whose ``sudo`` is ours; return its output."""
        environment = os.environ | {"PATH": f"{self._folder}:{os.environ['PATH']}"}
        done = subprocess.run(["sh", "-c", line], cwd="/", env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout

    def clear(self) -> None:
        """Delete all of it."""
        shutil.rmtree(self._folder, ignore_errors=True)


_HAS_WRITTEN = (
    "SELECT count(*) > 0 FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock' "
    "AND relation = %s::regclass"
)
_COMMIT_S, _LOOK_S = 0.3, 1.0


class Fate(Enum):
    """What becomes of a commit whose answer is lost."""

    FOUND = "it was committed, and the server says so over a new connection"
    UNKNOWN = "it was committed, and no lookup can tell"
    REFUSED = "it never arrived, and the server says so"


@dataclass
class Line:
    """The line, and what happens to the next commit."""

    proxy: Proxy
    database: Database
    fault: Callable[[], object] | None = None  # done just before the next COMMIT is sent
    table: str | None = None  # the table that its transaction must have written; ``None``: any will do
    cuts: int = 0
    restored: list[Callable[[], object]] = field(default_factory=list)  # done when the line was cut

    def lose(self, table: str, fate: Fate, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lose the answer to the next commit that writes to a table."""
        self.table = table
        if fate is Fate.REFUSED:
            self.fault = self.proxy.cut
            return
        self.fault, self.restored = (lambda: self.proxy.darken(Way.DOWN)), [self.proxy.heal]
        if fate is Fate.UNKNOWN:
            monkeypatch.setattr(commits, "_PLACE", "SELECT random()")  # As if the server was another one each time.

    def strike(self, connection: psycopg.Connection[Any]) -> None:
        """Do what is to happen before this commit."""
        if self.fault is None or (self.table and not _has_written(connection, self.table)):
            return
        fault, self.fault = self.fault, None
        fault()

    def commit(self, key: str) -> None:
        """Write a row."""
        with self.database.writes.begin() as connection:
            connection.execute(setting.insert().values(key=key, value="x"))

    def count(self, key: str) -> int:
        """Return how many such rows there are."""
        with self.database.reads.begin() as connection:
            return connection.execute(select(func.count()).where(setting.c.key == key)).scalar_one()


@contextmanager
def lossy_line(url: str, port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """Open a database through a line to the server at ``port``; a lost answer is missed after a moment."""
    monkeypatch.setattr(commits, "COMMIT_S", _COMMIT_S)
    monkeypatch.setattr(commits, "LOOK_S", _LOOK_S)
    with Proxy(("127.0.0.1", port)) as proxy:
        through = url.replace(str(port), proxy.address.rpartition(":")[2])
        # The proxy passes on nothing of one byte, as the answer to an offer of TLS.
        database = open_database(f"{through}?sslmode=disable&gssencmode=disable", create=True)
        made = Line(proxy, database)
        commit, real = psycopg.Connection.commit, CommittingConnection.cut

        def struck(self: psycopg.Connection[Any]) -> None:
            made.strike(self)
            commit(self)

        def cut(self: CommittingConnection) -> None:
            real(self)
            made.cuts += 1
            for each in made.restored:
                each()

        monkeypatch.setattr(psycopg.Connection, "commit", struck)
        monkeypatch.setattr(CommittingConnection, "cut", cut)
        yield made
        proxy.heal()
        database.close()


def _has_written(connection: psycopg.Connection[Any], table: str) -> bool:
    row = connection.execute(_HAS_WRITTEN, (table,)).fetchone()
    return row is not None and bool(row[0])
