"""What closes the databases of worlds, which have no end of their own: each is closed after the test that made it."""

from collections.abc import Callable

opened: list[Callable[[], object]] = []


def close_opened() -> None:
    """Close them all."""
    while opened:
        opened.pop()()
