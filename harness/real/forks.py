"""Start processes of ``commonwatt`` by forking one that has loaded all modules.

Loading takes 0.4 to 0.9 s of a core, and tests start many hundred processes. Each forked process runs the command's
own ``main``, and can be killed like any other. Tests of the start itself use a process that is not forked.
"""

import atexit
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from importlib import import_module
from io import BufferedWriter
from pathlib import Path

_COMMAND = [sys.executable, "-m", "commonwatt"]
_CODE = [sys.executable, "-c"]

_MAIN = "from commonwatt.__main__ import main; main()"

_LOADED = (
    "alembic.command",
    "broker.embedded",
    "gateway.cli",
    "gateway.shell",
    "meter_sim.cli",
    "meter_sim.fleet",
    "utility.exports.cli",
    "utility.assembly.cli",
    "utility.assembly.service",
)


class Forked(subprocess.Popen[bytes]):
    """A forked process; its parent, the origin, reaps it."""

    def __init__(self, origin: "Origin", args: list[str], pid: int) -> None:
        self._child_created = False  # Read by Popen's finaliser.
        self.args = args
        self.pid = pid
        self.returncode: int | None = None
        self._origin = origin

    def poll(self) -> int | None:
        """Return the exit code; ``None`` while it runs."""
        if self.returncode is None:
            self.returncode = self._origin.ask({"poll": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended, and return its exit code."""
        began = time.monotonic()
        while (code := self.poll()) is None:
            waited_s = time.monotonic() - began
            if timeout is not None and waited_s > timeout:
                raise subprocess.TimeoutExpired(self.args, timeout)
            time.sleep(min(max(0.005, waited_s / 10), 0.05))  # Each look costs this process and the origin.
        return code


class Origin:
    """The process that forks the others; it ends with the test process."""

    def __init__(self, wait: Callable[[], object], connection: socket.socket) -> None:
        self._wait = wait
        self._connection = connection
        self._lines = connection.makefile("r")
        self._lock = threading.Lock()

    def ask(self, request: dict[str, object]) -> int | None:
        """Send a request, and return the answer to it."""
        with self._lock:
            self._connection.sendall(json.dumps(request).encode() + b"\n")
            answer: int | None = json.loads(self._lines.readline())
            return answer

    def close(self) -> None:
        """End it."""
        self._connection.close()
        self._lines.close()
        self._wait()


_starting = threading.Lock()


def _origin() -> Origin:
    with _starting:  # Several threads may want it at once.
        return _only_origin()


@cache
def _only_origin() -> Origin:
    ours, theirs = socket.socketpair()
    with theirs:
        origin = Origin(_fork_origin(ours, theirs) if _is_forked() else _start_origin(theirs), ours)
    atexit.register(origin.close)
    return origin


def _start_origin(connection: socket.socket) -> Callable[[], object]:
    """Start an origin that loads all modules; return a function that waits for its end."""
    number = connection.fileno()
    return subprocess.Popen([sys.executable, "-m", __name__, str(number)], pass_fds=[number]).wait


def _fork_origin(ours: socket.socket, theirs: socket.socket) -> Callable[[], object]:
    """Make an origin by forking this process, which has all modules already; otherwise like ``_start_origin``."""
    if pid := os.fork():
        return partial(os.waitpid, pid, 0)
    ours.close()
    _be_origin(theirs)
    os._exit(0)


def _is_forked() -> bool:
    """Return whether this process was forked by an origin."""
    spec = sys.modules["__main__"].__spec__
    return spec is not None and spec.name == __name__


_enabled = False


def enable() -> None:
    """Fork from now on. A benchmark does not: it measures processes that have loaded their own modules only."""
    global _enabled
    _enabled = True
    if _is_forked():
        _origin()  # Later this process may have threads, and could not be forked.


def start(
    command: Sequence[str],
    out: Path,
    err: Path | None = None,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command that appends to one or two files; once enabled, fork for ``commonwatt`` and ``python -c``.

    Args:
        command: Its words.
        out: The file of its output.
        err: The file of its errors, if another.
        folder: Its working folder, if another than this process's.
        environment: Variables besides this process's own.
    """
    command = list(command)
    code = _MAIN if command[:3] == _COMMAND else command[2] if command[:2] == _CODE else None
    if _enabled and code is not None:
        for file in (out, err or out):
            file.touch()
        files = [str(out.absolute()), str((err or out).absolute())]
        request: dict[str, object] = {
            "code": code,
            "arguments": command[3:],
            "files": files,
            "folder": str(folder or Path.cwd()),
            "environment": [f"{name}={value}" for name, value in (environment or {}).items()],
        }
        pid = _origin().ask(request)
        assert pid is not None
        return Forked(_origin(), command, pid)
    variables = os.environ | (environment or {})
    with out.open("ab") as out_file, (err or out).open("ab") as err_file:
        return subprocess.Popen(command, stdout=out_file, stderr=err_file, cwd=folder, env=variables)


def run(
    command: Sequence[str],
    *,
    stdout: BufferedWriter | None = None,
    check: bool = False,
    timeout: float | None = None,
    cwd: Path | None = None,
    **_: object,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end: ``subprocess.run`` with ``text``, and with ``capture_output`` or ``stdout`` a file."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(stdout.name if stdout else f"{folder}/out"), Path(folder) / "err"
        code = start(command, out, err, cwd).wait(timeout)
        done = subprocess.CompletedProcess(command, code, "" if stdout else out.read_text(), err.read_text())
    if check:
        done.check_returncode()
    return done


def _serve(connection: socket.socket) -> dict[str, str | list[str]] | None:
    """Serve fork and poll requests until the connection ends; in a forked process, return its request."""
    codes: dict[int, int] = {}
    with connection, connection.makefile("r") as lines:
        for line in lines:
            request = json.loads(line)
            if "poll" in request:
                pid = request["poll"]
                if pid not in codes:
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        codes[pid] = os.waitstatus_to_exitcode(status)
                answer = codes.get(pid)
            elif not (answer := os.fork()):
                return dict(request)
            else:
                codes.pop(answer, None)  # An earlier process may have had the same number.
            connection.sendall(json.dumps(answer).encode() + b"\n")
    return None


def _main() -> None:
    for name in _LOADED:
        import_module(name)
    from utility.database.migrate import empty_database

    empty_database()  # The processes of the utility share it.
    _be_origin(socket.socket(fileno=int(sys.argv[1])))


def _be_origin(connection: socket.socket) -> None:
    """Fork processes on request until the connection ends; a forked process does not return."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests; this one ends with their connection.
    gc.freeze()
    request = _serve(connection)
    if request is None:
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, path in enumerate(request["files"], start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, stream)
        os.close(file)
    os.chdir(str(request["folder"]))
    os.environ |= dict(line.split("=", 1) for line in request["environment"])
    sys.argv = ["commonwatt", *request["arguments"]]
    os._exit(_run(str(request["code"])))


def _run(code: str) -> int:
    """Run code as a main module, to the end of its threads and exit functions; return the exit code."""
    # What an interpreter does besides takes the other tenth of a second: it frees every object of the origin, and so
    # copies all of its memory.
    status = 0
    try:
        exec(code, {"__name__": "__main__"})
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError):  # The command has closed it.
            stream.flush()
    return status


if __name__ == "__main__":
    _main()
