"""The broker's metrics for Prometheus. No label names a device: a town has 16,307."""

from collections.abc import Iterable
from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from broker.access_rules import TopicAction
from broker.connect import ConnectRefusal
from broker.packets import Cut
from commonwatt.model.units import ByteCount

_PREFIX = "commonwatt_broker"
_WAYS = ("in", "out")


class Dropped(StrEnum):
    """Why a message did not reach a subscriber; the label of the counter."""

    FULL = "full"
    UNACKNOWLEDGED = "unacknowledged"
    GONE = "gone"


class BrokerMetrics:
    """Counters and gauges of one broker, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()  # what /metrics shows
        self.connections = self._gauge("connections", "Devices connected now.")
        self.devices = self._gauge("devices", "Devices that may connect.")
        self.connects = self._counter("connects", "Connections admitted.")
        self.takeovers = self._counter("takeovers", "Connections replaced by a newer one of the same identity.")
        text = "Connections refused before they reached amqtt, by reason."
        self.refused_connects = self._counters("refused_connects", text, "reason", ConnectRefusal)
        text = "Publishes, subscriptions and deliveries refused, by action."
        self.refused_actions = self._counters("refused_actions", text, "action", TopicAction)
        text = "Admitted connections cut by the broker, by reason."
        self.cuts = self._counters("cut_connections", text, "reason", Cut)
        text = "Packets read with a delay because their sender exceeds packets_per_s."
        self.held_back = self._counter("held_back_packets", text)
        text = "Messages that did not reach a subscriber, by reason: full queue, no PUBACK, disconnected."
        self.dropped_messages = self._counters("dropped_messages", text, "reason", Dropped)
        text = "Times accepting connections was paused, mostly for the limit of open files."
        self.accept_pauses = self._counter("accept_pauses", text)
        text = "Messages received and passed on, by direction."
        self.messages = self._counters("messages", text, "direction", _WAYS)
        self.messages_in, self.messages_out = (self.messages.labels(way) for way in _WAYS)
        text = "IP bytes of all connections but the gateway's, by direction: out to meters, in from them."
        self.line_bytes = self._counters("line_bytes", text, "direction", _WAYS)
        text = "Connections ended by an error in the broker itself."
        self.connection_errors = self._counter("connection_errors", text)
        text = "Times the devices file could not be read again; the previous devices stay."
        self.devices_file_errors = self._counter("devices_file_errors", text)
        text = "Times certificates or revocations could not be read again; the previous ones stay."
        self.tls_file_errors = self._counter("tls_file_errors", text)
        text = "Expiry of the broker's certificate, UTC epoch seconds."
        self.certificate_expires = self._gauge("certificate_expiry_timestamp_seconds", text, "use")
        self._line = ByteCount()

    def line_use(self, total: ByteCount) -> None:
        """Count the bytes sent and received since the last call."""
        # The total can fall: a connection that turns out to be the gateway's is subtracted.
        self.line_bytes.labels("out").inc(max(0, total.sent - self._line.sent))
        self.line_bytes.labels("in").inc(max(0, total.received - self._line.received))
        self._line = total

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's present value, for the status page; 0 when there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, registry=self.registry)

    def _counters(self, name: str, text: str, label: str, rows: Iterable[str]) -> Counter:
        """Make a counter whose rows exist from the start, so that an alert on a rate sees the first of each."""
        counter = Counter(f"{_PREFIX}_{name}", text, [label], registry=self.registry)
        for row in rows:
            counter.labels(row)
        return counter
