"""Processes that are kept running: started, started again when they died, stopped in turn, ended with their supervisor.

It loads little: the supervisor of a street has to be small.
"""

import ctypes
import json
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import ConfigError
from commonwatt.runtime.files import write_private

STOP_WITHIN_S = 5.0  # real seconds within which a part must end after SIGTERM; after that it is killed

FIRST_RESTART_S = 0.2
LAST_RESTART_S = 5.0
_LIVED_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)

_STOPPED = ("adapter", "meters", "gateway", "host", "utility", "broker", "database")  # kinds of parts, in turn

_LOWEST_PORT = 10_000
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_EPHEMERAL_FROM = 32_768  # Linux's default for the first ephemeral port

_CLAIMED = set[int]()  # the ports that this process claimed


def claim_port(port: int) -> None:
    """Claim a port among the streets of this machine, until this process, or the one that takes its place, ends.

    A street chooses its ports seconds before its parts listen there.

    Raises:
        OSError: Another street has claimed it.
    """
    if port not in _CLAIMED:
        with socket.socket(socket.AF_UNIX) as held:
            held.bind(f"\0commonwatt-port-{port}")  # an abstract name (Linux): it ends with its holders
            os.set_inheritable(held.detach(), True)
        _CLAIMED.add(port)


def free_ports(count: int) -> list[int]:
    """Return free loopback ports below the ephemeral range, so that no outgoing connection can take one.

    All ports stay bound until the last is found, so no two are the same.
    """
    end = int(_EPHEMERAL.read_text().split()[0]) if _EPHEMERAL.exists() else _EPHEMERAL_FROM
    span = max(end - _LOWEST_PORT, count)
    first = secrets.randbelow(span)
    ports: list[int] = []
    with ExitStack() as held:
        for n in range(span):
            port = _LOWEST_PORT + (first + n) % span
            try:
                held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue  # Another program uses this port.
            ports.append(port)
            if len(ports) == count:
                return ports
    raise ConfigError(f"only {len(ports)} of {count} ports from {_LOWEST_PORT} to {_LOWEST_PORT + span} are free here")


@contextmanager
def handled(handler: Callable[..., object] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals by ``handler``, and in the end as before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stopped_by_signals() -> Iterator[threading.Event]:
    """Yield an event that Ctrl-C, SIGTERM or a closed terminal sets, in place of an exception."""
    stop = threading.Event()

    def told(*_: object) -> None:
        # By a thread: the main one may hold the event's lock just now, and would wait for itself.
        threading.Thread(target=stop.set, daemon=True).start()

    with handled(told, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield stop


@dataclass(frozen=True, kw_only=True)
class SupervisedPart:
    """One process."""

    name: str  # such as ``r001 gateway``; unique among those of a supervisor
    kind: str  # what it is: broker, gateway, host, meters, adapter, utility or database
    config: Path  # the file of its settings
    http: str | None  # the address of its /metrics and /status; ``None``: no address
    log: Path  # the file of its output
    command: tuple[str, ...] = ()  # the command line that starts it
    hosted: bool = False  # whether another part runs it: then no process is started for it
    user: str | None = None  # the user that runs it; ``None``: the present one


@dataclass
class RunningPart:
    """A part and its process."""

    part: SupervisedPart  # the part
    process: subprocess.Popen[bytes]  # its process; while it waits for a restart, its last process
    started: float  # monotonic time of its start
    restarts: int = 0  # times it died and was started again
    wait_s: float = FIRST_RESTART_S  # real seconds to wait before the next start
    restart_at: float | None = None  # monotonic time of the next start; ``None`` while it runs


class Supervisor:
    """Starts and watches parts.

    Args:
        processes: A file in which the process ids of the parts stand, by name.
        stop_within_s: Real seconds within which a part must end.
    """

    def __init__(self, processes: Path, stop_within_s: float = STOP_WITHIN_S) -> None:
        self.running: dict[str, RunningPart] = {}
        self._processes = processes
        self._stop_within_s = stop_within_s
        self._held: set[str] = set()

    def start(self, parts: Iterable[SupervisedPart]) -> None:
        """Start the processes of some parts."""
        for part in parts:
            self.running[part.name] = RunningPart(part, start_part(part), time.monotonic())
        self._write_down()

    def watch(self) -> None:
        """Restart processes that died, with a back-off that grows with each repeated death."""
        now = time.monotonic()
        changed = False
        for name, running in self.running.items():
            if name in self._held:
                continue
            if running.restart_at is None and running.process.poll() is not None:
                running.wait_s = (
                    FIRST_RESTART_S if now - running.started > _LIVED_S else min(running.wait_s * 2, LAST_RESTART_S)
                )
                running.restart_at = now + running.wait_s
            if running.restart_at is not None and running.restart_at <= now:
                try:
                    running.process = start_part(running.part)
                except OSError:  # The machine has no memory or no files left just now.
                    running.restart_at = now + LAST_RESTART_S
                    continue
                running.started, running.restart_at = now, None
                running.restarts += 1
                changed = True
        if changed:
            self._write_down()

    def hold(self, names: Collection[str]) -> None:
        """Kill parts and keep them dead, as without power; parts that were held and are not named start again."""
        for name in set(names) - self._held:
            self.running[name].process.kill()
            self.running[name].process.wait()
        for name in self._held - set(names):
            self.running[name].restart_at = time.monotonic()
        self._held = set(names)

    def end(self, names: Iterable[str]) -> list[str]:
        """End some parts together; return the names of those that had to be killed."""
        killed = []
        members = [self.running.pop(name) for name in names]
        for running in members:
            if running.process.poll() is None:
                # PostgreSQL waits for its clients after SIGTERM.
                running.process.send_signal(signal.SIGINT if running.part.kind == "database" else signal.SIGTERM)
        deadline = time.monotonic() + self._stop_within_s
        for running in members:
            try:
                running.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()
                killed.append(running.part.name)
        self._write_down()
        return killed

    def stop(self) -> list[str]:
        """End the parts of each kind in turn; return the names of those that had to be killed."""
        kinds = {name: running.part.kind for name, running in self.running.items()}
        return [killed for kind in _STOPPED for killed in self.end([name for name in kinds if kinds[name] == kind])]

    def _write_down(self) -> None:
        """Write the process ids of the parts; they run without that file, too, such as on a full disk."""
        processes = {name: running.process.pid for name, running in self.running.items()}
        with suppress(OSError):
            write_private(self._processes, json.dumps(processes, indent=1) + "\n")


def start_part(part: SupervisedPart) -> subprocess.Popen[bytes]:
    """Start a part's process; it ends with this process."""
    with part.log.open("ab") as log:
        return subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            user=part.user,
            group=part.user,
            extra_groups=None if part.user is None else [],
            preexec_fn=_die_with_parent,
        )


def _die_with_parent() -> None:
    """Have the kernel end this process when its supervisor is killed, so that no part runs on (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
