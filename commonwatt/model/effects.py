"""Effects: the writes and messages that a core returns to its shell (docs/architecture.md).

A shell does the effects of one step in one fixed order: it commits every ``Write`` durably, then publishes. That order
is the delivery guarantee; it is implemented once, in ``perform``, and no core can break it.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

W = TypeVar("W", covariant=True)  # the type of a core's writes


@dataclass(frozen=True)
class Publish:
    """Send a message, once; a core that needs it to arrive sends it again until it is acknowledged."""

    topic: str  # the topic
    payload: bytes  # the payload
    qos: int = 1  # 0 for messages that the next one replaces, 1 for all others
    via: str = ""  # of a device with several brokers, the broker to which it goes


@dataclass(frozen=True)
class Write(Generic[W]):
    """Make a change durable before anything of this step is published."""

    change: W


Effect: TypeAlias = Write[W] | Publish


async def perform(
    effects: Iterable[Effect[W]],
    commit: Callable[[list[W]], Awaitable[None]],
    publish: Callable[[Publish], object],
) -> None:
    """Do the effects: commit all writes in one transaction, then publish.

    If ``commit`` raises, nothing is published and the exception propagates.
    """
    writes: list[W] = []
    messages: list[Publish] = []
    for effect in effects:
        if isinstance(effect, Write):
            writes.append(effect.change)
        else:
            messages.append(effect)
    if writes:
        await commit(writes)
    for message in messages:
        publish(message)
