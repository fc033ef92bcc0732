"""amqtt, less what it does that we can't have. Every override names the fault it is for; each has a test.

The only module that leans on amqtt's insides, which is why its version is pinned.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType  # type: ignore[import-untyped]
from amqtt.errors import AMQTTError  # type: ignore[import-untyped]
from amqtt.session import ApplicationMessage, Session  # type: ignore[import-untyped]

from broker.embedded.packets import MAX_FILTERS
from broker.embedded.plugins import Admitted
from broker.embedded.subscriber_queue import SubscriberQueue
from broker.metrics import Dropped
from broker.rules import Action

LISTENER = "default"
"""The name amqtt knows our server by."""

_log = logging.getLogger(__name__)

_REFUSED = 0x80
_MAX_QOS = 1


class _Straight(asyncio.Queue[ApplicationMessage]):
    """In place of amqtt's queue of what a client sent: nothing waits in it, each message is passed on at once.

    In amqtt's own, which has no bound, messages waited for another task after they were acknowledged, and were thrown
    away when their sender left.
    """

    def __init__(self, session: Session, pass_on: Callable[[Session, ApplicationMessage], None]) -> None:
        super().__init__()
        self._session = session
        self._pass_on = pass_on

    async def put(self, item: ApplicationMessage) -> None:
        """Pass on a message of QoS 1; its acknowledgement is sent afterwards."""
        self._pass_on(self._session, item)

    def put_nowait(self, item: ApplicationMessage) -> None:
        """Pass on a message of QoS 0."""
        self._pass_on(self._session, item)


class QuietBroker(Broker):  # type: ignore[misc]
    """An amqtt broker that listens on nothing, keeps nothing, and knows only admitted devices."""

    def __init__(self, admitted: Admitted) -> None:
        plugins = {f"broker.embedded.plugins.{name}": {"admitted": admitted} for name in ("AdmittedOnly", "TopicRules")}
        # An external listener binds nothing; its address is still named, for amqtt's default is 0.0.0.0.
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="127.0.0.1:0")
        super().__init__(BrokerConfig(listeners={LISTENER: listener}, plugins=plugins))
        self._admitted = admitted
        self._queues: dict[str, SubscriberQueue[tuple[ApplicationMessage, int]]] = {}

    async def forget(self, identity: str) -> None:
        """Drop what is left of a connection that ended, however it ended: handler, subscriptions, deliveries."""
        await self._cleanup_session(identity)
        # Only now: until amqtt had forgotten the session, messages for it came.
        queue = self._queues.pop(identity, None)
        if queue is not None and (dropped := queue.close()):
            self._admitted.drop(identity, Dropped.GONE, dropped)

    def passing_on(self) -> object:
        """Tell a watchdog that the loop which passes messages on still runs: amqtt would not notice that it ended."""
        ended = self._broadcast_task is None or self._broadcast_task.done()
        return "its loop has ended" if ended else None

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Grant at most QoS 1 and ``MAX_FILTERS`` filters, and a filter again at the QoS asked last.

        amqtt grants filters without bound, to one asked for again the QoS it had, and refuses some without asking us.
        """
        topic_filter, qos = subscription
        if not self._admitted.permits(session.client_id, Action.SUBSCRIBE, topic_filter):
            return _REFUSED
        held = sum(1 for each in self._subscriptions.values() for holder, _ in each if holder is session)
        if held >= MAX_FILTERS:
            self._admitted.refuse(session.client_id, Action.SUBSCRIBE, topic_filter)
            return _REFUSED
        granted: int = await super().add_subscription((topic_filter, min(qos, _MAX_QOS)), session)
        if granted != _REFUSED:
            holders = self._subscriptions[topic_filter]
            holders[:] = [(holder, granted if holder is session else had) for holder, had in holders]
        return granted

    def _del_subscription(self, a_filter: str, session: Session) -> int:
        """Remove a filter without subscribers: amqtt keeps it, and compares every message with it, for ever."""
        deleted: int = super()._del_subscription(a_filter, session)
        if not self._subscriptions.get(a_filter, True):
            del self._subscriptions[a_filter]
        return deleted

    async def _del_all_subscriptions(self, session: Session) -> None:
        for a_filter in list(self._subscriptions):
            self._del_subscription(a_filter, session)

    async def retain_message(self, *_args: object, **_kwargs: object) -> None:
        """Retain nothing: retained messages never act here, and amqtt keeps them in memory without bound."""

    async def _initialize_client_session(self, *arguments: Any) -> tuple[Any, Session]:
        handler, session = await super()._initialize_client_session(*arguments)
        session.delivered_message_queue = _Straight(session, self._pass_on)
        return handler, session

    def _pass_on(self, sender: Session, message: ApplicationMessage) -> None:
        """Send a message to its subscribers, if its sender may publish it.

        In one go, in place of amqtt's loop over all subscriptions, which awaited on the way: one that was made or
        dropped meanwhile ended that walk, and the subscribers behind it silently never got the message.
        """
        if self._admitted.permits(sender.client_id, Action.PUBLISH, message.topic):
            self._to_subscribers(message)

    def say(self, topic: str, payload: bytes) -> None:
        """Publish a message of the broker's own, at QoS 0."""
        self._to_subscribers(ApplicationMessage(None, topic, 0, payload, retain=False))

    def _to_subscribers(self, message: ApplicationMessage) -> None:
        for topic_filter in filters_for(message.topic):
            for receiver, granted in self._subscriptions.get(topic_filter, ()):
                if self._admitted.permits(receiver.client_id, Action.RECEIVE, message.topic):
                    self._deliver(receiver, message, min(granted, message.qos))

    def _deliver(self, receiver: Session, message: ApplicationMessage, qos: int) -> None:
        """Begin to send a message to one subscriber, or drop it when too much is on its way there."""
        handler = self._get_handler(receiver)
        if handler is None:
            return
        identity = receiver.client_id
        if identity not in self._queues:
            self._queues[identity] = SubscriberQueue(partial(self._send, identity, handler))
        if not self._queues[identity].add((message, qos), len(message.data)):
            self._admitted.drop(identity, Dropped.FULL)

    async def _send(self, identity: str, handler: Any, parcel: tuple[ApplicationMessage, int]) -> None:
        message, qos = parcel
        try:
            await handler.mqtt_publish(message.topic, message.data, qos, retain=False)
        except TimeoutError:
            # amqtt waits 5 s for a PUBACK, and forgets the message then.
            self._admitted.drop(identity, Dropped.UNACKNOWLEDGED)
        except (AMQTTError, asyncio.CancelledError):
            _log.debug("a delivery to %s ended with its connection", identity)


def filters_for(topic: str) -> Iterator[str]:
    """Return every filter that matches ``topic`` and that the rules grant to anybody: they grant no ``#``."""
    choices = ((level, "+") for level in topic.split("/"))
    return ("/".join(levels) for levels in itertools.product(*choices))
