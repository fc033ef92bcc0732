"""A throttled log: the first line of an identity and a reason at once, later ones once a minute."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

LOG_EVERY_S = 60.0  # real seconds between two lines about the same identity and reason
# Most pairs of identity and reason counted separately; further identities share one line for each reason.
MAX_TOLD_APART = 1_000
MAX_SHOWN = 64  # characters of a claimed identity that are kept and shown

_OTHERS = "\0"  # No identity has a NUL.


@dataclass
class _Told:
    at: float
    more: int = 0


class ThrottledLog:
    """Logs lines about clients, by identity and reason.

    A client that connects in a loop can't fill the disk, and one that invents identities can't fill the memory. The
    last "and N more" is not logged once the attempts end; the metrics count them all.
    """

    def __init__(
        self, logger: logging.Logger, now: Callable[[], float] = time.monotonic, level: int = logging.WARNING
    ) -> None:
        self._logger = logger
        self._level = level
        self._now = now
        # Ordered by the time of the last line.
        self._told: dict[tuple[str | None, str], _Told] = {}

    def __len__(self) -> int:
        """Return how many pairs are counted separately now."""
        return len(self._told)

    def tell(self, who: str | None, reason: str, line: str) -> None:
        """Log ``line``, or only count it if there was a line on ``who`` and ``reason`` within the last minute."""
        now = self._now()
        key = (None if who is None else who[:MAX_SHOWN], reason)
        if key not in self._told and len(self._told) >= MAX_TOLD_APART:
            self._forget(now)
            if len(self._told) >= MAX_TOLD_APART:
                key = (_OTHERS, reason)
        told = self._told.get(key)
        if told is not None and now - told.at < LOG_EVERY_S:
            told.more += 1
            return
        more = f" ... and {told.more} more" if told is not None and told.more else ""
        self._logger.log(self._level, "%s%s", line, more)
        self._told.pop(key, None)
        self._told[key] = _Told(now)

    def _forget(self, now: float) -> None:
        """Drop the pairs whose last line is over a minute old."""
        for (who, reason), told in list(self._told.items()):
            if now - told.at < LOG_EVERY_S:
                return
            del self._told[who, reason]
            if told.more:
                whose = "" if who in (None, _OTHERS) else f" by {who!r}"
                self._logger.log(self._level, "%s%s ... and %d more", reason, whose, told.more)
