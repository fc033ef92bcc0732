"""A PostgreSQL server for a test, with its data in the test's folder, on a free loopback port."""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from harness.network.waiting import free_port
from harness.real.parts import real_part

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
