"""Machines of a bench: each is a network namespace with one address; a bridge in another namespace joins them.

A process holds each namespace and ends with this process, however this one ends; what runs inside ends too. Nothing is
made in the network of the machine itself.
"""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

# By their names: a test's registration patches the module's ``run`` meanwhile.
from subprocess import PIPE, Popen, run
from typing import ClassVar, TypeVar

from harness.real import forks, parts

PREFIX = "10.78.0."
_CLONE_NEWNET = 0x4000_0000
_PR_SET_PDEATHSIG = 1
_NOBODY = "02:00:00:00:00:00"  # no machine has this hardware address: what is sent there is lost without a word

_libc = ctypes.CDLL(None, use_errno=True)

Answer = TypeVar("Answer")

CHECK = ("unshare", "--net", "true")
"""The command that shows whether this machine lets us make namespaces."""


def why_not() -> str | None:
    """Return why no machines can be made here, with the command to run; ``None``: they can."""
    if os.geteuid() != 0:
        return "needs to be root, to make network namespaces: run it with sudo"
    for program in ("ip", *CHECK[:1], "nsenter"):
        if parts.path_of(program) is None:
            return f"needs {program}: apt-get install {parts.PARTS[program][0]}"
    if run(CHECK, check=False, capture_output=True).returncode:
        return f"this machine makes no network namespaces; see: sudo {' '.join(CHECK)}"
    return None


def need_namespaces() -> None:
    """Skip the test where no machines can be made, with the reason; in CI fail."""
    if why := why_not():
        parts.miss(why)


def join(pid: int) -> None:
    """Move the calling thread to the network of a process.

    Raises:
        OSError: There is no such process, or it is not allowed.
    """
    with Path(f"/proc/{pid}/ns/net").open() as file:
        if _libc.setns(file.fileno(), _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"can't join the network of process {pid}")


def enter(pid: int) -> None:
    """Move this process, before it has threads, to the network of another one; it then ends with its parent."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    join(pid)


class Machines:
    """Some machines, by name; each has the address of its place in the list."""

    SHARES_NOT: ClassVar[tuple[str, ...]] = ("--net",)  # what each machine has of its own, in the words of ``unshare``

    def __init__(self, names: Sequence[str]) -> None:
        self.addresses = {name: f"{PREFIX}{at}" for at, name in enumerate(names, 1)}
        self._holders: dict[str, Popen[bytes]] = {}
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        hub = self._hold("the bridge")
        self._ip(hub, "link add br0 type bridge", "link set br0 up")
        for at, (name, address) in enumerate(self.addresses.items(), 1):
            holder = self._hold(name)
            self._ip(
                hub,
                f"link add m{at} type veth peer name eth0 netns {holder}",
                f"link set m{at} master br0",
                f"link set m{at} up",
            )
            self._ip(holder, "link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up")

    def _hold(self, name: str) -> int:
        """Start a process in a network of its own, which ends when its input does."""
        command = ["unshare", *self.SHARES_NOT, "sh", "-c", "echo; exec cat"]
        holder = Popen(command, stdin=PIPE, stdout=PIPE)
        self._holders[name] = holder
        assert holder.stdout is not None
        assert holder.stdout.readline(), "no network namespace could be made"
        return holder.pid

    @staticmethod
    def _ip(pid: int, *lines: str) -> None:
        command = ["nsenter", "--target", str(pid), "--net", "ip", "-batch", "-"]
        run(command, input="\n".join(lines), text=True, check=True, capture_output=True)

    def start(self, name: str, command: Sequence[str], log: Path, code: str = "") -> Popen[bytes]:
        """Start ``commonwatt`` on a machine, forked from a process that has loaded it.

        Args:
            name: The machine.
            command: The words after ``commonwatt``.
            log: The file of its output.
            code: What runs before it, such as what watches it.
        """
        enters = f"from {__name__} import enter; enter({self._holders[name].pid})"
        main = "from commonwatt.__main__ import main; main()"
        words = [sys.executable, "-c", "; ".join(filter(None, (enters, code, main))), *command]
        return forks.start(words, log)

    def inside(self, name: str, do: Callable[[], Answer]) -> Answer:
        """Do something in a machine's network, on another thread, and return its answer or raise its error."""
        found: list[Answer] = []
        errors: list[BaseException] = []

        def do_it() -> None:
            try:
                join(self._holders[name].pid)
                found.append(do())
            except BaseException as error:  # it is raised by the other thread
                errors.append(error)

        thread = threading.Thread(target=do_it)
        thread.start()
        thread.join()
        if errors:
            raise errors[0]
        return found[0]

    def blackhole(self, name: str) -> None:
        """Lose all that a machine sends and receives; no connection is reset, and its link stays up."""
        at = list(self.addresses).index(name) + 1
        self._ip(self._holders["the bridge"].pid, f"link set m{at} nomaster")

    def cut(self, sender: str, receiver: str) -> None:
        """Lose all that one machine sends to another one; the other way goes on."""
        address = self.addresses[receiver]
        self._ip(self._holders[sender].pid, f"neigh replace {address} lladdr {_NOBODY} dev eth0 nud permanent")

    def mend(self, sender: str, receiver: str) -> None:
        """End ``cut``."""
        self._ip(self._holders[sender].pid, f"neigh del {self.addresses[receiver]} dev eth0")

    def close(self) -> None:
        """End the machines; what runs on them must have ended."""
        for holder in self._holders.values():
            holder.kill()
            holder.communicate()
        self._holders.clear()
