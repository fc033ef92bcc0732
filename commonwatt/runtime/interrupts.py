"""Handling of Ctrl-C and SIGTERM in commands that may stop at any moment except during their last steps."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STOPPED = 130
"""Exit code: interrupted by a person or the system."""


@contextmanager
def stop_told(said: str) -> Iterator[None]:
    """Make SIGTERM act like Ctrl-C, so that the command cleans up; then print ``said``."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print(said, file=sys.stderr)
        raise SystemExit(EXIT_STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ignore Ctrl-C and SIGTERM during the last steps, so that the message "nothing was done" stays true."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
