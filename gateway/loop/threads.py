"""Threads for what a disk does: opening stores, and the syncs of their commits.

A call that takes long does not keep its place: other stores' calls go on beside it, though its disk never answers. The
threads are daemons, so that a call that never returns does not keep the process from ending.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

AT_ONCE = 16  # most calls at a time that do not take long
LONG_S = 1.0  # real seconds after which a call takes long, and another one may run beside it

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Threads:
    """Runs calls, the first ones first; threads are started when needed, and used again."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(AT_ONCE)
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0

    async def run(self, call: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs) -> _T:
        """Return what a call returns, on another thread; a call that has begun ends also if this is cancelled."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_T] = loop.create_future()
        async with self._places:
            self._begin(partial(self._work, partial(call, *arguments, **options), done, loop))
            await asyncio.wait([done], timeout=LONG_S)
        return await done

    def _begin(self, work: Callable[[], None]) -> None:
        with self._lock:
            has_idle = self._idle > 0
            self._idle -= has_idle
        self._calls.put(work)
        if not has_idle:
            threading.Thread(target=self._serve, name="store", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self._calls.get()()

    def _work(self, call: Callable[[], Any], done: "asyncio.Future[Any]", loop: asyncio.AbstractEventLoop) -> None:
        result, failure = None, None
        try:
            result = call()
        except BaseException as error:
            failure = error
        with self._lock:
            self._idle += 1
        with suppress(RuntimeError):  # The loop has closed meanwhile.
            loop.call_soon_threadsafe(_settle, done, result, failure)


def _settle(done: "asyncio.Future[Any]", result: object, failure: BaseException | None) -> None:
    if done.cancelled():
        return
    if failure is None:
        done.set_result(result)
    else:
        done.set_exception(failure)


THREADS = Threads()
"""Those of the process."""
