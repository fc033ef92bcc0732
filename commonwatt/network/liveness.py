"""Liveness of an open connection, by its incoming messages: a broker may accept messages and deliver none."""

from dataclasses import dataclass


@dataclass
class Liveness:
    """Detects an open connection without an expected answer. Times are real seconds of a monotonic clock.

    Each reconnection without an answer doubles the wait before the next: perhaps the other side is
    down, and not the connection.
    """

    patience_s: float  # seconds within which an answer must come
    most_s: float  # most seconds of patience, which doubles with each reconnection without an answer
    _waiting_since: float | None = None
    _heard_at: float = float("-inf")
    _in_vain: int = 0

    def expected(self, now: float) -> None:
        """Record that a message was sent that must be answered."""
        if self._waiting_since is None:
            self._waiting_since = now

    def heard(self, now: float) -> None:
        """Record that a message came."""
        self._waiting_since, self._heard_at, self._in_vain = None, now, 0

    def quiet_s(self, now: float) -> float:
        """Return the seconds since the last message."""
        return now - self._heard_at

    def gone(self) -> None:
        """Record that there is no connection, so that no answer is expected."""
        self._waiting_since = None

    def put_off(self, now: float) -> None:
        """Begin the wait for an answer anew, since the answer may be here unread."""
        if self._waiting_since is not None:
            self._waiting_since = now

    def too_long(self, now: float) -> bool:
        """Return whether an answer is overdue and to reconnect; if so, restart the wait."""
        patience_s = min(self.patience_s * 2**self._in_vain, self.most_s)
        if self._waiting_since is None or now - self._waiting_since < patience_s:
            return False
        self._in_vain = min(self._in_vain + 1, 30)
        self._waiting_since = None
        return True
