"""Pending connections: open and not yet admitted, bounded. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

MAX_WAITING = 512  # most connections open and not yet admitted


class PendingConnections(Generic[Key]):
    """Pending connections by source address.

    Above the limit, the oldest connection of the address with the most connections is refused: a client that opens
    connections and sends nothing displaces its own, while a correct client needs milliseconds to authenticate.
    """

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._source: dict[Key, str] = {}
        self._by_source: dict[str, dict[Key, None]] = {}

    def __len__(self) -> int:
        """Return how many connections are pending."""
        return len(self._source)

    def enter(self, key: Key, source: str) -> tuple[Key, str] | None:
        """Add a connection; return the one to refuse for it, already removed, and its address; ``None``: none."""
        self._source[key] = source
        self._by_source.setdefault(source, {})[key] = None
        if len(self._source) <= self._limit:
            return None
        busiest = max(self._by_source, key=lambda each: len(self._by_source[each]))
        oldest = next(iter(self._by_source[busiest]))
        self.leave(oldest)
        return oldest, busiest

    def leave(self, key: Key) -> None:
        """Remove a connection that was admitted, refused or has ended; ignore it if it is not pending."""
        source = self._source.pop(key, None)
        if source is not None:
            del self._by_source[source][key]
            if not self._by_source[source]:
                del self._by_source[source]
