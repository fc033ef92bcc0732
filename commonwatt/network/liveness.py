"""Judges a connection that is up by what comes over it: a broker may take everything and pass on nothing."""

from dataclasses import dataclass


@dataclass
class Liveness:
    """Whether too long nothing came that was to be expected. Times are real seconds of a monotonic clock.

    A connection that is made again in vain is made again less and less often: perhaps it is the other side that is
    away, not the connection that is deaf.

    Attributes:
        patience_s: How long an answer may take.
        most_s: Patience doubles each time it was in vain, up to this.
    """

    patience_s: float
    most_s: float
    _waiting_since: float | None = None
    _heard_at: float = float("-inf")
    _in_vain: int = 0

    def expected(self, now: float) -> None:
        """Note that something was said that has to be answered."""
        if self._waiting_since is None:
            self._waiting_since = now

    def heard(self, now: float) -> None:
        """Note that something came, whatever it was."""
        self._waiting_since, self._heard_at, self._in_vain = None, now, 0

    def quiet_s(self, now: float) -> float:
        """Return for how long nothing has come."""
        return now - self._heard_at

    def gone(self) -> None:
        """Note that there is no connection: nothing can be expected of it."""
        self._waiting_since = None

    def too_long(self, now: float) -> bool:
        """Say whether the connection is to be made again, once; then patience begins anew."""
        patience_s = min(self.patience_s * 2**self._in_vain, self.most_s)
        if self._waiting_since is None or now - self._waiting_since < patience_s:
            return False
        self._in_vain = min(self._in_vain + 1, 30)
        self._waiting_since = None
        return True
