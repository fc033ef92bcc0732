"""A bounded queue that serves its senders in turn: deficit round robin by work (P7). Pure.

Each sender has a queue of its own, in the order of arrival. A turn gives a sender a credit of work, its weight times
``QUANTUM``; it is served until the credit does not cover its next item, and keeps the rest for its next turn. A sender
with an empty queue keeps no credit. So a sender with much work waits behind its own items, and delays any other
by one turn at most.
"""

from collections import deque
from collections.abc import Callable, Collection, Hashable, Iterator
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

QUANTUM = 2000  # work that one turn of a sender of weight 1 covers

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")


class _Item(NamedTuple, Generic[T]):
    content: T
    work: int
    size: int


@dataclass(slots=True)
class _Sender(Generic[T]):
    items: deque[_Item[T]] = field(default_factory=deque)
    size: int = 0
    credit: float = 0.0


class FairQueue(Generic[K, T]):
    """A bounded queue of items by sender.

    Args:
        max_items: Items that may wait, of all senders.
        max_bytes: Bytes that may wait, of all senders.
        weight: A sender's share of the work, relative to the others'.
    """

    def __init__(self, *, max_items: int, max_bytes: int, weight: Callable[[K], float] = lambda _: 1.0) -> None:
        # Items dropped because the queue was full: always the newest item of the sender with the most items or bytes,
        # whichever limit is exceeded.
        self.overflowed = 0
        self.size = 0  # bytes that wait
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._weight = weight
        self._count = 0
        self._senders: dict[K, _Sender[T]] = {}
        self._turns: deque[K] = deque()
        self._in_turn = False

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._count

    def put(self, sender: K, content: T, *, work: int, size: int) -> None:
        """Add an item; drop and count the items over the limits.

        Args:
            sender: The sender whose turn serves it.
            content: The item.
            work: The work of serving it, in any unit that is the same for all.
            size: Its bytes.
        """
        if sender not in self._senders:
            self._senders[sender] = _Sender()
            self._turns.append(sender)
        own = self._senders[sender]
        own.items.append(_Item(content, work, size))
        own.size += size
        self._count += 1
        self.size += size
        while self._count > self._max_items or self.size > self._max_bytes:
            self._drop_newest(self._largest(sender))

    def heads(self) -> Iterator[T]:
        """Yield the next item of each sender, its oldest."""
        return (sender.items[0].content for sender in self._senders.values())

    def senders(self) -> Collection[K]:
        """Return the senders with waiting items."""
        return self._senders.keys()

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
            one_turn_each: No item is taken in a second turn of a sender, so that the backlog of one does not fill the
                group, for which all others wait.
            only: Whose items are taken; the other senders keep their items and wait for their next turn.
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
            sender = self._senders[name]
            if not self._in_turn:
                if one_turn_each and name in served:
                    break
                sender.credit += QUANTUM * self._weight(name)
                self._in_turn = True
            if sender.items[0].work > sender.credit:
                self._turns.rotate(-1)
                self._in_turn = False
                continue
            item = sender.items.popleft()
            sender.credit -= item.work
            taken.append(item.content)
            served.add(name)
            work -= item.work
            size -= item.size
            self._gone(name, sender, item)
        return taken

    def clear(self) -> None:
        """Remove all items."""
        self._senders.clear()
        self._turns.clear()
        self._in_turn = False
        self._count = self.size = 0

    def _largest(self, newest: K) -> K:
        """Return the sender with most items or bytes over the limit; among equals the sender of the last item."""

        def share(name: K) -> tuple[int, bool]:
            sender = self._senders[name]
            # By bytes alone, many tiny items of one sender would push out the large one of another.
            return len(sender.items) if self._count > self._max_items else sender.size, name == newest

        return max(self._senders, key=share)

    def _drop_newest(self, name: K) -> None:
        self.overflowed += 1
        sender = self._senders[name]
        self._gone(name, sender, sender.items.pop())

    def _gone(self, name: K, sender: _Sender[T], item: _Item[T]) -> None:
        """Account for a removed item; a sender without items loses its turn and its credit."""
        sender.size -= item.size
        self._count -= 1
        self.size -= item.size
        if not sender.items:
            self._in_turn = self._in_turn and self._turns[0] != name
            self._turns.remove(name)
            del self._senders[name]
