"""The utility's Prometheus metrics (K4). Labels name controllers (802 in a town), never meters or customers."""

from collections.abc import Callable, Iterable, Mapping
from itertools import product

from prometheus_client.metrics_core import Metric

from commonwatt.runtime.metric_families import counter, gauge
from utility.access.store.audit_log import BROKEN, REFUSED, unseen
from utility.billing.store.runs import count_issued, count_runs
from utility.corrections.store.checking import count_open
from utility.corrections.store.corrections import count_proposed
from utility.corrections.validation import ReadingCheck
from utility.database.base import Connection
from utility.database.health import ALARMS, DiskSpace
from utility.database.metrics import Count, CountGauges, Metrics
from utility.jobs.metrics import JobMetrics
from utility.mail.message import MailState
from utility.mail.store import count_mails
from utility.readings.metrics import ReadingsMetrics
from utility.readings.store.quarantine import count_quarantined
from utility.readings.store.reads import count_conflicts, count_open_gaps
from utility.settlement.metrics import SettlementMetrics
from utility.supply.metrics import SupplyMetrics
from utility.tariffs.store import count_proposals

OF_CORRECTIONS = (
    Count("open_findings", "Open findings of the daily checks of readings, by check.", count_open, label="check",
          values=tuple(check.value for check in ReadingCheck)),
    Count("proposed_corrections", "Estimates of missing readings that wait for a person.", count_proposed),
)  # fmt: skip
COUNTS = (
    Count("refused_second_persons", "Attempts of people who may not be the second one, unseen by an administrator.",
          lambda connection: len(unseen(connection, REFUSED))),
    Count("break_glass_commands", "Commands that decided without the service, unseen by an administrator.",
          lambda connection: len(unseen(connection, BROKEN))),
    Count("bill_runs", "Runs of bills, by state: draft, checked (waits for a second person), issued, cancelled.",
          count_runs, label="state", values=("draft", "checked", "issued", "cancelled")),
    Count("issued_bills", "Bills of the last month that was issued.", count_issued),
    Count("mails", f"Mails by state: {', '.join(MailState)}.", count_mails, label="state", values=tuple(MailState)),
    Count("proposed_rates", "Versions of tariffs that wait for a second person.", count_proposals),
    Count("gaps_open_blocks", "Blocks with missing slots that are being requested.", count_open_gaps),
    Count("quarantined_open_dead_letters", "Dead letters with quarantined readings that wait for a decision.",
          count_quarantined),
    Count("conflicting_slots", "Slots of stored readings with more than one value.", count_conflicts),
)  # fmt: skip
"""What is counted in the database, of all rooms."""

ACTIVE_HELP = "1 if this is the active utility of those that share the database, 0 if it stands by."


class UtilityMetrics(Metrics):
    """All metrics of one service, each room's in an attribute of its name."""

    def __init__(self) -> None:
        super().__init__()
        self.readings = ReadingsMetrics(self)
        self.jobs = JobMetrics(self)
        self.supply = SupplyMetrics(self)
        self.settlement = SettlementMetrics(self)
        self.corrections = CountGauges(self, OF_CORRECTIONS)
        self.rest = CountGauges(self, COUNTS)
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
        self.show(
            gauge("head_end_connected", "1 while connected to a head-end broker, by its address.",
                  lambda _: connected(), "head_end"),
            counter("link_restarts", "Times an open connection to the head-end was closed to reconnect, by reason.",
                    lambda _: restarts(), "reason"),
            counter("callback_failures", "Exceptions while handling messages and ticks.", lambda _: failures()),
            counter("retained_messages", "Retained messages, ignored.", lambda _: retained()),
        )  # fmt: skip

    def certificate_expires(self, use: str, at: float | None) -> None:
        """Show when a certificate expires; ``None``: there is none."""
        if at is not None:
            self._expires.labels(use).set(at)

    def watch_gateways(self, said: Callable[[], Iterable[Metric]], registered: Callable[[], int]) -> None:
        """Show how many gateways are registered, and what each of them said last."""
        self.watch(said)
        self.show(gauge("gateways", "Gateways that are registered.", lambda _: registered()))

    def watch_health(self, alarms: Callable[[], list[str]]) -> None:
        """Show the alarms of the database."""
        self.show(
            gauge("alarm",
                  "1 while an operator must act: store_damaged, nothing is acknowledged; disk_full, no batch is "
                  "accepted; database_away, the database does not answer; no_standby, commits wait for a synchronous "
                  "standby.",
                  lambda _: {name: name in alarms() for name in ALARMS}, "alarm"),
        )  # fmt: skip

    def watch_notifications(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Show how many messages to people, and calls of the dead man's address, were sent or failed."""
        keys = tuple(product(("call", "digest", "test", "beat"), ("sent", "failed")))
        self.show(
            counter("notifications",
                    "Calls of people for alarms, by kind (call, digest, test, beat) and result (sent, failed).",
                    lambda _: {key: counts.get(key, 0) for key in keys}, "kind result"),
        )  # fmt: skip

    def watch_disk(self, disk: Callable[[], DiskSpace | None]) -> None:
        """Show the disk space of an SQLite database at its last check; a server's disk is not visible here."""
        self.show(
            gauge("disk_free_bytes", "Free space on the disk of an SQLite database.",
                  lambda _: None if (found := disk()) is None else found.free_bytes),
            gauge("disk_size_bytes", "Size of the disk of an SQLite database.",
                  lambda _: None if (found := disk()) is None else found.size_bytes),
        )  # fmt: skip
