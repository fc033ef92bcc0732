"""What waits for the core: messages and ticks in the order in which they came, bounded, taken in groups."""

import asyncio
from collections import deque

MAX_WAITING = 10_000
"""Messages and ticks waiting for the core; more are dropped and counted: whoever sent them sends them again."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What those messages may have together; a tick finds room all the same."""

MAX_GROUP = 500
"""Messages taken into one transaction."""

MAX_GROUP_BYTES = 512 * 1024
"""No more messages go into a transaction that has so many bytes: taking them in holds up everything else."""

Event = tuple[str, tuple[object, ...]]
"""What the core is asked, and with what."""


class Inbox:
    """The queue before the core.

    Attributes:
        overflowed: What was dropped because the queue was full.
    """

    def __init__(self) -> None:
        self.overflowed = 0
        self._events: deque[Event] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()

    def put(self, what: str, *arguments: object) -> None:
        """Let the core be asked something when its turn comes."""
        event = what, arguments
        if len(self._events) >= MAX_WAITING or self._bytes + _size_of(event) > MAX_WAITING_BYTES:
            self.overflowed += 1
            return
        self._events.append(event)
        self._bytes += _size_of(event)
        self._filled.set()

    async def filled(self) -> None:
        """Wait until something was put in since the last time."""
        await self._filled.wait()
        self._filled.clear()

    def take(self) -> list[Event]:
        """Take out what goes into the next transaction; nothing if nothing waits."""
        group = take_group(self._events)
        self._bytes -= sum(map(_size_of, group))
        return group

    def clear(self) -> None:
        """Forget everything that waits."""
        self._events.clear()
        self._bytes = 0


def take_group(waiting: deque[Event]) -> list[Event]:
    """Take from the front what goes into one transaction."""
    group: list[Event] = []
    taken_bytes = 0
    while waiting and len(group) < MAX_GROUP and taken_bytes < MAX_GROUP_BYTES:
        group.append(waiting.popleft())
        taken_bytes += _size_of(group[-1])
    return group


def _size_of(event: Event) -> int:
    """Return how many bytes of payload an event has."""
    return sum(len(argument) for argument in event[1] if isinstance(argument, bytes))
