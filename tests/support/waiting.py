"""Waiting for what another process, or thread, makes true: never a fixed time, always with an end."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from itertools import cycle

PATIENCE_S = 60.0
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


_PORTS = 2_400
_FIRST_PORT = 10_000 + _PORTS * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
# Below what the system gives to connections; from another place in each run.
_candidates = cycle([_FIRST_PORT + (n + os.getpid() * 97) % _PORTS for n in range(_PORTS)])


def free_port() -> int:
    """Return a loopback port that is free now, and that no other test run beside this one is given."""
    for port in _candidates:
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue  # Somebody else's; there are thousands.
    raise AssertionError("unreachable")


def free_ports(count: int) -> list[int]:
    """Return several of them."""
    return [free_port() for _ in range(count)]
