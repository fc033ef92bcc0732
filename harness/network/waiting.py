"""Waiting for what another process, or thread, makes true: never a fixed time, always with an end."""

import asyncio
import fcntl
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from pathlib import Path

PATIENCE_S = 120.0
"""How long a condition may take to come true before the test has failed."""

_TICK = threading.Event()


def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until ``condition`` is true; fail with its last value if it does not become so in time."""
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s; last: {value!r}"
        _TICK.wait(0.02)


async def become(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait as ``eventually``, and let the loop run meanwhile."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what makes it true tells nobody
            await asyncio.sleep(0.02)


def ended(process: subprocess.Popen[bytes], within_s: float) -> int:
    """Return the exit code of a process that was told to end; fail if it takes longer than it may.

    The time in which it was ready and had no processor does not count: that is the machine's load, not the process.
    """
    began, ready_s = time.monotonic(), 0.0
    ready_before_s = _ready_s(process.pid)
    while (code := process.poll()) is None:
        ready_s = max(ready_s, _ready_s(process.pid) - ready_before_s)
        took_s = time.monotonic() - began - min(ready_s, PATIENCE_S)
        if took_s >= within_s:
            process.kill()  # Else it disturbs the tests that follow.
            process.wait()
            raise AssertionError(f"not ended within {within_s:g} s, beside {ready_s:.1f} s without a processor")
        _TICK.wait(0.02)
    return code


def _ready_s(pid: int) -> float:
    """Return how long the threads of a process were ready to run and did not run."""
    waited_ns = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # It has ended.
            waited_ns += int(thread.read_text().split()[1])
    return waited_ns / 1e9


_PORTS = 400
_FIRST_PORT, _LAST_PORT = 10_000, 32_000  # Below the ports that the system gives to connections.


def _own_ports() -> range:
    """Return ports that no other process gives to its tests: a locked file claims each range until its process ends."""
    for first in range(_FIRST_PORT, _LAST_PORT, _PORTS):
        # Left open on purpose: the lock lasts as long as the process.
        lock = os.open(
            Path(tempfile.gettempdir()) / f"commonwatt-test-ports-{first}.lock", os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            continue
        return range(first, first + _PORTS)
    raise AssertionError("every range of test ports is in use; do many test runs go on at once?")


@cache
def _candidates() -> Iterator[int]:
    return cycle(_own_ports())


def free_port() -> int:
    """Return a loopback port that is free now, and that no other test process beside this one is given."""
    for port in _candidates():
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue  # Somebody else's; there are thousands.
    raise AssertionError("unreachable")


def free_ports(count: int) -> list[int]:
    """Return several of them."""
    return [free_port() for _ in range(count)]
