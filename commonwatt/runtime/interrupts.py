"""Handling of Ctrl-C and SIGTERM in commands that may stop at any moment except during their last steps."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STOPPED = 130  # exit code: interrupted by a person or the system


@contextmanager
def stop_told(said: str) -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C, so that the command cleans up; then print ``said``.

    An error of that cleaning up, such as a connection that was closed meanwhile, does not hide the interruption.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (KeyboardInterrupt, Exception) as error:
        if not _interrupted(error):
            raise
        print(said, file=sys.stderr)
        raise SystemExit(EXIT_STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupted(error: BaseException | None) -> bool:
    """Return whether an error is an interruption, or happened during the handling of one."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__context__
    return error is not None


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM during the last steps, so that the message "nothing was done" stays true."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
