"""The two amqtt plugins: they apply the decisions of the guard and the rules, and deny by default."""

import logging
from dataclasses import dataclass

from amqtt.contexts import Action as AmqttAction  # type: ignore[import-untyped]
from amqtt.plugins.base import BaseAuthPlugin, BaseTopicPlugin  # type: ignore[import-untyped]
from amqtt.session import Session  # type: ignore[import-untyped]

from broker.access_rules import Action, allowed
from broker.admission.log_throttle import ThrottledLog
from broker.embedded.packets import MAX_TOPIC_BYTES
from broker.metrics import BrokerMetrics, Dropped
from commonwatt.identity.devices import Device

_log = logging.getLogger(__name__)


class Admitted:
    """The devices connected now, by identity, as the guard admitted them."""

    def __init__(self, metrics: BrokerMetrics) -> None:
        self.devices: dict[str, Device] = {}
        self.metrics = metrics
        self._throttled = ThrottledLog(_log)

    def permits(self, identity: str | None, action: Action, topic: str) -> bool:
        """Return whether the rules permit one action, and count it."""
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
        return admitted.permits(session.client_id, Action(action.value), topic)
