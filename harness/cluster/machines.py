"""Three machines with etcd, Patroni and PostgreSQL, installed by the commands of docs/cluster.md.

A database machine has its own network, host name, /etc, /var and /run. Patroni's and etcd's commands are those of
Debian's units; what systemd would restart, ``boot`` starts.

    with DatabaseMachines(folder) as machines:
        machines.set_up()
        machines.kill(machines.primary())
"""

import json
import os
import shlex
import shutil
import signal
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from subprocess import DEVNULL, CompletedProcess, Popen, run
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

from harness.clique.real.namespaces import Machines, need_namespaces
from harness.docs.generate import blocks_of
from harness.docs.marked import DOCS
from harness.network.waiting import eventually
from harness.real.parts import miss, real_part

PAGE = DOCS / "cluster.md"

_STUBS = {
    "sudo": 'user=root; if [ "$1" = -u ]; then user=$2; shift 2; fi; exec runuser -u "$user" -- "$@"',
    # The packages must be there; a bench installs none.
    "apt-get": 'for name; do case "$name" in install | --*) ;; *) dpkg-query --show "$name" || exit 1 ;; esac; done',
    "systemctl": 'echo "$@" >>"$SYSTEMCTL"',
    "scp": 'for to; do :; done; while [ $# -gt 1 ]; do cp "$1" "$HOMES/${to%:}/"; shift; done',
}


def block(heading: str, number: int = 0, page: Path = PAGE) -> str:
    """Return the commands of a block under a heading, by its number there."""
    _, _, section = page.read_text(encoding="utf-8").partition(f"# {heading}\n")
    return [text for kind, text in blocks_of(section.partition("\n#")[0]) if kind == "sh"][number]


class Page:
    """Runs the page's blocks; each machine has a folder in ``homes``."""

    def __init__(self, homes: Path) -> None:
        self._homes = homes
        self._stubs = homes / "stubs"
        self._stubs.mkdir(parents=True)
        for name, script in _STUBS.items():
            path = self._stubs / name
            path.write_text(f"#!/bin/sh\n{script}\n")
            path.chmod(0o755)

    def run(self, commands: str, folder: str, enter: list[str]) -> list[list[str]]:
        """Run commands in a folder of ``homes`` after the words ``enter``; return what they asked of ``systemctl``."""
        asked = self._homes / f"{folder}-systemctl"
        asked.write_text("")
        environment = os.environ | {
            "PATH": f"{self._stubs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOMES": str(self._homes),
            "SYSTEMCTL": str(asked),
        }
        done: CompletedProcess[str] = run(
            [*enter, "sh", "-ec", f'cd "{self._homes / folder}"\n{commands}'],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
        return [line.split() for line in asked.read_text().splitlines()]


DATABASES = ("db1", "db2", "db3")
OTHERS = ("utility1", "utility2", "head-end1", "head-end2", "gateways")

Daemon = Literal["etcd", "patroni"]

_UNITS = Path("/lib/systemd/system")
_API_S = 2.0  # longest wait for an answer of Patroni's REST API
_ORDER: tuple[Daemon, ...] = ("etcd", "patroni")

# An own /etc and /var over those of this machine; an empty /run.
_OWN = """
mount --make-rprivate /
for at in etc var; do
    mkdir -p {folder}/$at {folder}/$at-work
    mount -t overlay overlay -o lowerdir=/$at,upperdir={folder}/$at,workdir={folder}/$at-work /$at
done
mount -t tmpfs tmpfs /run
install -d -o postgres -g postgres /run/postgresql
install -d -o etcd -g etcd /var/lib/etcd
install -d -o postgres -g postgres /var/log/postgresql
hostname {name}
"""


def need_cluster() -> None:
    """Skip the test where the machines can't be made, with the reason; in CI fail."""
    need_namespaces()
    for program in ("patroni", "etcd", "etcdctl", "initdb"):
        real_part(program)
    if not Path("/usr/lib/python3/dist-packages/idna").exists():
        miss("needs python3-idna, which Patroni's package forgets: apt-get install python3-idna")


class DatabaseMachines(Machines):
    """The three databases, two utilities, two head-ends and a machine of gateways."""

    SHARES_NOT: ClassVar[tuple[str, ...]] = ("--net", "--mount", "--uts")

    def __init__(self, folder: Path) -> None:
        """Make the machines; ``folder`` has the output of their daemons."""
        self.folder = folder
        # Other users can't read pytest's folders.
        self._homes = Path("/tmp") / f"commonwatt-cluster-{os.getpid()}-{time.monotonic_ns()}"
        self._page = Page(self._homes)
        self._daemons: dict[tuple[str, Daemon], Popen[bytes]] = {}
        self._standbys = ["standby", "sync_standby"]
        super().__init__([*DATABASES, *OTHERS])

    # -- start and end

    def set_up(self) -> None:
        """Install by the page's commands, start everything, and wait until a commit has a synchronous standby."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in DATABASES:
            (self._homes / name).mkdir()
            self.run(name, _OWN.format(folder=self._homes / f"{name}-root", name=name))
        (self._homes / "office").mkdir()
        self._page.run(block("Certificates and passwords"), "office", [])
        for heading in ("etcd", "Patroni and PostgreSQL"):
            for name in DATABASES:
                self.run(name, block(heading))
        self.settle()
        self.run(self.primary(), block("The town's database"))

    def run(self, name: str, commands: str) -> None:
        """Run commands on a machine, as root in the folder with its files; what they start goes on."""
        for verb, *units in self._page.run(commands, name, self._enter(name)):
            daemons = [daemon for daemon in _ORDER if daemon in units]
            if verb == "restart":
                for daemon in daemons:
                    self._daemons[name, daemon].terminate()
                    self._daemons[name, daemon].wait()
            if verb in ("enable", "restart"):
                self.boot(name, *daemons)

    def settle(self, within_s: float = 120.0) -> None:
        """Wait until there are a primary, a synchronous standby and another standby, and both standbys stream."""
        eventually(self.is_settled, within_s)

    def is_settled(self) -> bool:
        """Return whether there are a primary, a synchronous standby and another one, and both stream."""
        roles = self.roles()
        if sorted(map(str, roles.values())) != ["primary", *self._standbys]:
            return False
        primary = next(name for name, role in roles.items() if role == "primary")
        streams = self.inside("gateways", lambda: self.ask(primary, "patroni")).get("replication", ())
        return [stream["state"] for stream in streams] == ["streaming"] * 2

    def boot(self, name: str, *daemons: Daemon) -> None:
        """Start daemons of a machine that do not run, by default both, as systemd does."""
        for daemon in daemons or _ORDER:
            if not list(self.processes(name, daemon)):
                if old := self._daemons.get((name, daemon)):
                    old.wait()
                self._daemons[name, daemon] = self._start_unit(name, daemon)

    def _start_unit(self, name: str, unit: str) -> Popen[bytes]:
        """Run a Debian unit's command as its user, with its environment."""
        user, command, variables = "", "", ""
        for line in (_UNITS / f"{unit}.service").read_text().splitlines():
            key, _, value = line.partition("=")
            if key == "User":
                user = value
            elif key == "ExecStart":
                command = value
            elif key == "Environment":
                variables += f"export {shlex.quote(value)}\n"
            elif key == "EnvironmentFile":
                path = value.removeprefix("-").replace("%p", unit)
                variables += f"if [ -e {path} ]; then set -a; . {path}; set +a; fi\n"
        script = f"ulimit -n 65536; cd /var/lib\n{variables.replace('%H', name)}exec "
        script += f"setpriv --reuid={user} --regid={user} --init-groups {command}"
        words = [
            *self._enter(name),
            "env",
            "-i",
            "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
            "LANG=C.UTF-8",
            "sh",
            "-c",
            script,
        ]
        with (self.folder / f"{name}-{unit}.log").open("ab") as log:
            return Popen(words, stdout=log, stderr=log, stdin=DEVNULL, start_new_session=True)

    def _enter(self, name: str) -> list[str]:
        return ["nsenter", "--target", str(self._holders[name].pid), "--net", "--mount", "--uts", "--"]

    def close(self) -> None:
        """End all processes of the machines, and delete their files."""
        for name in self.addresses:
            if name in self._holders:
                self.kill(name)
        for daemon in self._daemons.values():
            daemon.wait()
        super().close()
        shutil.rmtree(self._homes, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- what they are

    def url(self, database: str = "centertown", user: str = "commonwatt") -> str:
        """Return the URL of a database for the utility; the hosts are addresses, which any process can use."""
        hosts = ",".join(self.addresses[name] for name in DATABASES)
        words = f"host={hosts}&target_session_attrs=read-write&connect_timeout=3"
        safe = f"sslmode=verify-full&sslrootcert={self._homes}/office/cluster/databases.pem"
        return f"postgresql+psycopg://{user}:{self.password(user)}@/{database}?{words}&{safe}"

    def password(self, user: str) -> str:
        """Return the password of a role."""
        lines = (self._homes / "office/cluster/passwords").read_text().splitlines()
        names = {"commonwatt": "COMMONWATT", "postgres": "SUPERUSER"}
        return dict(line.split("=") for line in lines)[names[user]]

    def roles(self) -> dict[str, str | None]:
        """Return each database's role by its own Patroni: primary, sync_standby, standby; None: none, or not up."""
        return self.inside("gateways", lambda: {name: self._role(name) for name in DATABASES})

    def primary(self, within_s: float = 120.0) -> str:
        """Wait for a primary, and return its name."""
        return self._one("primary", within_s)

    def sync_standby(self, within_s: float = 120.0) -> str:
        """Wait for a synchronous standby, and return its name."""
        return self._one("sync_standby", within_s)

    def other(self, within_s: float = 120.0) -> str:
        """Wait for a standby that is not synchronous, and return its name."""
        return self._one("standby", within_s)

    def metrics(self, name: str) -> str:
        """Return the metrics of a machine's etcd and Patroni, without those of one that does not answer."""
        address = self.addresses[name]
        own = ssl.create_default_context(cafile=str(self._homes / "office/cluster/databases.pem"))

        def read() -> str:
            found = ""
            for url, context in ((f"http://{address}:2381/metrics", None), (f"https://{address}:8008/metrics", own)):
                with suppress(OSError), urllib.request.urlopen(url, timeout=_API_S, context=context) as answer:
                    found += answer.read().decode()
            return found

        return self.inside("gateways", read)

    def _one(self, role: str, within_s: float) -> str:
        found: list[str] = []

        def look() -> bool:
            found[:] = [name for name, its in self.roles().items() if its == role]
            return len(found) == 1

        eventually(look, within_s)
        return found[0]

    def _role(self, name: str) -> str | None:
        with suppress(OSError, ValueError):
            said = self.ask(name, "patroni")
            if said.get("state") != "running":
                return None
            if said["role"] in ("master", "primary"):
                return "primary"
            return "sync_standby" if said.get("sync_standby") else "standby"
        return None

    def ask(self, name: str, path: str, change: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask a machine's Patroni, or change the cluster's configuration; on a thread that is ``inside`` a machine."""
        own = self._homes / "office/cluster"
        context = ssl.create_default_context(cafile=str(own / "databases.pem"))
        context.load_cert_chain(own / "db1.pem", own / "db1.key")
        body = None if change is None else json.dumps(change).encode()
        request = urllib.request.Request(
            f"https://{self.addresses[name]}:8008/{path}", body, method="GET" if body is None else "PATCH"
        )
        try:
            with urllib.request.urlopen(request, timeout=_API_S, context=context) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def replicate(self, *, synchronously: bool) -> None:
        """Change the cluster's replication, and wait until it is so."""
        name = self.primary()
        self.inside("gateways", lambda: self.ask(name, "config", {"synchronous_mode": synchronously}))
        self._standbys = ["standby", "sync_standby"] if synchronously else ["standby", "standby"]
        self.settle()

    # -- faults

    def kill(self, name: str) -> None:
        """Kill all of a machine's processes with -9; it is as if its power failed, but its network goes on."""
        self._signal(name, signal.SIGKILL)

    def stop(self, name: str) -> None:
        """Pause a machine's processes by SIGSTOP."""
        self._signal(name, signal.SIGSTOP)

    def cont(self, name: str) -> None:
        """Let a machine's processes go on after ``stop``."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        """Signal until there is no process that has not got it: they start others meanwhile."""
        seen: set[int] = set()
        while new := set(self.processes(name)) - seen:
            for pid in sorted(new):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            seen |= new

    def processes(self, name: str, daemon: Daemon | None = None) -> Iterator[int]:
        """Yield the ids of a machine's processes, or of one daemon's."""
        holder = self._holders[name].pid
        network = Path(f"/proc/{holder}/ns/net").readlink()
        for path in Path("/proc").iterdir():
            if path.name.isdecimal() and int(path.name) not in (holder, os.getpid()):
                with suppress(OSError):  # It has ended.
                    if (path / "ns/net").readlink() == network and daemon in (None, _daemon_of(path)):
                        yield int(path.name)


def _daemon_of(process: Path) -> str:
    program = (process / "exe").readlink().name
    return "patroni" if b"/usr/bin/patroni" in (process / "cmdline").read_bytes() else program
