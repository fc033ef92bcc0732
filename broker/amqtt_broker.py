"""The amqtt broker with its faults corrected, our plugins and bounded queues.

The only module that uses amqtt's internals, which is why amqtt's version is pinned.
"""

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from amqtt.broker import Broker  # type: ignore[import-untyped]
from amqtt.contexts import Action as AmqttAction  # type: ignore[import-untyped]
from amqtt.contexts import BrokerConfig, ListenerConfig, ListenerType
from amqtt.errors import AMQTTError  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import (  # type: ignore[import-untyped]
    ApplicationMessage,
    Session,
)

from broker.access_rules import TopicAction, allowed
from broker.listener import ThrottledLog
from broker.metrics import BrokerMetrics, Dropped
from broker.packets import MAX_FILTERS, MAX_TOPIC_BYTES
from commonwatt.identity.devices import Device

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


_log = logging.getLogger(__name__)


class Admitted:
    """The devices connected now, by identity, as the guard admitted them."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self.devices: dict[str, Device] = {}
        self.metrics = metrics
        self._throttled = ThrottledLog(_log)

    def permits(self, identity: str | None, action: TopicAction, topic: str) -> bool:
        """Return whether the rules permit one action, and count it."""
        device = self.devices.get(identity or "")
        if device is None or not allowed(device, action, topic):
            self.refuse(identity, action, topic)
            return False
        if action is TopicAction.PUBLISH:
            self.metrics.messages_in.inc()
        elif action is TopicAction.RECEIVE:
            self.metrics.messages_out.inc()
        return True

    def refuse(self, identity: str | None, action: TopicAction, topic: str) -> None:
        """Count and log a refused action."""
        self.metrics.refused_actions.labels(action.value).inc()
        line = f"refused {action.value} by {identity} on {topic[:MAX_TOPIC_BYTES]!r}"
        self._throttled.tell(identity, f"refused {action.value}", line)

    def drop(self, identity: str | None, reason: Dropped, messages: int = 1) -> None:
        """Count and log messages that will not reach the subscriber ``identity``."""
        self.metrics.dropped_messages.labels(reason.value).inc(messages)
        what = f"dropped messages: {reason.value}"
        self._throttled.tell(identity, what, f"{what}, {messages} to {identity}")


class AdmittedOnly(BaseAuthPlugin):  # type: ignore[misc]
    """Accepts the sessions that the guard admitted. Without such a plugin amqtt refuses all sessions."""

    @dataclass
    class Config:
        """The configuration that amqtt passes to the plugin."""

        admitted: Admitted

    async def authenticate(self, *, session: Session) -> bool:
        """Return whether the guard admitted this session."""
        admitted: Admitted = self.config.admitted
        return session.client_id in admitted.devices


class TopicRules(BaseTopicPlugin):  # type: ignore[misc]
    """Applies ``rules`` to every subscription; publishes and deliveries are checked when they are passed on."""

    @dataclass
    class Config:
        """The configuration that amqtt passes to the plugin."""

        admitted: Admitted

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: AmqttAction | None = None
    ) -> bool:
        """Return whether the rules permit the action of the session's device."""
        admitted: Admitted = self.config.admitted
        if session is None or topic is None or action is None:
            return False
        return admitted.permits(session.client_id, TopicAction(action.value), topic)


LISTENER = "default"  # amqtt's name for our listener


_REFUSED = 0x80
_MAX_QOS = 1


class _SessionState:
    """Replaces amqtt's machine of a session's three states, which takes 16 kB for each session."""

    def __init__(self) -> None:
        self.state = "new"

    def is_connected(self) -> bool:
        return self.state == "connected"

    def connect(self) -> None:
        if self.is_connected():
            raise ValueError("the session is connected")  # which amqtt expects
        self.state = "connected"

    def disconnect(self) -> None:
        self.state = "disconnected"


# amqtt makes its sessions itself.
Session._init_states = lambda session: setattr(session, "transitions", _SessionState())  # noqa: SLF001


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
        plugins = {f"broker.amqtt_broker.{name}": {"admitted": admitted} for name in ("AdmittedOnly", "TopicRules")}
        # An external listener binds nothing; its address is set nevertheless, as amqtt's default is 0.0.0.0.
        listener = ListenerConfig(type=ListenerType.EXTERNAL, bind="127.0.0.1:0")
        super().__init__(BrokerConfig(listeners={LISTENER: listener}, plugins=plugins))
        self._admitted = admitted
        self._nothing: asyncio.Queue[ApplicationMessage] = asyncio.Queue()  # what amqtt retains for any session
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
        if not self._admitted.permits(session.client_id, TopicAction.SUBSCRIBE, topic_filter):
            return _REFUSED
        held = sum(1 for each in self._subscriptions.values() for holder, _ in each if holder is session)
        if held >= MAX_FILTERS:
            self._admitted.refuse(session.client_id, TopicAction.SUBSCRIBE, topic_filter)
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
        session.retained_messages = self._nothing
        return handler, session

    def _pass_on(self, sender: Session, message: ApplicationMessage) -> None:
        """Send a message to its subscribers, if its sender may publish it."""
        # Without awaiting, unlike amqtt's loop over all subscriptions: there, a subscription that is added or removed
        # meanwhile ends the loop, and the remaining subscribers do not get the message.
        if self._admitted.permits(sender.client_id, TopicAction.PUBLISH, message.topic):
            self._to_subscribers(message)

    def say(self, topic: str, payload: bytes) -> None:
        """Publish a message of the broker's own, at QoS 0."""
        self._to_subscribers(ApplicationMessage(None, topic, 0, payload, retain=False))

    def _to_subscribers(self, message: ApplicationMessage) -> None:
        for topic_filter in filters_for(message.topic):
            for receiver, granted in self._subscriptions.get(topic_filter, ()):
                if self._admitted.permits(receiver.client_id, TopicAction.RECEIVE, message.topic):
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
