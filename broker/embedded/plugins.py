"""The two amqtt plugins: both ask what the guard and the rules have decided, and both deny by default."""

import logging
from dataclasses import dataclass

from amqtt.contexts import Action as AmqttAction  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]

from broker.admission.log_throttle import ThrottledLog
from broker.embedded.packets import MAX_TOPIC_BYTES
from broker.metrics import BrokerMetrics, Dropped
from broker.rules import Action, allowed
from commonwatt.identity.devices import Device

_log = logging.getLogger(__name__)


class Admitted:
    """The devices connected now, by identity, as the guard let them in."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self.devices: dict[str, Device] = {}
        self.metrics = metrics
        self._throttled = ThrottledLog(_log)

    def permits(self, identity: str | None, action: Action, topic: str) -> bool:
        """Judge and count one action."""
        device = self.devices.get(identity or "")
        if device is None or not allowed(device, action, topic):
            self.refuse(identity, action, topic)
            return False
        if action is Action.PUBLISH:
            self.metrics.messages_in.inc()
        elif action is Action.RECEIVE:
            self.metrics.messages_out.inc()
        return True

    def refuse(self, identity: str | None, action: Action, topic: str) -> None:
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
    """Accepts the sessions the guard let in. amqtt refuses everyone when no plugin vouches."""

    @dataclass
    class Config:
        """What amqtt hands the plugin."""

        admitted: Admitted

    async def authenticate(self, *, session: Session) -> bool:
        """Say whether the guard let this session in."""
        admitted: Admitted = self.config.admitted
        return session.client_id in admitted.devices


class TopicRules(BaseTopicPlugin):  # type: ignore[misc]
    """Applies ``rules`` to every subscription; publishes and deliveries are judged as they are passed on."""

    @dataclass
    class Config:
        """What amqtt hands the plugin."""

        admitted: Admitted

    async def topic_filtering(
        self, *, session: Session | None = None, topic: str | None = None, action: AmqttAction | None = None
    ) -> bool:
        """Say whether the session's device may do this."""
        admitted: Admitted = self.config.admitted
        if session is None or topic is None or action is None:
            return False
        return admitted.permits(session.client_id, Action(action.value), topic)
