"""The amqtt broker with its faults corrected. Every override names the fault it corrects; each has a test.

The only module that uses amqtt's internals, which is why amqtt's version is pinned.
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

from broker.access_rules import Action
from broker.embedded.packets import MAX_FILTERS
from broker.embedded.plugins import Admitted
from broker.embedded.subscriber_queue import SubscriberQueue
from broker.metrics import Dropped

LISTENER = "default"  # amqtt's name for our listener

_log = logging.getLogger(__name__)

_REFUSED = 0x80
_MAX_QOS = 1


class _Straight(asyncio.Queue[ApplicationMessage]):
    """Replaces amqtt's queue of the messages that a client sent: it passes on each message at once.

    amqtt's own queue has no limit. Messages wait in it for another task after they were acknowledged, and are lost when
    their sender disconnects.
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
    """An amqtt broker without a listener or stored messages, for admitted devices only."""

    def __init__(self, admitted: Admitted) -> None:
        plugins = {f"broker.embedded.plugins.{name}": {"admitted": admitted} for name in ("AdmittedOnly", "TopicRules")}
        # An external listener binds nothing; its address is set nevertheless, as amqtt's default is 0.0.0.0.
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="127.0.0.1:0")
        super().__init__(BrokerConfig(listeners={LISTENER: listener}, plugins=plugins))
        self._admitted = admitted
        self._queues: dict[str, SubscriberQueue[tuple[ApplicationMessage, int]]] = {}

    async def forget(self, identity: str) -> None:
        """Remove the handler, subscriptions and deliveries of a connection that ended for any reason."""
        await self._cleanup_session(identity)
        # Only after amqtt's clean-up: until then messages for the session are queued.
        queue = self._queues.pop(identity, None)
        if queue is not None and (dropped := queue.close()):
            self._admitted.drop(identity, Dropped.GONE, dropped)

    def passing_on(self) -> object:
        """Return ``None`` while amqtt's loop that passes on messages runs, for a watchdog; amqtt ignores its end."""
        ended = self._broadcast_task is None or self._broadcast_task.done()
        return "its loop has ended" if ended else None

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Grant at most QoS 1 and ``MAX_FILTERS`` filters; a repeated filter gets the last requested QoS.

        amqtt grants filters without limit, keeps the old QoS of a repeated one, and refuses some without our rules.
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
        """Remove a filter without subscribers: amqtt would keep it and compare every message with it."""
        deleted: int = super()._del_subscription(a_filter, session)
        if not self._subscriptions.get(a_filter, True):
            del self._subscriptions[a_filter]
        return deleted

    async def _del_all_subscriptions(self, session: Session) -> None:
        for a_filter in list(self._subscriptions):
            self._del_subscription(a_filter, session)

    async def retain_message(self, *_args: object, **_kwargs: object) -> None:
        """Retain nothing: retained messages have no effect here, and amqtt keeps them in memory without limit."""

    async def _initialize_client_session(self, *arguments: Any) -> tuple[Any, Session]:
        handler, session = await super()._initialize_client_session(*arguments)
        session.delivered_message_queue = _Straight(session, self._pass_on)
        return handler, session

    def _pass_on(self, sender: Session, message: ApplicationMessage) -> None:
        """Send a message to its subscribers, if its sender may publish it."""
        # Without awaiting, unlike amqtt's loop over all subscriptions: there, a subscription that is added or removed
        # meanwhile ends the loop, and the remaining subscribers do not get the message.
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
        """Queue a message for one subscriber, or drop it if the queue is full."""
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
            # amqtt waits 5 s for a PUBACK, and then drops the message.
            self._admitted.drop(identity, Dropped.UNACKNOWLEDGED)
        except (AMQTTError, asyncio.CancelledError):
            _log.debug("a delivery to %s ended with its connection", identity)


def filters_for(topic: str) -> Iterator[str]:
    """Return every filter that matches ``topic`` and that the rules may grant: they never grant ``#``."""
    choices = ((level, "+") for level in topic.split("/"))
    return ("/".join(levels) for levels in itertools.product(*choices))
