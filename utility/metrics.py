"""The utility's Prometheus metrics (K4). No meter and no customer is ever a label; controllers are (802 in a town)."""

import math
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from utility.changes import Committed
from utility.gateway_metrics import GatewayMetrics
from utility.health import ALARMS, DISK_FULL, STORE_DAMAGED, Disk

_PREFIX = "commonwatt_utility"

# A `_created` series beside every counter would double the page, and has no use.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Rows that are there from the start, so that an alert sees the first of each, and a panel shows that there is none.
_RESULTS = (
    "stored",
    "stored_for_another",
    "not_assigned",
    "seen",
    "outcome",
    "malformed",
    "dropped",
    "store_error",
    "failed",
)
_REASONS = (
    "unknown_owner",
    "unknown_meter",
    "other_type",
    "quarantine_full",
    "malformed",
    "checksum",
    "bad_payload",
)


class UtilityMetrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = self._counter("messages", "Messages from gateways, by what became of them.", "result")
        self.refusals = self._counter("refusals", "Batches of registered gateways refused, by reason.", "reason")
        self.batches = self._counter("batches", "Batches committed.")
        self.blocks = self._counter("blocks", "Parts of blocks committed; one sent again counts again.")
        self.slots = self._counter("slots", "Readings committed with them; one sent again counts again.")
        self.events = self._counter("events", "New events committed.")
        self.unknown_states = self._counter(
            "unknown_states", "Events stored with state bits that this version does not know."
        )
        self.dead_letters = self._counter(
            "dead_letters", "New dead letters committed, those with quarantined readings included."
        )
        self.quarantined = self._counter(
            "quarantined_dead_letters", "New dead letters with readings that wait for a person's decision."
        )
        self.event_conflicts = self._counter("event_conflicts", "Events that contradict a kept one.")
        self.store_errors = self._counter("store_errors", "Transactions that failed; nothing of them was acknowledged.")
        self.compacted = self._counter("compacted_blocks", "Blocks compacted.")
        self.damaged = self._counter("damaged_parts", "Stored parts that failed their check and were quarantined.")
        self.asked = self._counter("gap_blocks_asked", "Blocks gateways were asked for again.")
        self.job_failures = self._counter("job_failures", "Runs of a job that failed, by job.", "task")
        self.periods_overdue = self._by_job(
            "job_periods_overdue", "Periods of a job that are due and not done, by job."
        )
        self.periods_failed = self._by_job(
            "job_periods_failed", "Of those, the ones that were tried and are not being done now, by job."
        )
        self.http_cut = self._counter("http_cut_connections", "Connections to the API that were too slow, or too many.")
        self.queue = self._gauge("queue_messages", "Messages waiting to be committed.")
        self.gaps_open = self._counted("gaps_open_blocks", "Blocks with missing slots that are being asked for.")
        self.quarantined_open = self._counted(
            "quarantined_open_dead_letters", "Dead letters with quarantined readings that wait for a decision."
        )
        self.conflicts = self._counted("conflicting_slots", "Slots of stored readings with more than one value.")
        self.connected = self._gauge("head_end_connected", "1 while connected to the head-end broker.")
        self.clock_trusted = self._gauge("clock_trusted", "1 while gateways may take the time from here.")
        self._expires = Gauge(
            f"{_PREFIX}_certificate_expiry_timestamp_seconds",
            "When the first certificate of a use (mqtt, http) expires, the authority's included, UTC epoch seconds.",
            ["use"],
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            f"{_PREFIX}_commit_seconds",
            "Real time from taking messages from the queue until they are durable.",
            registry=self.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        for result in (*_RESULTS, STORE_DAMAGED, DISK_FULL):
            self.messages.labels(result)
        for reason in _REASONS:
            self.refusals.labels(reason)

    def expect_jobs(self, names: Iterable[str]) -> None:
        """Show jobs from the start; their periods are NaN until their first count."""
        for name in names:
            self.job_failures.labels(name)
            self.periods_overdue.labels(name).set(math.nan)
            self.periods_failed.labels(name).set(math.nan)

    def committed(self, counts: Committed) -> None:
        """Count what a transaction made durable."""
        for name, count in vars(counts).items():
            counter: Counter = getattr(self, name)
            counter.inc(count)

    def watch_connection(self, restarts: Mapping[str, int], failures: Callable[[], int]) -> None:
        """Show how often the head-end's connection was given up, by reason, and what failed while taking ticks."""
        self.registry.register(_Watched(restarts, failures))

    def certificate_expires(self, byte_count: str, at: float | None) -> None:
        """Show when a certificate expires; ``None``: there is none."""
        if at is not None:
            self._expires.labels(byte_count).set(at)

    def watch_gateways(self, gateways: GatewayMetrics, registered: Callable[[], int]) -> None:
        """Show how many gateways are registered, and what is known of each."""
        self.registry.register(gateways)
        self._gauge("gateways", "Gateways that are registered.").set_function(registered)

    def watch_health(self, alarms: Callable[[], list[str]]) -> None:
        """Show what is wrong with the database."""
        gauge = Gauge(
            f"{_PREFIX}_alarm",
            "1 while a person must see to it: store_damaged, nothing is acknowledged; disk_full, no data is accepted.",
            ["alarm"],
            registry=self.registry,
        )
        for name in ALARMS:
            gauge.labels(name).set_function(lambda name=name: float(name in alarms()))  # type: ignore[misc]

    def watch_disk(self, disk: Callable[[], Disk | None]) -> None:
        """Show the room on the database's disk; a server's disk is not ours to see."""
        self.registry.register(_DiskDiskSpace(disk))

    def watch_link(self, retained: Callable[[], int]) -> None:
        """Show what the connection to the head-end counts by itself."""
        self.registry.register(_Retained(retained))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, registry=self.registry)

    def _by_job(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, ["task"], registry=self.registry)

    def _counted(self, name: str, text: str) -> Gauge:
        """Make a gauge of what is in the database: not a number until it was counted, for 0 would be a lie."""
        gauge = self._gauge(name, text)
        gauge.set(math.nan)
        return gauge


class _Retained(Collector):
    """Reads the count when it is asked for."""

    def __init__(self, retained: Callable[[], int]) -> None:
        self._retained = retained

    def collect(self) -> Iterable[Metric]:
        """Yield the one counter."""
        yield CounterMetricFamily(f"{_PREFIX}_retained_messages", "Retained messages, ignored.", value=self._retained())


class _DiskDiskSpace(Collector):
    """Shows what was last seen of a disk, if anything."""

    def __init__(self, disk: Callable[[], Disk | None]) -> None:
        self._disk = disk

    def collect(self) -> Iterable[Metric]:
        """Yield its size and what is free of it."""
        disk = self._disk()
        for name, text, value in (
            ("disk_free_bytes", "What is free on the disk of a SQLite database.", disk.free_bytes if disk else None),
            ("disk_size_bytes", "The size of the disk of a SQLite database.", disk.size_bytes if disk else None),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


class _Watched(Collector):
    """Shows what others count."""

    def __init__(self, restarts: Mapping[str, int], failures: Callable[[], int]) -> None:
        self._restarts = restarts
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        """Yield the counters as they are now."""
        family = CounterMetricFamily(
            f"{_PREFIX}_link_restarts",
            "Times the head-end's connection was up and given up all the same, by reason.",
            labels=["reason"],
        )
        for reason, times in list(self._restarts.items()):
            family.add_metric([reason], times)
        yield family
        yield CounterMetricFamily(
            f"{_PREFIX}_callback_failures",
            "Exceptions while taking in messages and ticks.",
            value=self._failures(),
        )
