"""Fairness among senders: a bounded queue that serves owners in turn, and a token bucket. Pure.

A turn gives an owner a credit of work, its weight times ``QUANTUM``; it is served until the credit does not cover its
next item, and keeps the rest for its next turn. An owner without items keeps no credit. So an owner with much work
waits behind its own items, and delays any other by one turn at most.

Within an owner each sender has its items in the order of arrival. The next one is of the sender that was served least:
an item is marked with the work of its sender up to its end, counted from the item in service when the sender began.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

QUANTUM = 2000  # work that one turn of a sender of weight 1 covers

K = TypeVar("K", bound=Hashable)  # an owner
T = TypeVar("T")


class _Item(NamedTuple, Generic[T]):
    content: T
    work: int
    size: int
    mark: int  # work of its sender up to its end


@dataclass(slots=True)
class _Owner(Generic[T]):
    senders: dict[Hashable, deque[_Item[T]]] = field(default_factory=dict)
    count: int = 0
    size: int = 0
    credit: float = 0.0
    mark: int = 0  # the mark of the last item that was served

    def add(self, sender: Hashable, content: T, work: int, size: int) -> None:
        items = self.senders.setdefault(sender, deque())
        begin = items[-1].mark if items else self.mark
        items.append(_Item(content, work, size, begin + work))
        self.count += 1
        self.size += size

    def next(self) -> Hashable:
        """Return the sender whose turn it is."""
        return min(self.senders, key=lambda sender: self.senders[sender][0].mark)

    def remove(self, sender: Hashable, *, newest: bool) -> _Item[T]:
        items = self.senders[sender]
        item = items.pop() if newest else items.popleft()
        if not items:
            del self.senders[sender]
        self.count -= 1
        self.size -= item.size
        return item


class FairQueue(Generic[K, T]):
    """A bounded queue of items by owner and sender.

    Args:
        max_items: Items that may wait, of all senders.
        max_bytes: Bytes that may wait, of all senders.
        weight: An owner's share of the work, relative to the others'.
    """

    def __init__(self, *, max_items: int, max_bytes: int, weight: Callable[[K], float] = lambda _: 1.0) -> None:
        # Items dropped because the queue was full: always of the owner with the most items or bytes, whichever limit is
        # exceeded, and of its senders the newest item of the one with the most.
        self.overflowed = 0
        self.size = 0  # bytes that wait
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._weight = weight
        self._count = 0
        self._owners: dict[K, _Owner[T]] = {}
        self._turns: deque[K] = deque()
        self._in_turn = False

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._count

    def put(self, owner: K, content: T, *, work: int, size: int, sender: Hashable = None) -> None:
        """Add an item; drop and count the items over the limits.

        Args:
            owner: The owner whose turn serves it.
            work: The work of serving it, in any unit that is the same for all.
            sender: Who sent it; ``None`` where each owner has one sender.
        """
        if owner not in self._owners:
            self._owners[owner] = _Owner()
            self._turns.append(owner)
        self._owners[owner].add(sender, content, work, size)
        self._count += 1
        self.size += size
        while self._count > self._max_items or self.size > self._max_bytes:
            self._drop_newest(owner, sender)

    def heads(self) -> Iterator[T]:
        """Yield the oldest item of each sender."""
        return (items[0].content for owner in self._owners.values() for items in owner.senders.values())

    def owners(self) -> Collection[K]:
        """Return the owners with waiting items."""
        return self._owners.keys()

    def take(
        self,
        *,
        items: int,
        work: int,
        size: int,
        one_turn_each: bool = False,
        only: Callable[[K], bool] | None = None,
    ) -> list[T]:
        """Take out the next items in turn: at least one if any waits, then until a limit is reached.

        Args:
            items: Most items.
            work: No further item is taken once they have so much work.
            size: No further item is taken once they have so many bytes.
            one_turn_each: No item is taken in a second turn of an owner, so that the backlog of one does not fill the
                group, for which all others wait.
            only: Whose items are taken; the other owners keep their items and wait for their next turn.
        """
        passed = [] if only is None else [name for name in self._turns if not only(name)]
        if passed:
            self._in_turn = self._in_turn and self._turns[0] not in passed
            self._turns = deque(name for name in self._turns if name not in passed)
        taken = self._take(items, work, size, one_turn_each=one_turn_each)
        self._turns.extend(passed)
        return taken

    def _take(self, items: int, work: int, size: int, *, one_turn_each: bool) -> list[T]:
        taken: list[T] = []
        served: set[K] = set()
        while self._turns and len(taken) < items and work > 0 and size > 0:
            name = self._turns[0]
            owner = self._owners[name]
            if not self._in_turn:
                if one_turn_each and name in served:
                    break
                owner.credit += QUANTUM * self._weight(name)
                self._in_turn = True
            sender = owner.next()
            if owner.senders[sender][0].work > owner.credit:
                self._turns.rotate(-1)
                self._in_turn = False
                continue
            item = self._remove(name, sender, newest=False)
            owner.credit -= item.work
            owner.mark = item.mark
            taken.append(item.content)
            served.add(name)
            work -= item.work
            size -= item.size
        return taken

    def clear(self) -> None:
        """Remove all items."""
        self._owners.clear()
        self._turns.clear()
        self._in_turn = False
        self._count = self.size = 0

    def _drop_newest(self, newest: K, newest_sender: Hashable) -> None:
        """Drop an item of who has most items or bytes over the limit; among equals of the sender of the last item."""
        # By bytes alone, many tiny items of one sender would push out the large one of another.
        by_count = self._count > self._max_items

        def of_owner(name: K) -> tuple[int, bool]:
            owner = self._owners[name]
            return owner.count if by_count else owner.size, name == newest

        name = max(self._owners, key=of_owner)
        senders = self._owners[name].senders

        def of_sender(sender: Hashable) -> tuple[int, bool]:
            items = senders[sender]
            return len(items) if by_count else sum(item.size for item in items), sender == newest_sender

        self.overflowed += 1
        self._remove(name, max(senders, key=of_sender), newest=True)

    def _remove(self, name: K, sender: Hashable, *, newest: bool) -> _Item[T]:
        """Remove an item; an owner without items loses its turn and its credit."""
        owner = self._owners[name]
        item = owner.remove(sender, newest=newest)
        self._count -= 1
        self.size -= item.size
        if not owner.count:
            self._in_turn = self._in_turn and self._turns[0] != name
            self._turns.remove(name)
            del self._owners[name]
        return item


@dataclass
class Bucket:
    """A balance that grows with time up to ``burst`` and may be overdrawn by one amount.

    A sender that takes more without waiting, for example by repeated connections, is overdrawn by ``burst`` at most: it
    then waits no longer than ``burst`` takes to refill.
    """

    rate: float  # gain per second
    burst: float  # the highest balance
    balance: float  # the balance at ``at``; below zero while overdrawn
    at: float  # the second of the last update

    def take(self, amount: float, now: float) -> float:
        """Take ``amount`` at second ``now``; return the seconds until nothing is overdrawn."""
        balance = min(self.burst, self.balance + max(0.0, now - self.at) * self.rate) - amount
        self.balance = max(balance, -max(self.burst, amount))
        self.at = now
        return max(0.0, -self.balance / self.rate)
