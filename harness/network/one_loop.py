"""One event loop for all requests of tests, on a thread of its own: a loop for each takes longer than most requests."""

import asyncio
from collections.abc import Coroutine
from functools import cache
from threading import Thread
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, which runs on the loop, while this thread waits."""
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    # The threads on which endpoints run live as long as the loop's first task.
    Thread(target=loop.run_until_complete, args=(asyncio.Event().wait(),), name="requests", daemon=True).start()
    return loop
