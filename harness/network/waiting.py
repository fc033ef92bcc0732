"""Waits for conditions that another process or thread fulfils: never a fixed time, always with a limit."""

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
from typing import Any

PATIENCE_S = 120.0  # seconds after which the test fails if a condition is still false

_TICK = threading.Event()


def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait until ``condition`` is true; fail with its last value if that takes too long."""
    began = looked = time.monotonic()
    while not (value := condition()):
        now = time.monotonic()
        waited_s = now - began
        assert waited_s < within_s, f"not within {within_s:g} s; last: {value!r}"
        # A look costs the waiting process, and the one that is asked, a part of a processor: at most a quarter of it.
        _TICK.wait(max(min(max(0.02, waited_s / 10), 0.25), 3 * (now - looked)))
        looked = time.monotonic()


async def become(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    """Wait like ``eventually``, while the event loop runs."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - what makes it true tells nobody
            await asyncio.sleep(0.02)


async def cancelled(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def ended(process: subprocess.Popen[bytes], within_s: float) -> int:
    """Return the exit code of a process that was signalled to end; fail if that takes too long.

    Time in which the process was ready without a processor does not count: it is due to the machine's load.
    """
    began, ready_s = time.monotonic(), 0.0
    ready_before_s = _ready_s(process.pid)
    while (code := process.poll()) is None:
        ready_s = max(ready_s, _ready_s(process.pid) - ready_before_s)
        took_s = time.monotonic() - began - min(ready_s, PATIENCE_S)
        if took_s >= within_s:
            process.kill()  # Else it disturbs later tests.
            process.wait()
            raise AssertionError(f"not ended within {within_s:g} s, beside {ready_s:.1f} s without a processor")
        _TICK.wait(0.02)
    return code


def _ready_s(pid: int) -> float:
    """Return the seconds in which the threads of a process were ready without a processor."""
    waited_ns = 0
    for thread in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with suppress(OSError, IndexError):  # It has ended.
            waited_ns += int(thread.read_text().split()[1])
    return waited_ns / 1e9


_PORTS = 400
_FIRST_PORT, _LAST_PORT = 10_000, 32_000  # Below the ports that the system gives to connections.


def _own_ports() -> range:
    """Return ports that no other test process uses: a locked file reserves each range until its process ends."""
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
    """Return a loopback port that is free now, and that no other test process uses."""
    for port in _candidates():
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue  # In use by another program; there are thousands.
    raise AssertionError("unreachable")


def free_ports(count: int) -> list[int]:
    """Return ``count`` free ports."""
    return [free_port() for _ in range(count)]
