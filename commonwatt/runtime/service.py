"""Common functions of all services: logging, signals, locks, memory, starts and error messages.

Starts of a service: it starts again within 0.2 s of an end, and waits when it ended often (docs/controllers.md, R9).
systemd starts it again at once, since another controller takes over within seconds. A service that can't start, such as
one with a wrong settings file, must not take the machine's time from the others.
"""

import asyncio
import ctypes
import fcntl
import gc
import json
import logging
import os
import re
import signal
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from commonwatt.model.exceptions import CommonwattError, ConfigError
from commonwatt.model.text import printable
from commonwatt.runtime.supervisor import handled
from commonwatt.runtime.systemd import notifier
from commonwatt.runtime.watchdog import Watchdog

if TYPE_CHECKING:
    from rich.progress import Progress

# glibc's <malloc.h>.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

KEPT_ARRAY_BYTES = 8 * 1024 * 1024  # arrays up to this size are taken from memory that the process keeps
KEPT_BYTES = 16 * 1024 * 1024  # free memory at the top of the heap that the process keeps
ARENAS = 1  # heaps; by default each thread has its own, and keeps there what only this thread can use again


def keep_freed_memory() -> bool:
    """Let glibc keep the memory of a batch's arrays for the next batch; return whether it does.

    By default large arrays go back to the kernel after each batch and are mapped again, page by page: packing 2,000
    blocks then takes twice as long. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    wanted = ((_M_MMAP_THRESHOLD, KEPT_ARRAY_BYTES), (_M_TRIM_THRESHOLD, KEPT_BYTES), (_M_ARENA_MAX, ARENAS))
    return all(mallopt(name, value) == 1 for name, value in wanted)


EXIT_STOPPED = 130  # exit code: interrupted by a person or the system


@contextmanager
def stop_told(said: str) -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C, so that the command cleans up; then print ``said``.

    An error of that cleaning up, such as a connection that was closed meanwhile, does not hide the interruption.
    """
    with handled(signal.default_int_handler, signal.SIGTERM):
        try:
            yield
        except (KeyboardInterrupt, Exception) as error:
            if not _interrupted(error):
                raise
            print(said, file=sys.stderr)
            raise SystemExit(EXIT_STOPPED) from None


def _interrupted(error: BaseException | None) -> bool:
    """Return whether an error is an interruption, or happened during the handling of one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


def uninterrupted() -> AbstractContextManager[None]:
    """Ignore Ctrl-C and SIGTERM during the last steps, so that the message "nothing was done" stays true."""
    return handled(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM)


KEPT_LINES = 200  # most lines kept in memory
KEPT_CHARACTERS = 2_000  # most characters of a line that are kept

# Keys of a secret. People choose the first kind, perhaps with spaces; the last one is a key only before a sign.
_CHOSEN = r"(?:[\w-]*(?:pass(?:word|wd|phrase|wort)|kennwort|contraseña)|(?:[\w-]*[_-])?(?:pass|pwd?|psk))"
_RANDOM = r"[\w-]*(?:token|secret|bearer|credentials?|(?:api|private|access)[_-]?key)"
_WEAK = r"(?:[\w-]*[_-])?(?:key|auth|sig|otp|session[_-]?id)"
# Words and files that follow a key and are no value of it.
_NO_VALUE = (
    r"(?!\[removed|[\"']?[\w./-]+\.(?:json|pem|toml)\b|(?:again|alone|and|are|at|by|can|changed|does|enough|file|first"
    r"|for|from|has|hash|in|is|must|names|needed|needs|no|not|now|of|on|or|refused|required|that|the|there|to|was|were"
    r"|which|will|with|without|wrong)\b)"
)
_SIGN = rf"[\"'\\]*\s{{0,9}}(?:[=:]+>?|->|%3D|>)\s{{0,9}}+{_NO_VALUE}"
_IS = rf"\s(?:(?:of|for)\s\S+\s)?(?:is|was|ist|lautet|es)\s{_NO_VALUE}"
_QUOTED = r"""\\+".*?\\+"|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_WORD = rf"(?:{_QUOTED}|[^\s,;}}\])&<]+)"
_LINE = rf"(?:{_QUOTED}|[^\n;}}\])&<]+?(?=,?\s{{1,9}}[\w-]{{1,40}}\s?[=:]|[\n;}}\])&<]|\Z))"

_SECRETS = (
    re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
    # A password or token in a URL, such as postgresql://user:password@host.
    re.compile(r"(?<=://)(?:[^\s/:@]{0,200}:[^\s@]{1,200}|[^\s/@]{1,200})(?=@)"),
    # The value after such a key: password = "...", token: ..., Authorization: Bearer ...
    re.compile(rf"(?i)((?:authorization|cookie)[\"']?\s?[=:]\s?)(?!\[removed)(?:{_QUOTED}|[^\n]+)"),
    re.compile(rf"(?i)(?<![\w-])({_CHOSEN}(?:{_SIGN}|{_IS})){_LINE}"),
    re.compile(
        rf"(?i)(?<![\w-])((?:{_RANDOM}{_SIGN}|{_WEAK}(?:=|\s?[=:]\s(?=[^\s/]{{6}})(?=\S*\d)(?!\d)){_NO_VALUE})){_WORD}"
    ),
    # Without a sign: --password ..., password ..., user ... pass ..., a token of letters and digits.
    re.compile(rf"(?i)(?<!\S)(--?(?:{_CHOSEN}|{_RANDOM}|{_WEAK})\s|-P\s|-u\s[^\s:]+:)(?!\[removed)(?:{_QUOTED}|\S+)"),
    re.compile(
        rf"(?i)(?<![\w-])((?:[\w-]*pass(?:word|wd|phrase|wort)|pwd?|user\s\S+\spass)\s)(?![=:-]){_NO_VALUE}{_WORD}"
    ),
    re.compile(
        r"(?i)\b((?:Bearer|Basic|token|secret|psk|key|cookie|auth)\s+(?:is\s|was\s)?)(?=\w*\d)(?=\w*[a-z])[\w+/=.~-]{6,}"
    ),
    # A line of a key of which the first line is missing.
    re.compile(r"(?<![A-Za-z0-9+/=])(?=[a-z+/]*[A-Z0-9])[A-Za-z0-9+/]{60,}={0,2}"),
    # A random text of at least 128 bits, in base 64 or hexadecimal; hashes go with them. Words have fewer capitals.
    re.compile(r"(?<![\w/+-])(?=[\w+-]*[0-9])(?=[\w+-]*[A-Za-z])[A-Za-z0-9_+-]{32,}={0,2}(?![\w/+-])"),
    re.compile(r"(?<![\w/+.-])(?=(?:[a-z0-9_+/-]*[A-Z]+[a-z0-9_+/-]){6})[\w+/-]{32,}={0,2}(?![\w/+.-])"),
    re.compile(r"(?<![\w+/=.-])[A-Za-z0-9+/]{22,}={1,2}(?![\w=])|\beyJ[\w-]+\.[\w.-]+|\$(?:argon2\w*|\w{1,2})\$\S+"),
)
_EIGHT_WORDS = re.compile(r"(?i)(?<![a-z])[a-z]{3,8}(?:[^a-z]{1,4}[a-z]{3,8}){7,}(?![a-z])")
_MARK = "[removed]"


def without_secrets(text: str) -> str:
    """Return a text without tokens, passwords, private keys, and the words of labels."""
    for pattern in _SECRETS:
        text = pattern.sub(lambda found: (found[1] if found.re.groups else "") + _MARK, text)
    return _EIGHT_WORDS.sub(_without_labels, text)


def _without_labels(found: re.Match[str]) -> str:
    parts = re.split("([^A-Za-z]+)", found[0])
    known = "".join("x" if word.lower() in _label_words() else "-" for word in parts[::2])
    for label in reversed(list(re.finditer("x{8,}", known))):
        parts[2 * label.start() : 2 * label.end() - 1] = [_MARK]
    return "".join(parts)


@cache
def _label_words() -> frozenset[str]:
    from mnemonic import Mnemonic  # With the first line of eight short words.

    return frozenset(Mnemonic("english").wordlist)


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return without_secrets(super().format(record))


class LastLines(logging.Handler):
    """Keeps the last lines of the log in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)  # the last ones, the oldest first

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(self.format(record)[:KEPT_CHARACTERS])


LAST_LINES = LastLines()
"""Those of the process."""


def start_log() -> None:
    """Begin to log to the standard error output, without secrets."""
    handlers = (logging.StreamHandler(sys.stderr), LAST_LINES)
    for handler in handlers:
        handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=handlers)


WITHIN_S, OFTEN = 60.0, 5  # so many starts within so many seconds are often
WAIT_S = 5.0  # seconds that it waits then

log = logging.getLogger(__name__)


def wait_if_often(path: Path, sleep: Callable[[float], object] = time.sleep) -> None:
    """Note this start, and wait if there were ``OFTEN`` of the last minute; only where systemd started it.

    Args:
        path: The service's settings file; the file of starts lies beside it.
    """
    if "INVOCATION_ID" not in os.environ:
        return
    kept = path.with_suffix(".starts")
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    try:
        starts = [float(start) for start in json.loads(kept.read_text())]
    except (OSError, ValueError, TypeError):  # the first start, or a file cut off in a power failure
        starts = []
    starts = [*(start for start in starts if 0 <= now - start <= WITHIN_S), now][-OFTEN:]
    try:
        kept.write_text(json.dumps(starts))
    except OSError as error:
        log.warning("%s: starts are not counted: %s", kept, error)
        starts = [now] * OFTEN
    if len(starts) == OFTEN:
        sleep(WAIT_S)


EXIT_FAILED = 1  # exit code: the command failed
EXIT_USAGE = 2  # exit code: a file or an argument is wrong
# Errors of the system that say that a file is wrong, where they name one.
_OF_A_FILE = (FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError)


def progress_bar() -> "Progress":
    """Return a bar on standard error that is gone in the end; services, which have none, don't load its library."""
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True)


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
