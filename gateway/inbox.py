"""The bounded queue of events for the core, taken in groups, with the meters in turn."""

import asyncio

from commonwatt.protocol.meter_messages import slots_asked
from commonwatt.runtime.fair_queue import FairQueue
from gateway.events import Event, FromMeter, FromUtility

MAX_WAITING = 10_000
"""Most events waiting for the core; further ones are dropped and counted, and their senders send them again."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Most bytes of waiting messages together; a tick counts as 0 bytes."""

MAX_GROUP = 500
"""Most events in one transaction."""

MAX_GROUP_BYTES = 512 * 1024
"""A transaction with this many bytes takes no further messages: all other work waits for it."""

MAX_GROUP_SLOTS = 20_000
"""A transaction that covers this many slots takes no further messages."""

_SERVICE = ""
"""The sender of all events that are not a meter's: ticks, and the utility's acknowledgements and commands."""


class Inbox:
    """The queue before the core."""

    def __init__(self) -> None:
        self._queue: FairQueue[str, Event] = FairQueue(max_items=MAX_WAITING, max_bytes=MAX_WAITING_BYTES)
        self._filled = asyncio.Event()

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    @property
    def overflowed(self) -> int:
        """Events dropped because the queue was full."""
        return self._queue.overflowed

    def put(self, event: Event) -> None:
        """Queue an event for the core."""
        match event:
            case FromMeter(topic, payload):
                # The meter's subtree: one meter's records, events and outcomes stay in order.
                sender, work, size = topic.rpartition("/")[0], 1 + slots_asked(payload), len(payload)
            case FromUtility(_, payload):
                sender, work, size = _SERVICE, 1, len(payload)
            case _:
                sender, work, size = _SERVICE, 1, 0
        self._queue.put(sender, event, work=work, size=size)
        self._filled.set()

    async def filled(self) -> None:
        """Wait until an event was queued since the last call."""
        await self._filled.wait()
        self._filled.clear()

    def take(self) -> list[Event]:
        """Remove and return the events of the next transaction; empty if none waits."""
        return self._queue.take(items=MAX_GROUP, work=MAX_GROUP_SLOTS, size=MAX_GROUP_BYTES)

    def clear(self) -> None:
        """Drop all waiting events."""
        self._queue.clear()
