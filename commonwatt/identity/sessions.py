"""Sessions of people who logged in: random tokens, kept in memory, that end by themselves.

Only a digest of each token is kept. Times are seconds of any clock that only goes forward.
"""

import hashlib
import secrets
from threading import Lock


class Sessions:
    """The open sessions; usable from many threads.

    Args:
        idle_s: Seconds without a request after which a session ends.
        absolute_s: Seconds after which each session ends.
        most: Most sessions at a time; a new one ends the session that was used longest ago.
    """

    def __init__(self, *, idle_s: float, absolute_s: float, most: int) -> None:
        self._idle_s = idle_s
        self._absolute_s = absolute_s
        self._most = most
        self._lock = Lock()
        # When each was opened and used last; the one used longest ago first.
        self._open: dict[bytes, tuple[float, float]] = {}

    def __len__(self) -> int:
        """Return how many sessions are kept."""
        return len(self._open)

    def open(self, now: float) -> str:
        """Open a session; return its token, 256 random bits."""
        token = secrets.token_urlsafe(32)
        with self._lock:
            self._forget(now)
            while len(self._open) >= self._most:
                del self._open[next(iter(self._open))]
            self._open[_digest(token)] = now, now
        return token

    def use(self, token: str, now: float) -> bool:
        """Return whether there is such a session, which then counts as used."""
        with self._lock:
            self._forget(now)
            key = _digest(token)
            session = self._open.pop(key, None)
            if session is not None:
                self._open[key] = session[0], now
            return session is not None

    def close(self, token: str) -> None:
        """End a session, if there is one."""
        with self._lock:
            self._open.pop(_digest(token), None)

    def clear(self) -> None:
        """End all sessions."""
        with self._lock:
            self._open.clear()

    def _forget(self, now: float) -> None:
        ended = [
            key
            for key, (opened, used) in self._open.items()
            if now - used >= self._idle_s or now - opened >= self._absolute_s
        ]
        for key in ended:
            del self._open[key]


def _digest(token: str) -> bytes:
    # The time of a dictionary's search then tells nothing about the tokens in it.
    return hashlib.sha256(token.encode(errors="replace")).digest()
