"""Commands that may be stopped by Ctrl-C or SIGTERM at any moment, but for the last steps of what they do."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STOPPED = 130
"""Exit code: a person, or the system, ended it."""


@contextmanager
def stop_told(said: str) -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does, so that it clears up what it has begun; then say ``said``."""
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
    """Ignore Ctrl-C and SIGTERM during last steps that take a moment, so that "nothing was done" is true."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
