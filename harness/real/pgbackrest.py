"""pgBackRest for a test: the shipped files with a test's folders, and the guide's commands word for word."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from harness.docs.marked import DOCS
from harness.real.parts import need_root, real_part
from harness.real.postgres import USER, Postgres

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
