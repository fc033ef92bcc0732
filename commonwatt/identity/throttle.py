"""Limits the guesses of a password, by network address and in all.

An address may guess a few times, then waits twice as long after each wrong guess. All addresses together share an
allowance, against guesses from many addresses. Guesses elsewhere must not lock out the owner: an address from which
the right password came lately does not need the shared allowance. Times are seconds of any clock that only goes
forward.
"""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from threading import Lock

from commonwatt.runtime.bucket import Bucket

FREE_GUESSES = 5  # wrong guesses of an address before it has to wait
# Wait after those; each further wrong guess doubles it, up to the longest wait.
FIRST_WAIT_S, LONGEST_WAIT_S = 30.0, 900.0
FORGIVEN_AFTER_S = 3600.0  # seconds after its last wrong guess at which an address begins anew
# Guesses of all addresses together: ten a minute, and twenty at once after a pause.
ALL_PER_S, ALL_AT_ONCE = 1 / 6, 20.0
KNOWN_FOR_S = 7 * 86_400.0  # seconds for which an address counts as the owner's after the right password
MAX_ADDRESSES = 1_000  # most addresses remembered; a further one displaces the one that guessed longest ago


@dataclass
class _Guesser:
    wrong: int = 0
    last: float = 0.0
    right: float | None = None

    def wait_s(self, now: float) -> float:
        over = self.wrong - FREE_GUESSES
        if over < 0:
            return 0.0
        return max(0.0, self.last + min(FIRST_WAIT_S * 2.0 ** min(over, 10), LONGEST_WAIT_S) - now)


class Throttle:
    """Counts guesses; usable from many threads."""

    def __init__(self, now: float) -> None:
        self._all = Bucket(rate=ALL_PER_S, burst=ALL_AT_ONCE, balance=ALL_AT_ONCE, at=now)
        self._guessers: dict[str, _Guesser] = {}  # the one that guessed longest ago first
        self._lock = Lock()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._guessers)

    def guess(self, address: str, now: float) -> float:
        """Ask for a guess. It counts as wrong at once, so that parallel guesses can't exceed the limits.

        Args:
            address: The IP address it comes from.
            now: Seconds.

        Returns:
            Seconds to wait instead of guessing; 0: the guess may be checked.
        """
        with self._lock:
            key = network_of(address)
            guesser = self._guessers.get(key, _Guesser())
            if now - guesser.last >= FORGIVEN_AFTER_S:
                guesser.wrong = 0
            known = guesser.right is not None and now - guesser.right < KNOWN_FOR_S
            wait_s = guesser.wait_s(now) or (0.0 if known else self._all.take(0, now))
            if wait_s > 0:
                return wait_s
            if not known:
                self._all.take(1, now)
            guesser.wrong, guesser.last = guesser.wrong + 1, now
            self._remember(key, guesser)
            return 0.0

    def right(self, address: str, now: float) -> None:
        """Record that the last guess was the right password."""
        with self._lock:
            self._remember(network_of(address), _Guesser(right=now))

    def _remember(self, key: str, guesser: _Guesser) -> None:
        self._guessers.pop(key, None)
        if len(self._guessers) >= MAX_ADDRESSES:
            del self._guessers[next(iter(self._guessers))]
        self._guessers[key] = guesser


def network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address: one household has a whole such network."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped is not None else str(IPv6Address(int(ip) >> 64 << 64))
    return str(ip)
