"""Pending connections: open and not yet admitted, bounded. Pure."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

MAX_WAITING = 512
"""Connections that may be open without having been admitted."""


class PendingConnections(Generic[Key]):
    """Waiting connections by source address.

    When there is no room, the one that waited longest from the address with the most makes it: a client that opens
    connections and says nothing displaces its own, while an honest client needs milliseconds to identify itself.
    """

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._limit = limit
        self._source: dict[Key, str] = {}
        self._by_source: dict[str, dict[Key, None]] = {}

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._source)

    def enter(self, key: Key, source: str) -> tuple[Key, str] | None:
        """Add one that begins to wait; return the one to turn away for it, which has left then, and its address."""
        self._source[key] = source
        self._by_source.setdefault(source, {})[key] = None
        if len(self._source) <= self._limit:
            return None
        busiest = max(self._by_source, key=lambda each: len(self._by_source[each]))
        oldest = next(iter(self._by_source[busiest]))
        self.leave(oldest)
        return oldest, busiest

    def leave(self, key: Key) -> None:
        """Take out one that was admitted, refused or turned away; not being there any more is no error."""
        source = self._source.pop(key, None)
        if source is not None:
            del self._by_source[source][key]
            if not self._by_source[source]:
                del self._by_source[source]
