"""The supervisor of the demonstration's processes: starts, restarts and stops them."""

import ctypes
import json
import signal
import subprocess
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from commonwatt.demo.layout import Layout
from commonwatt.demo.parts import Part
from commonwatt.runtime.files import write_private

STOP_WITHIN_S = 5.0  # real seconds within which a part must end after SIGTERM; after that it is killed, with a message
STOP_LARGE_WITHIN_S = 60.0  # the same in a large town, whose parts have thousands of connections

FIRST_RESTART_S = 0.2
LAST_RESTART_S = 5.0
_LIVED_S = 10.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Running:
    """A part and its process."""

    part: Part  # the part
    process: subprocess.Popen[bytes]  # its process; while it waits for a restart, its last process
    started: float  # monotonic time of its start
    restarts: int = 0  # times it died and was started again
    wait_s: float = FIRST_RESTART_S  # real seconds to wait before the next start
    restart_at: float | None = None  # monotonic time of the next start; ``None`` while it runs


class Supervisor:
    """Starts and watches the parts of a layout."""

    def __init__(self, layout: Layout) -> None:
        self.running: dict[str, Running] = {}
        self._layout = layout
        self._held: set[str] = set()

    def start(self, parts: Iterable[Part]) -> None:
        """Start the processes of some parts."""
        for part in parts:
            self.running[part.name] = Running(part, _start(part), time.monotonic())
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
                running.process = _start(running.part)
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

    def stop(
        self, kinds: tuple[str, ...] = ("meters", "gateway", "host", "utility", "broker", "database")
    ) -> list[str]:
        """End the parts of each kind in turn; return the names of those that had to be killed."""
        killed = []
        for kind in kinds:
            members = [running for running in self.running.values() if running.part.kind == kind]
            for running in members:
                if running.process.poll() is None:
                    # PostgreSQL waits for its clients after SIGTERM.
                    running.process.send_signal(signal.SIGINT if kind == "database" else signal.SIGTERM)
            deadline = time.monotonic() + (STOP_LARGE_WITHIN_S if self._layout.large else STOP_WITHIN_S)
            for running in members:
                try:
                    running.process.wait(max(0.1, deadline - time.monotonic()))
                except subprocess.TimeoutExpired:
                    running.process.kill()
                    running.process.wait()
                    killed.append(running.part.name)
                del self.running[running.part.name]
        self._write_down()
        return killed

    def _write_down(self) -> None:
        """Write the process ids of the parts to ``processes.json``."""
        processes = {name: running.process.pid for name, running in self.running.items()}
        write_private(self._layout.data / "processes.json", json.dumps(processes, indent=1) + "\n")


def _start(part: Part) -> subprocess.Popen[bytes]:
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
    """Have the kernel end this process when the demonstration is killed, so that no part runs on (Linux)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
