"""A bounded queue of messages for one subscriber; amqtt itself makes a task for each message, without limit."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Generic, TypeVar

Message = TypeVar("Message")

MAX_SENDING = 200  # most messages being sent to one subscriber, or waiting for its PUBACK
MAX_MESSAGES = 10_000  # most messages queued for one subscriber; an older message is never dropped for a newer one
MAX_BYTES = 16 << 20  # most bytes of payload queued for one subscriber


class SubscriberQueue(Generic[Message]):
    """Messages for one subscriber, sent in their order, ``MAX_SENDING`` at a time.

    Args:
        send: Sends one message, and returns when it was delivered or dropped; raises nothing.
    """

    def __init__(self, send: Callable[[Message], Coroutine[None, None, None]]) -> None:
        self._send = send
        self._waiting: deque[tuple[Message, int]] = deque()
        self._sending: dict[asyncio.Task[None], int] = {}
        self._bytes = 0

    def __len__(self) -> int:
        """Return how many messages are queued or being sent."""
        return len(self._waiting) + len(self._sending)

    def add(self, message: Message, size: int) -> bool:
        """Queue a message with a payload of ``size`` bytes; ``False``: the queue is full."""
        if len(self) >= MAX_MESSAGES or self._bytes + size > MAX_BYTES:
            return False
        self._bytes += size
        self._waiting.append((message, size))
        self._fill()
        return True

    def close(self) -> int:
        """Drop all messages, as the subscriber has disconnected; return their number."""
        dropped = len(self)
        self._waiting.clear()
        for task in self._sending:
            task.cancel()
        return dropped

    def _fill(self) -> None:
        while self._waiting and len(self._sending) < MAX_SENDING:
            message, size = self._waiting.popleft()
            task = asyncio.get_running_loop().create_task(self._send(message))
            self._sending[task] = size
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._bytes -= self._sending.pop(task)
        self._fill()
