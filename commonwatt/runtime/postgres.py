"""A PostgreSQL server of one folder, on a loopback port, with a password that lies beside it.

Its programs are Debian's, or those on the path. PostgreSQL refuses to run as root; then the user ``postgres`` runs it.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import write_private

ROLE = "commonwatt"  # its only role
_USER = "postgres"  # the user that runs it when we are root
_PORT = "postgresql.auto.conf"  # the file of its own settings, the port as the last one
_SETTINGS = "listen_addresses = '127.0.0.1'\nunix_socket_directories = ''\nport = {}\n"


def found(name: str) -> Path | None:
    """Return the path of a program, also of one that only root has on its path; ``None``: it is not installed."""
    path = shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")
    return None if path is None else Path(path)


def programs() -> Path | None:
    """Return the folder of the programs of the newest PostgreSQL; ``None``: it is not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    if folders:
        return folders[-1]
    path = found("initdb")
    return None if path is None or found("postgres") is None else path.resolve().parent


class PrivatePostgres:
    """The server of a folder.

    Args:
        folder: The folder of its data (absolute), made by ``make``; the password lies beside it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder  # the folder of its data
        self.user = _USER if os.geteuid() == 0 else None  # the user that runs it; ``None``: the present one
        self._password = folder.with_name(f"{folder.name}-password")

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of its database, which names the file of the password; once it has a port."""
        port = (self.folder / _PORT).read_text().split()[-1]
        return f"postgresql+psycopg://{ROLE}@127.0.0.1:{port}/postgres?passfile={quote(str(self._password))}"

    @property
    def command(self) -> list[str]:
        """The command that runs it."""
        return [self._program("postgres"), "-D", str(self.folder)]

    @contextmanager
    def answering_at(self, port: int) -> Iterator[None]:
        """Have it run during the context, at a port that it keeps; its data are made when they are missing.

        Raises:
            ConfigError: It can't be made or started.
        """
        if not (self.folder / "PG_VERSION").exists():
            self._make()
        (self.folder / _PORT).write_text(_SETTINGS.format(port))
        with self.answering():
            yield

    def _make(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
        password = secrets.token_urlsafe(32)
        write_private(self._password, f"127.0.0.1:*:*:{ROLE}:{password}\n")
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(password)
            file.flush()
            if self.user is not None:
                owner = pwd.getpwnam(self.user)
                for path in (self.folder, Path(file.name)):
                    os.chown(path, owner.pw_uid, owner.pw_gid)
                # It may enter the folder around its own, and no other user may.
                os.chown(self.folder.parent, -1, owner.pw_gid)
                self.folder.parent.chmod(0o710)
            words = ("-U", ROLE, "--auth=scram-sha-256", f"--pwfile={file.name}", "--no-instructions", "-E", "UTF8")
            self._run("initdb", "-D", str(self.folder), *words, "--locale=C")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Have it run during the context; a server that runs already stays.

        Raises:
            ConfigError: It can't be started.
        """
        where = ("-D", str(self.folder))
        if self._ran("pg_ctl", "status", *where).returncode == 0:
            yield
            return
        self._run("pg_ctl", "start", "-w", "-l", str(self.folder / "log"), *where)
        try:
            yield
        finally:
            self._ran("pg_ctl", "stop", "-w", "-m", "fast", *where)

    def _run(self, program: str, *arguments: str) -> None:
        done = self._ran(program, *arguments)
        if done.returncode:
            log = self.folder / "log"
            why = done.stderr.strip() or (log.read_text().strip().splitlines()[-1:] if log.exists() else "")
            may = "" if self.user is None else f"; user {self.user} runs it: choose a folder that every user can enter"
            raise ConfigError(f"PostgreSQL's {program} failed in {self.folder}: {why}{may}")

    def _ran(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        # A server that it starts would keep a pipe open as long as it runs.
        with tempfile.TemporaryFile("w+") as errors:
            done = subprocess.run(
                [self._program(program), *arguments],
                cwd="/",
                user=self.user,
                group=self.user,
                extra_groups=None if self.user is None else [],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                text=True,
                check=False,
            )
            errors.seek(0)
            done.stderr = errors.read()
            return done

    def _program(self, name: str) -> str:
        return str((programs() or Path()) / name)
