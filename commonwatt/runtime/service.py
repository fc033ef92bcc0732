"""What all services have in common: logging, signals, and error messages."""

import asyncio
import fcntl
import inspect
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, TypeVar

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.runtime.allocator import keep_freed_memory
from commonwatt.runtime.systemd import notifier
from commonwatt.runtime.watchdog import Watchdog

EXIT_FAILED = 1
"""Exit code: it could not be done."""

EXIT_USAGE = 2
"""Exit code: a file or an argument a person gave is wrong."""


_C = TypeVar("_C", bound=Callable[..., object])


def flowing(command: _C) -> _C:
    """Join the lines of each paragraph of a command's help, so that it flows in a terminal of any width."""
    paragraphs = (inspect.getdoc(command) or "").split("\n\n")
    command.__doc__ = "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    return command


@contextmanager
def errors_reported(*, prints: bool = True) -> Iterator[None]:
    """Turn what we raise on purpose into a message and an exit code; let everything else show its traceback.

    Args:
        prints: Whether a broken pipe is our output's, whose reader (such as ``head``) has enough: that ends well.
    """
    try:
        yield
        if prints:
            sys.stdout.flush()
    except ConfigError as error:
        print(error, file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except (CommonwattError, OSError) as error:
        if prints and isinstance(error, BrokenPipeError):
            # What is still buffered goes nowhere, instead of failing again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from error
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from error


Main = Callable[[asyncio.Event, Watchdog], Awaitable[None]]
"""Runs a part until the event is set, and has the watchdog watch what it does besides its loop."""


def run_service(main: Main) -> None:
    """Run a part until SIGTERM or SIGINT; it then has 5 s to end."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    keep_freed_memory()
    with errors_reported(prints=False):
        asyncio.run(serve(main))


async def serve(main: Main) -> None:
    """Run a part on this loop until SIGTERM or SIGINT, under the eyes of a watchdog."""
    stop = asyncio.Event()
    watchdog = Watchdog(notifier())

    def told_to_stop() -> None:
        watchdog.stopping()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told_to_stop)
    async with watchdog.watching():
        await main(stop, watchdog)


async def until_stopped(stop: asyncio.Event, tasks: Iterable["asyncio.Task[object]"]) -> None:
    """Wait until ``stop`` is set; none of ``tasks`` may end before.

    Raises:
        CommonwattError: One ended by itself; if it failed, what it raised.
    """
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopping.cancel()
    for task in done - {stopping}:
        task.result()
        if not stop.is_set():
            raise CommonwattError(f"{task.get_name()} ended by itself; start the service again")


@contextmanager
def only_one(path: Path, what: str) -> Iterator[None]:
    """Keep a second process from using what is at ``path`` while this one does; killed or not, the lock ends with it.

    Raises:
        ConfigError: Another one is using it.
    """
    try:
        file = lock_file(path, shared=False)
    except BlockingIOError as error:
        raise ConfigError(f"{path}: {what} is using it; stop that one, or give this one its own") from error
    with file:
        yield


def lock_file(path: Path, *, shared: bool) -> TextIO:
    """Lock what is at ``path``, by a file beside it, until the file returned is closed or the process ends.

    Args:
        path: What is locked.
        shared: Whether others may share it, each with a shared lock of its own.

    Raises:
        BlockingIOError: It is locked.
        OSError: The file can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.fdopen(os.open(path.with_name(path.name + ".lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "w")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file
