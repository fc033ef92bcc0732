"""Common functions of all services: logging, signals, locks and error messages."""

import asyncio
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.words import printable
from commonwatt.runtime.allocator import keep_freed_memory
from commonwatt.runtime.logs import start_log
from commonwatt.runtime.systemd import notifier
from commonwatt.runtime.watchdog import Watchdog

EXIT_FAILED = 1  # exit code: the command failed
EXIT_USAGE = 2  # exit code: a file or an argument is wrong
# Errors of the system that say that a file is wrong, where they name one.
_OF_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


@contextmanager
def errors_reported(*, prints: bool = True) -> Iterator[None]:
    """Turn our own errors into a message and an exit code; all other exceptions show their traceback.

    Args:
        prints: Whether a broken pipe means that the reader of our output (such as ``head``) is done: no error.
    """
    try:
        yield
        if prints:
            sys.stdout.flush()
    except ConfigError as error:
        print(_safe(error), file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from error
    except (CommonwattError, OSError) as error:
        if prints and isinstance(error, BrokenPipeError):
            # Discard the buffered output, which would fail again when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from error
        if prints and isinstance(error, _OF_A_FILE) and error.filename is not None:
            print(_safe(f"{error.filename}: {error.strerror}"), file=sys.stderr)
            raise SystemExit(EXIT_USAGE) from error
        print(f"error: {_safe(error)}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from error


def _safe(error: object) -> str:
    """Return the lines of an error, which may quote text of others, without what would steer a terminal."""
    return "\n".join(map(printable, str(error).split("\n")))


NEW_OBJECTS = (50_000, 20, 20)
"""Python's thresholds of new objects for a search for cycles: by its own (700, 10, 10), a service with thousands of
meters searches all its objects every few seconds, and does nothing else meanwhile."""

Main = Callable[[asyncio.Event, Watchdog], Awaitable[None]]
"""Runs a part until the event is set, and registers the part's threads with the watchdog."""


def run_service(main: Main, *, lives_long: bool = True) -> None:
    """Run a part until SIGTERM or SIGINT; the part must then end within 5 s.

    Args:
        main: The part.
        lives_long: Whether nearly all of its objects live as long as it does, so that a search for cycles finds little.
    """
    start_log()
    keep_freed_memory()
    if lives_long:
        gc.set_threshold(*NEW_OBJECTS)
    with errors_reported(prints=False):
        asyncio.run(serve(main))


async def serve(main: Main) -> None:
    """Run a part on this loop until SIGTERM or SIGINT, with a watchdog."""
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
    """Wait until ``stop`` is set; raise an error if one of ``tasks`` ends before.

    Raises:
        CommonwattError: A task ended; if it failed, its own exception is raised instead.
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
    """Lock ``path`` against use by a second process; the lock ends with this process, even if it is killed.

    Raises:
        ConfigError: Another process is using it.
    """
    try:
        file = lock_file(path, shared=False)
    except BlockingIOError as error:
        raise ConfigError(f"{path}: {what} is using it; stop that one, or give this one its own") from error
    with file:
        yield


def lock_file(path: Path, *, shared: bool) -> TextIO:
    """Lock ``path`` by a file beside it, until the returned file is closed or the process ends.

    Args:
        shared: Whether other processes may hold a shared lock too.

    Raises:
        BlockingIOError: It is locked.
        OSError: The file can't be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC  # root locks in a folder of the services' user
    file = os.fdopen(os.open(path.with_name(path.name + ".lock"), flags, 0o600), "w")
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of ``lock_file``; without taking it, which could stop another's start."""
    try:
        inode = path.with_name(path.name + ".lock").stat().st_ino
        # Each line is of a locked file, such as "1: FLOCK ADVISORY WRITE 41 fe:01:9 0 EOF", where 9 is the inode.
        return any(line.split()[-3].endswith(f":{inode}") for line in Path("/proc/locks").read_text().splitlines())
    except OSError:
        return False
