"""What waits for the core: messages and ticks, bounded, taken in groups, each meter's messages in turn."""

import asyncio

from commonwatt.protocol.meter_messages import slots_asked
from commonwatt.runtime.fair_queue import FairQueue
from gateway.events import Event, FromMeter, FromUtility

MAX_WAITING = 10_000
"""Messages and ticks waiting for the core; more are dropped and counted, and their senders send them again."""

MAX_WAITING_BYTES = 64 * 1024 * 1024
"""What those messages may have together; a tick finds room all the same."""

MAX_GROUP = 500
"""Messages taken into one transaction."""

MAX_GROUP_BYTES = 512 * 1024
"""No more messages go into a transaction that has so many bytes: taking them in holds up everything else."""

MAX_GROUP_SLOTS = 20_000
"""Nor into one that covers so many slots."""

_SERVICE = ""
"""The sender of what is no meter's: ticks, acknowledgements and commands of the utility."""


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
        """What was dropped because the queue was full."""
        return self._queue.overflowed

    def put(self, event: Event) -> None:
        """Let the core handle an event when its turn comes."""
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
        """Wait until something was put in since the last time."""
        await self._filled.wait()
        self._filled.clear()

    def take(self) -> list[Event]:
        """Take out what goes into the next transaction; nothing if nothing waits."""
        return self._queue.take(items=MAX_GROUP, work=MAX_GROUP_SLOTS, size=MAX_GROUP_BYTES)

    def clear(self) -> None:
        """Forget everything that waits."""
        self._queue.clear()
