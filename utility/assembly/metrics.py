"""The utility's Prometheus metrics (K4). Labels name controllers (802 in a town), never meters or customers."""

import math
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.settlement.validation.day import Check
from utility.outbox.changes import Committed
from utility.overview.metrics import TownMetrics
from utility.readings.gateway_metrics import GatewayMetrics
from utility.readings.health import ALARMS, DISK_FULL, STORE_DAMAGED, Disk
from utility.supply.metrics import PlantMetrics

_PREFIX = "commonwatt_utility"

# A `_created` series for every counter would double the page without any use.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Label values shown from the start as 0: an alert then sees the first of each, and a panel shows 0 instead of no data.
_RESULTS = (
    "stored",
    "stored_for_another",
    "not_assigned",
    "seen",
    "outcome",
    "plant",
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
    "dead_letters_full",
    "malformed",
    "checksum",
    "bad_payload",
)


RUN_STATES = ("draft", "checked", "issued")  # the states of runs of bills


class UtilityMetrics:
    """All metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.messages = self._counter("messages", "Messages from gateways, by result.", "result")
        self.refusals = self._counter("refusals", "Batches of registered gateways refused, by reason.", "reason")
        self.batches = self._counter("batches", "Batches committed.")
        self.blocks = self._counter("blocks", "Parts of blocks committed; a part sent again counts again.")
        self.slots = self._counter("slots", "Readings committed in parts of blocks; a reading sent again counts again.")
        self.events = self._counter("events", "New events committed.")
        self.unknown_states = self._counter("unknown_states", "Events stored with state bits unknown to this version.")
        self.dead_letters = self._counter(
            "dead_letters", "New dead letters committed, including those with quarantined readings."
        )
        self.quarantined = self._counter(
            "quarantined_dead_letters", "New dead letters with readings that wait for a person's decision."
        )
        self.event_conflicts = self._counter("event_conflicts", "Events that contradict a stored event.")
        self.store_errors = self._counter("store_errors", "Failed transactions; nothing in them was acknowledged.")
        self.compacted = self._counter("compacted_blocks", "Blocks compacted.")
        self.damaged = self._counter("damaged_parts", "Stored parts that failed their check and were quarantined.")
        self.asked = self._counter("gap_blocks_asked", "Blocks requested again from gateways.")
        self.job_failures = self._counter("job_failures", "Failed runs of a job, by job.", "task")
        self.periods_overdue = self._by_job("job_periods_overdue", "Due periods of a job that are not done, by job.")
        self.periods_failed = self._by_job(
            "job_periods_failed", "Due periods of a job that were tried, are not done and are not running now, by job."
        )
        self.jobs_late = self._by_job(
            "job_late_seconds", "By how much a job is late, by job: 0 while it is in time or paused."
        )
        self.jobs_paused = self._by_job("job_paused", "1 while a person has paused a job, by job.")
        self.job_seconds = self._by_job("job_last_run_seconds", "Real time of a job's last finished run, by job.")
        self.purchases = self._counter("purchases", "Purchases planned for the town's plant, by policy.", "policy")
        self.limited = self._counted("limited_microgrids", "Microgrids with an import limit, since power is short.")
        self.http_cut = self._counter("http_cut_connections", "Connections to the API closed as too slow or too many.")
        self.queue = self._gauge("queue_messages", "Messages waiting to be committed.")
        self.residuals_beyond = self._counted(
            "settlement_residual_microgrids", "Microgrids whose members and boundary differ by more than the bound."
        )
        self.settlement_provisional = self._counted(
            "settlement_provisional", "Settled days of microgrids that wait for readings or their deadline."
        )
        self.settled_versions = self._counter("settled_versions", "New versions of meters' settled days.")
        self.gaps_open = self._counted("gaps_open_blocks", "Blocks with missing slots that are being requested.")
        self.quarantined_open = self._counted(
            "quarantined_open_dead_letters", "Dead letters with quarantined readings that wait for a decision."
        )
        self.conflicts = self._counted("conflicting_slots", "Slots of stored readings with more than one value.")
        self.findings = Gauge(
            f"{_PREFIX}_open_findings",
            "Open findings of the daily checks of readings, by check.",
            ["check"],
            registry=self.registry,
        )
        self.corrections_proposed = self._counted(
            "proposed_corrections", "Estimates of missing readings that wait for a person."
        )
        self.bill_runs = Gauge(
            f"{_PREFIX}_bill_runs",
            "Runs of bills, by state: draft, checked (waits for a second person), issued.",
            ["state"],
            registry=self.registry,
        )
        self.issued_bills = self._counted("issued_bills", "Bills of the last month that was issued.")
        self.rates_proposed = self._counted("proposed_rates", "Versions of tariffs that wait for a second person.")
        self.second_refused = self._counted(
            "refused_second_persons", "Attempts of people who may not be the second one, unseen by an administrator."
        )
        self.broken_glass = self._counted(
            "break_glass_commands", "Commands that decided without the service, unseen by an administrator."
        )
        self.connected = self._gauge("head_end_connected", "1 while connected to the head-end broker.")
        self.clock_trusted = self._gauge("clock_trusted", "1 while gateways may use the utility's time.")
        self._expires = Gauge(
            f"{_PREFIX}_certificate_expiry_timestamp_seconds",
            "When the first certificate of a use (mqtt, http) expires, including the authority's, UTC epoch seconds.",
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
        for check in Check:
            self.findings.labels(check.value).set(math.nan)
        for state in RUN_STATES:
            self.bill_runs.labels(state).set(math.nan)
        for reason in _REASONS:
            self.refusals.labels(reason)

    def expect_jobs(self, names: Iterable[str]) -> None:
        """Show the jobs ``names`` from the start; their counts of periods are NaN until the first count."""
        for name in names:
            self.job_failures.labels(name)
            counted = (self.periods_overdue, self.periods_failed)
            for gauge in (*counted, self.jobs_late, self.jobs_paused, self.job_seconds):
                gauge.labels(name).set(math.nan)

    def bills(self, runs: Mapping[str, int], issued: int) -> None:
        """Show the number of runs of bills by state, and of the bills of the last month that was issued."""
        for state in RUN_STATES:
            self.bill_runs.labels(state).set(runs.get(state, 0))
        self.issued_bills.set(issued)

    def committed(self, counts: Committed) -> None:
        """Add the counts of a committed transaction."""
        for name, count in vars(counts).items():
            counter: Counter = getattr(self, name)
            counter.inc(count)

    def watch_connection(self, restarts: Mapping[str, int], failures: Callable[[], int]) -> None:
        """Show the reconnections to the head-end, by reason, and the failures of callbacks (messages and ticks)."""
        self.registry.register(_Watched(restarts, failures))

    def certificate_expires(self, use: str, at: float | None) -> None:
        """Show when a certificate expires; ``None``: there is none."""
        if at is not None:
            self._expires.labels(use).set(at)

    def watch_gateways(self, gateways: GatewayMetrics, registered: Callable[[], int]) -> None:
        """Show how many gateways are registered, and the values of each one's last heartbeat."""
        self.registry.register(gateways)
        self._gauge("gateways", "Gateways that are registered.").set_function(registered)

    def watch_plant(self, plant: PlantMetrics) -> None:
        """Show the plant's last report."""
        self.registry.register(plant)

    def watch_town(self, town: TownMetrics) -> None:
        """Show the town's figures."""
        self.registry.register(town)

    def watch_health(self, alarms: Callable[[], list[str]]) -> None:
        """Show the alarms of the database."""
        gauge = Gauge(
            f"{_PREFIX}_alarm",
            "1 while an operator must act: store_damaged, nothing is acknowledged; disk_full, no batch is accepted; "
            "database_away, the database does not answer.",
            ["alarm"],
            registry=self.registry,
        )
        for name in ALARMS:
            gauge.labels(name).set_function(lambda name=name: float(name in alarms()))  # type: ignore[misc]

    def watch_disk(self, disk: Callable[[], Disk | None]) -> None:
        """Show the disk space of an SQLite database; a server's disk is not visible here."""
        self.registry.register(_DiskSpace(disk))

    def watch_link(self, retained: Callable[[], int]) -> None:
        """Show the count of retained messages that the connection to the head-end ignored."""
        self.registry.register(_Retained(retained))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, registry=self.registry)

    def _by_job(self, name: str, text: str) -> Gauge:
        return Gauge(f"{_PREFIX}_{name}", text, ["task"], registry=self.registry)

    def _counted(self, name: str, text: str) -> Gauge:
        """Make a gauge for a count in the database: NaN until its first count, since 0 would be wrong."""
        gauge = self._gauge(name, text)
        gauge.set(math.nan)
        return gauge


class _Retained(Collector):
    """Collector that reads the count of ignored retained messages at each scrape."""

    def __init__(self, retained: Callable[[], int]) -> None:
        self._retained = retained

    def collect(self) -> Iterable[Metric]:
        """Yield the counter."""
        yield CounterMetricFamily(f"{_PREFIX}_retained_messages", "Retained messages, ignored.", value=self._retained())


class _DiskSpace(Collector):
    """Collector of a disk's space at its last check; without a check, a metric has no value."""

    def __init__(self, disk: Callable[[], Disk | None]) -> None:
        self._disk = disk

    def collect(self) -> Iterable[Metric]:
        """Yield the disk's free space and size."""
        disk = self._disk()
        for name, text, value in (
            ("disk_free_bytes", "Free space on the disk of an SQLite database.", disk.free_bytes if disk else None),
            ("disk_size_bytes", "Size of the disk of an SQLite database.", disk.size_bytes if disk else None),
        ):
            yield GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


class _Watched(Collector):
    """Collector of the counts of the connection and the ticker."""

    def __init__(self, restarts: Mapping[str, int], failures: Callable[[], int]) -> None:
        self._restarts = restarts
        self._failures = failures

    def collect(self) -> Iterable[Metric]:
        """Yield the counters."""
        family = CounterMetricFamily(
            f"{_PREFIX}_link_restarts",
            "Times an open connection to the head-end was closed to reconnect, by reason.",
            labels=["reason"],
        )
        for reason, times in list(self._restarts.items()):
            family.add_metric([reason], times)
        yield family
        yield CounterMetricFamily(
            f"{_PREFIX}_callback_failures",
            "Exceptions while handling messages and ticks.",
            value=self._failures(),
        )
