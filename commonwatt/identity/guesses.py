"""Limits the guesses of passwords, by network address and by person. Pure: times are given.

Wrong guesses count, right ones do not. A household, an office or a carrier may share an address, and many
addresses may guess at one person. Guesses elsewhere must not lock out the owner: an address from which a person
logged in lately has an allowance of its own for that person, and needs no other. A login of one person
gives an address nothing for another person.
"""

from dataclasses import dataclass, replace
from heapq import nsmallest
from ipaddress import IPv6Address, ip_address
from threading import Lock

from commonwatt.runtime.fair_queue import Bucket

KNOWN_FOR_S = 30 * 86_400.0  # seconds for which an address counts as a person's after a login

MAX_KEPT = 20_000
"""Most addresses, persons, and pairs of them remembered; further ones displace those with most of their allowance left,
and of addresses from which people logged in the one of longest ago."""


@dataclass(frozen=True)
class Allowance:
    """Wrong guesses that are allowed."""

    at_once: int  # how many without a wait
    each_s: float  # seconds after which one more is allowed


BY_ADDRESS = Allowance(at_once=10, each_s=60.0)  # of an address at all persons together
# At a person, of all addresses together from which the person did not log in lately.
AT_PERSON = Allowance(at_once=20, each_s=900.0)
BY_OWN_ADDRESS = Allowance(at_once=5, each_s=60.0)  # at a person, of one address from which the person logged in lately


class _Buckets:
    """An allowance for each of many keys; a key that is not remembered has all of it."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._kept: dict[tuple[str, ...], Bucket] = {}

    def wait_s(self, key: tuple[str, ...], now: float) -> float:
        """Return the seconds to wait before a guess; nothing is taken or remembered."""
        bucket = self._kept.get(key)
        return 0.0 if bucket is None else replace(bucket).take(1, now)

    def take(self, key: tuple[str, ...], now: float) -> None:
        """Count a guess as wrong."""
        if key not in self._kept:
            if len(self._kept) >= MAX_KEPT:
                self._forget_fullest()
            most = float(self._allowance.at_once)
            self._kept[key] = Bucket(1 / self._allowance.each_s, most, most, now)
        self._kept[key].take(1, now)

    def give_back(self, key: tuple[str, ...]) -> None:
        """Count the last guess no longer."""
        if (bucket := self._kept.get(key)) is not None:
            bucket.balance = min(bucket.burst, bucket.balance + 1)

    def _forget_fullest(self) -> None:
        """Forget one in a hundred: those that are full first, so that a flood of keys frees none that is used up."""
        for key in nsmallest(MAX_KEPT // 100, self._kept, key=lambda key: _full_at(self._kept[key])):
            del self._kept[key]


def _full_at(bucket: Bucket) -> float:
    return bucket.at + (bucket.burst - bucket.balance) / bucket.rate


class Guesses:
    """Counts guesses; usable from many threads."""

    def __init__(self) -> None:
        self._by_address = _Buckets(BY_ADDRESS)
        self._at_person = _Buckets(AT_PERSON)
        self._by_own_address = _Buckets(BY_OWN_ADDRESS)
        self._known: dict[tuple[str, str], float] = {}  # when they logged in; the one longest ago first
        self._lock = Lock()

    def guess(self, name: str, address: str, now: float) -> float:
        """Ask for a guess. It counts as wrong at once, so that parallel guesses can't exceed the limits.

        Args:
            name: The name of the person, who need not exist.
            address: The IP address it comes from.

        Returns:
            Seconds to wait instead of guessing; 0: the guess may be checked.
        """
        with self._lock:
            counted = self._counted(name, network_of(address), now)
            wait_s = max(buckets.wait_s(key, now) for buckets, key in counted)
            # A refused guess leaves no trace: refused ones are as many as an address likes.
            if wait_s == 0:
                for buckets, key in counted:
                    buckets.take(key, now)
            return wait_s

    def give_back(self, name: str, address: str, now: float) -> None:
        """Record that the last guess was not checked after all: it does not count."""
        with self._lock:
            for buckets, key in self._counted(name, network_of(address), now):
                buckets.give_back(key)

    def right(self, name: str, address: str, now: float, *, is_login: bool = True) -> None:
        """Record that the last guess was right: it does not count; ``is_login``: and nothing more is asked."""
        self.give_back(name, address, now)
        if is_login:
            self.logged_in(name, address, now)

    def logged_in(self, name: str, address: str, now: float) -> None:
        """Record that the address is the person's, since a login from there is complete."""
        with self._lock:
            network = network_of(address)
            self._known.pop((name, network), None)
            if len(self._known) >= MAX_KEPT:
                del self._known[next(iter(self._known))]
            self._known[name, network] = now

    def _counted(self, name: str, network: str, now: float) -> list[tuple[_Buckets, tuple[str, ...]]]:
        """Return the allowances of a guess, each with its key."""
        if now - self._known.get((name, network), -KNOWN_FOR_S) < KNOWN_FOR_S:
            return [(self._by_own_address, (name, network))]
        return [(self._by_address, (network,)), (self._at_person, (name,))]


def network_of(address: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address: one household has a whole such network."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(ip.ipv4_mapped) if ip.ipv4_mapped is not None else str(IPv6Address(int(ip) >> 64 << 64))
    return str(ip)
