"""amqtt, less what it does that we can't have. Every override names the fault it is for; each has a test.

The only module that leans on amqtt's insides, which is why its version is pinned.
"""

import asyncio
from collections.abc import ItemsView
from typing import Any

from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]

from broker.plugins import Admitted

LISTENER = "default"
"""The name amqtt knows our server by."""

_REFUSED = 0x80
_MAX_QOS = 1

_Subscribers = list[tuple[Any, int]]


class _Subscriptions(dict[str, _Subscribers]):
    """Subscriptions whose ``items()`` is a copy.

    amqtt awaits while it walks them for a message; a subscription made or dropped meanwhile ended that walk with a
    ``RuntimeError``, and the subscribers behind it silently never got the message.
    """

    def items(self) -> ItemsView[str, _Subscribers]:  # type: ignore[override]
        """Return a copy: the walk goes on over what there was."""
        return {key: list(value) for key, value in super().items()}.items()


class QuietBroker(Broker):  # type: ignore[misc]
    """An amqtt broker that listens on nothing, keeps nothing, and knows only admitted devices."""

    def __init__(self, admitted: Admitted) -> None:
        plugins = {f"broker.plugins.{name}": {"admitted": admitted} for name in ("AdmittedOnly", "TopicRules")}
        # An external listener binds nothing; its address is still named, for amqtt's default is 0.0.0.0.
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="127.0.0.1:0")
        super().__init__(BrokerConfig(listeners={LISTENER: listener}, plugins=plugins))
        self._subscriptions = _Subscriptions()

    async def forget(self, identity: str) -> None:
        """Drop what is left of a connection that ended, however it ended: handler, subscriptions, queues."""
        await self._cleanup_session(identity)

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Grant at most QoS 1, and refuse what is no QoS: amqtt would fail on every message for it."""
        topic_filter, qos = subscription
        if not 0 <= qos <= _MAX_QOS + 1:
            return _REFUSED
        granted: int = await super().add_subscription((topic_filter, min(qos, _MAX_QOS)), session)
        return granted

    async def retain_message(self, *_args: object, **_kwargs: object) -> None:
        """Retain nothing: retained messages never act here, and amqtt keeps them in memory without bound."""

    async def _handle_disconnect(
        self, client_session: Session, handler: Any, disconnect_waiter: asyncio.Future[Any]
    ) -> None:
        """Pass on what the client sent before it left: amqtt acknowledged it, and would now throw it away."""
        queue = client_session.delivered_message_queue
        # All at once, before anything is awaited: a task of amqtt's waits for the next one, and is about to be dropped.
        left = [queue.get_nowait() for _ in range(queue.qsize())]
        for message in left:
            delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            delivery.set_result(message)
            if not await self._handle_message_delivery(client_session, handler, delivery):
                break
        await super()._handle_disconnect(client_session, handler, disconnect_waiter)
