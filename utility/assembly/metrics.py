"""The utility's Prometheus metrics (K4). Labels name controllers (802 in a town), never meters or customers."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from commonwatt.runtime.metric_families import counters
from utility.access import metrics as access
from utility.billing import metrics as billing
from utility.corrections import metrics as corrections
from utility.database.base import Connection
from utility.database.health import ALARMS, Disk
from utility.database.metrics import PREFIX, Counted, Metrics, counters_by, gauges_by
from utility.jobs.metrics import JobMetrics
from utility.mail import metrics as mail
from utility.readings import metrics as readings
from utility.settlement.metrics import SettlementMetrics
from utility.supply.metrics import SupplyMetrics
from utility.tariffs import metrics as tariffs

ACTIVE_HELP = "1 if this is the active utility of those that share the database, 0 if it stands by."


class UtilityMetrics(Metrics):
    """All metrics of one service, each room's in an attribute of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = readings.ReadingsMetrics(self)
        self.jobs = JobMetrics(self)
        self.supply = SupplyMetrics(self)
        self.settlement = SettlementMetrics(self)
        self.corrections = Counted(self, corrections.COUNTS)
        rest = (*access.COUNTS, *billing.COUNTS, *mail.COUNTS, *readings.COUNTS, *tariffs.COUNTS)
        self.rest = Counted(self, rest)
        self.http_cut = self.counter("http_cut_connections", "Connections to the API closed as too slow or too many.")
        self.active = self.gauge("active", ACTIVE_HELP)
        self.log_kept = self.gauge(
            "database_log_kept_bytes", "Bytes of a cluster's log that wait for the standby that is furthest behind."
        )
        self.clock_trusted = self.gauge("clock_trusted", "1 while gateways may use the utility's time.")
        self._expires = self.gauge(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of a use (mqtt, http) expires, including the authority's, UTC epoch seconds.",
            "use",
        )

    def count(self, connection: Connection) -> None:
        """Count what is counted in the database."""
        for each in (self.corrections, self.rest):
            each.count(connection)

    def watch_connection(
        self,
        connected: Callable[[], Mapping[str, bool]],
        restarts: Callable[[], Mapping[str, int]],
        failures: Callable[[], int],
        retained: Callable[[], int],
    ) -> None:
        """Show the connections to the head-ends.

        Args:
            connected: Returns whether each is connected, by its address.
            restarts: Returns the reconnections by reason.
            failures: Returns the failures of callbacks (messages and ticks).
            retained: Returns the number of retained messages that were ignored.
        """

        def read() -> Iterator[Metric]:
            text = "1 while connected to a head-end broker, by its address."
            yield gauges_by("head_end_connected", text, connected(), "head_end")
            text = "Times an open connection to the head-end was closed to reconnect, by reason."
            yield counters_by("link_restarts", text, restarts(), "reason")
            rows = (
                ("callback_failures", "Exceptions while handling messages and ticks.", failures()),
                ("retained_messages", "Retained messages, ignored.", retained()),
            )
            yield from counters(PREFIX, rows)

        self.watch(read)

    def certificate_expires(self, use: str, at: float | None) -> None:
        """Show when a certificate expires; ``None``: there is none."""
        if at is not None:
            self._expires.labels(use).set(at)

    def watch_gateways(self, said: Callable[[], Iterable[Metric]], registered: Callable[[], int]) -> None:
        """Show how many gateways are registered, and what each of them said last."""
        self.watch(said)
        self.gauge("gateways", "Gateways that are registered.").set_function(registered)

    def watch_health(self, alarms: Callable[[], list[str]]) -> None:
        """Show the alarms of the database."""
        gauge = self.gauge(
            "alarm",
            "1 while an operator must act: store_damaged, nothing is acknowledged; disk_full, no batch is accepted; "
            "database_away, the database does not answer; no_standby, commits wait for a synchronous standby.",
            "alarm",
        )
        for name in ALARMS:
            gauge.labels(name).set_function(lambda name=name: float(name in alarms()))  # type: ignore[misc]

    def watch_notifications(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Show how many messages to people, and calls of the dead man's address, were sent or failed."""

        def read() -> Iterator[Metric]:
            text = "Calls of people for alarms, by kind (call, digest, test, beat) and result (sent, failed)."
            keys = product(("call", "digest", "test", "beat"), ("sent", "failed"))
            yield counters_by("notifications", text, {key: counts.get(key, 0) for key in keys}, "kind", "result")

        self.watch(read)

    def watch_disk(self, disk: Callable[[], Disk | None]) -> None:
        """Show the disk space of an SQLite database at its last check; a server's disk is not visible here."""

        def read() -> Iterator[Metric]:
            found = disk()
            free, size = (None, None) if found is None else (found.free_bytes, found.size_bytes)
            text = "Free space on the disk of an SQLite database."
            yield GaugeMetricFamily(f"{PREFIX}_disk_free_bytes", text, value=free)
            yield GaugeMetricFamily(f"{PREFIX}_disk_size_bytes", "Size of the disk of an SQLite database.", value=size)

        self.watch(read)
