"""The bounded queue of events for the core, taken in groups, with the meters in turn.

Small puts of records wait for others for a while: all of a group are committed at once, and only then acknowledged. So
a gateway writes less to its card; the meters keep the records meanwhile. A meter's other messages wait a moment, since
the meters of a microgrid answer together; all other events are taken at once.
"""

import asyncio
import time

from commonwatt.protocol.meter_messages import slots_asked
from commonwatt.protocol.topics import RECORDS
from commonwatt.runtime.fair_queue import FairQueue
from gateway.events import Event, FromMeter, FromUtility

# Most events waiting for the core; further ones are dropped and counted, and their senders send them again.
MAX_WAITING = 10_000
MAX_WAITING_BYTES = 64 * 1024 * 1024  # most bytes of waiting messages together; a tick counts as 0 bytes
MAX_GROUP = 500  # most events in one transaction
# A transaction with this many bytes takes no further messages: all other work waits for it.
MAX_GROUP_BYTES = 512 * 1024
MAX_GROUP_SLOTS = 20_000  # a transaction that covers this many slots takes no further messages

SMALL_PUT_SLOTS = 100
"""A put of fewer slots waits for others: some minutes of one meter. A larger one is of a backlog, whose meter sends the
next put as soon as it is acknowledged."""

GATHER_S = 0.2  # seconds for which a meter's answer waits for those of the others

_SERVICE = ""  # the sender of all events that are not a meter's: ticks, and the utility's acknowledgements and commands


class Inbox:
    """The queue before the core.

    Args:
        wait_s: Longest time, in real seconds, for which a small put of records waits for others; 0: it does not wait.
        gather_s: The same of a meter's other messages.
    """

    def __init__(self, wait_s: float = 0, gather_s: float = 0) -> None:
        self._wait_s = wait_s
        self._gather_s = gather_s
        self._queue: FairQueue[str, Event] = FairQueue(max_items=MAX_WAITING, max_bytes=MAX_WAITING_BYTES)
        self._filled = asyncio.Event()
        self._due: asyncio.TimerHandle | None = None
        self._gathered: asyncio.TimerHandle | None = None
        self._is_due = False
        self._busy_since: float | None = None

    def __len__(self) -> int:
        """Return how many events wait."""
        return len(self._queue)

    @property
    def overflowed(self) -> int:
        """Events dropped because the queue was full."""
        return self._queue.overflowed

    @property
    def busy_s(self) -> float:
        """Real seconds since no event waited that is to be taken at once; none of these has waited longer."""
        return 0.0 if self._busy_since is None else time.monotonic() - self._busy_since

    def queue(self, event: Event) -> None:
        """Queue an event for the core."""
        gathers = False
        match event:
            case FromMeter(topic, payload):
                # The meter's subtree: one meter's records, events and outcomes stay in order, but for small puts.
                sender, slots, size = topic.rpartition("/")[0], slots_asked(payload), len(payload)
                work = 1 + slots
                if not topic.endswith(f"/{RECORDS}"):
                    gathers = self._gather_s > 0
                elif self._wait_s and slots < SMALL_PUT_SLOTS:
                    sender = topic
            case FromUtility(_, payload):
                sender, work, size = _SERVICE, 1, len(payload)
            case _:
                sender, work, size = _SERVICE, 1, 0
        self._queue.put(sender, event, work=work, size=size)
        if not _waits(sender):
            self._busy_since = self._busy_since or time.monotonic()
        if gathers:
            self._gathered = self._gathered or asyncio.get_running_loop().call_later(self._gather_s, self._filled.set)
        elif not _waits(sender) or len(self._queue) >= MAX_GROUP or self._queue.size >= MAX_GROUP_BYTES:
            self._is_due = self._is_due or _waits(sender)
            self._filled.set()
        elif self._due is None:
            self._due = asyncio.get_running_loop().call_later(self._wait_s, self._now_due)

    def _now_due(self) -> None:
        self._is_due = True
        self._filled.set()

    async def filled(self) -> None:
        """Wait until an event was queued since the last call that is to be taken now."""
        await self._filled.wait()
        self._filled.clear()

    @property
    def is_due(self) -> bool:
        """Whether an event waits that is to be taken now."""
        return bool(self._queue) and (self._is_due or self._busy_since is not None)

    def take(self) -> list[Event]:
        """Remove and return the events of the next transaction; empty if none is to be taken now."""
        if not self._queue:
            return []
        only = None if self._is_due else _is_urgent
        taken = self._queue.take(items=MAX_GROUP, work=MAX_GROUP_SLOTS, size=MAX_GROUP_BYTES, only=only)
        self._settle()
        return taken

    def join(self, taken: int) -> list[Event]:
        """Remove and return waiting puts for a transaction that already has ``taken`` events, and is needed anyway."""
        if not self._queue:
            return []
        room = MAX_GROUP - taken
        joined = self._queue.take(items=room, work=MAX_GROUP_SLOTS, size=MAX_GROUP_BYTES, only=_waits)
        self._settle()
        return joined

    def _settle(self) -> None:
        """Forget when the group is due, once no put waits for it, and since when urgent events wait, without one."""
        if not any(map(_is_urgent, self._queue.owners())):
            self._busy_since = None
            if self._gathered is not None:
                self._gathered.cancel()
                self._gathered = None
        if not any(map(_waits, self._queue.owners())):
            self._is_due = False
            if self._due is not None:
                self._due.cancel()
                self._due = None

    def clear(self) -> None:
        """Drop all waiting events."""
        self._queue.clear()
        self._settle()


def _waits(sender: str) -> bool:
    """Return whether a sender's events are small puts, which wait for others."""
    return sender.endswith(f"/{RECORDS}")


def _is_urgent(sender: str) -> bool:
    return not _waits(sender)
