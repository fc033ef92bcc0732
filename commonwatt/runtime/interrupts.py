"""Handling of Ctrl-C and SIGTERM in commands that may stop at any moment except during their last steps."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

EXIT_STOPPED = 130  # exit code: interrupted by a person or the system


@contextmanager
def handled(handler: Callable[..., object] | signal.Handlers, *numbers: signal.Signals) -> Iterator[None]:
    """Handle these signals by ``handler``, and in the end as before."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


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
