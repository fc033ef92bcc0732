"""Numbers of which each counts once, though datagrams overtake each other."""

WIDTH = 64  # a number may be so far behind the newest one


class Window:
    """The numbers that came from the other side in a session."""

    def __init__(self) -> None:
        self.newest = 0  # the highest one; 0: none
        self._seen = 1  # bit n: whether the number that is n below came

    def take(self, number: int) -> bool:
        """Return whether a number counts, and note it; one that came, or is too far behind, does not."""
        ahead = number - self.newest
        if ahead <= -WIDTH or (ahead <= 0 and self._seen >> -ahead & 1):
            return False
        seen = self._seen | 1 << -ahead if ahead < 0 else self._seen << min(ahead, WIDTH) | 1
        self._seen = seen % (1 << WIDTH)
        self.newest = max(self.newest, number)
        return True
