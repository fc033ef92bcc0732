"""The broker's figures for Prometheus. None is labelled by device: a town has 16,307."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge

from broker.connect import Refusal
from broker.packets import Cut
from broker.rules import Action
from commonwatt.lte import Use


class Dropped(StrEnum):
    """Why a message did not reach a subscriber; the label of the counter."""

    FULL = "full"
    UNACKNOWLEDGED = "unacknowledged"
    GONE = "gone"


class BrokerMetrics:
    """Counters and gauges of one broker, in a registry of its own.

    Attributes:
        registry: What /metrics shows.
        connections: Devices connected now.
        devices: Devices that may connect.
        connects: Connections admitted.
        takeovers: Connections replaced by a newer one of the same identity.
        refused_connects: Connections refused, by reason.
        refused_actions: Publishes, subscriptions and deliveries refused, by action.
        cuts: Admitted connections cut, by reason.
        held_back: Packets read later than they came, since their sender sends too many.
        dropped_messages: Messages that did not reach a subscriber, by reason.
        accept_pauses: Times no connection was accepted for want of open files.
        messages: Messages taken in and passed on, by direction.
        line_bytes: What the meters' connections cost on the line, by direction.
        connection_errors: Connections ended by an error in the broker itself.
        devices_file_errors: Times the devices file could not be read again.
        tls_file_errors: Times a certificate or the list of revocations could not be read again.
        certificate_expires: When the broker's certificate expires.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.connections = Gauge("commonwatt_broker_connections", "Devices connected now.", registry=self.registry)
        self.devices = Gauge("commonwatt_broker_devices", "Devices that may connect.", registry=self.registry)
        self.connects = Counter("commonwatt_broker_connects_total", "Connections admitted.", registry=self.registry)
        self.takeovers = Counter(
            "commonwatt_broker_takeovers_total",
            "Connections replaced by a newer one of the same identity.",
            registry=self.registry,
        )
        self.refused_connects = Counter(
            "commonwatt_broker_refused_connects_total",
            "Connections refused before amqtt saw them, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.refused_actions = Counter(
            "commonwatt_broker_refused_actions_total",
            "Publishes, subscriptions and deliveries refused, by action.",
            ["action"],
            registry=self.registry,
        )
        self.cuts = Counter(
            "commonwatt_broker_cut_connections_total",
            "Admitted connections cut for what their client did or left undone, by reason.",
            ["reason"],
            registry=self.registry,
        )
        self.held_back = Counter(
            "commonwatt_broker_held_back_packets_total",
            "Packets read later than they came, since their sender exceeds packets_per_s.",
            registry=self.registry,
        )
        self.dropped_messages = Counter(
            "commonwatt_broker_dropped_messages_total",
            "Messages that did not reach a subscriber, by reason: too many on their way, no PUBACK, disconnected.",
            ["reason"],
            registry=self.registry,
        )
        self.accept_pauses = Counter(
            "commonwatt_broker_accept_pauses_total",
            "Times no connection was accepted for a while, since as many are open as files may be.",
            registry=self.registry,
        )
        self.messages = Counter(
            "commonwatt_broker_messages_total",
            "Messages taken in and passed on, by direction.",
            ["direction"],
            registry=self.registry,
        )
        self.line_bytes = Counter(
            "commonwatt_broker_line_bytes_total",
            "IP bytes of all connections but the gateway's, by direction: out to meters, in from them.",
            ["direction"],
            registry=self.registry,
        )
        self.connection_errors = Counter(
            "commonwatt_broker_connection_errors_total",
            "Connections ended by an error in the broker itself.",
            registry=self.registry,
        )
        self.devices_file_errors = Counter(
            "commonwatt_broker_devices_file_errors_total",
            "Times the devices file could not be read again; the devices known before stay.",
            registry=self.registry,
        )
        self.tls_file_errors = Counter(
            "commonwatt_broker_tls_file_errors_total",
            "Times certificates or revocations could not be read again; those known before stay.",
            registry=self.registry,
        )
        self.certificate_expires = Gauge(
            "commonwatt_broker_certificate_expiry_timestamp_seconds",
            "When the broker's certificate expires, UTC epoch seconds.",
            ["use"],
            registry=self.registry,
        )
        # Rows exist from the start, so that an alert on a rate sees the first refusal.
        for reason in Refusal:
            self.refused_connects.labels(reason.value)
        for cut in Cut:
            self.cuts.labels(cut.value)
        for dropped in Dropped:
            self.dropped_messages.labels(dropped.value)
        for action in Action:
            self.refused_actions.labels(action.value)
        self._line = Use()
        for direction in ("in", "out"):
            self.line_bytes.labels(direction)
        self.messages_in = self.messages.labels("in")
        self.messages_out = self.messages.labels("out")

    def line_use(self, total: Use) -> None:
        """Count what was sent and received since the last time."""
        # A connection that turns out to be the gateway's is taken out of the sum.
        self.line_bytes.labels("out").inc(max(0, total.sent - self._line.sent))
        self.line_bytes.labels("in").inc(max(0, total.received - self._line.received))
        self._line = total

    def value(self, name: str, **labels: str) -> float:
        """Return a sample's present value, for the status page; 0 when there is none."""
        return self.registry.get_sample_value(name, labels) or 0.0
