"""What the utility counts of messages, readings and gaps, and the contents of gateways' heartbeats.

So gateways need not be scraped over LTE.
"""

from collections.abc import Collection, Iterable, Mapping

from prometheus_client import Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from commonwatt.model.time.now import Trust
from commonwatt.protocol.heartbeats import Heartbeat
from utility.database.health import DISK_FULL, STORE_DAMAGED
from utility.database.metrics import PREFIX, Count, Metrics, value_of
from utility.outbox.changes import Committed
from utility.readings.store.quarantine import count_quarantined
from utility.readings.store.reads import count_conflicts, count_open_gaps

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
    STORE_DAMAGED,
    DISK_FULL,
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

COUNTS = (
    Count("gaps_open_blocks", "Blocks with missing slots that are being requested.", count_open_gaps),
    Count(
        "quarantined_open_dead_letters",
        "Dead letters with quarantined readings that wait for a decision.",
        count_quarantined,
    ),
    Count("conflicting_slots", "Slots of stored readings with more than one value.", count_conflicts),
)


class ReadingsMetrics:
    """The metrics of what gateways send, and of what is made of it."""

    def __init__(self, metrics: Metrics) -> None:
        self.store_errors = metrics.store_errors
        self.messages = metrics.counter("messages", "Messages from gateways, by result.", "result")
        self.refusals = metrics.counter("refusals", "Batches of registered gateways refused, by reason.", "reason")
        self.unknown_states = metrics.counter(
            "unknown_states", "Events stored with state bits unknown to this version."
        )
        self.compacted = metrics.counter("compacted_blocks", "Blocks compacted.")
        self.damaged = metrics.counter("damaged_parts", "Stored parts that failed their check and were quarantined.")
        self.asked = metrics.counter("gap_blocks_asked", "Blocks requested again from gateways.")
        self.queue = metrics.gauge("queue_messages", "Messages waiting to be committed.")
        self.went_back = metrics.counter("database_went_back", "How often the database lacked what it had committed.")
        self.lags = metrics.gauge("lags", "1 while gateways are told to relay whole quarter-hours only.")
        self.commit_seconds = Histogram(
            f"{PREFIX}_commit_seconds",
            "Real time from taking messages from the queue until they are durable.",
            registry=metrics.registry,
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        )
        slots = "Readings committed in parts of blocks; a reading sent again counts again."
        letters = "New dead letters committed, including those with quarantined readings."
        waiting = "New dead letters with readings that wait for a person's decision."
        # By the names of ``Committed``.
        self._committed = {
            "batches": metrics.counter("batches", "Batches committed."),
            "blocks": metrics.counter("blocks", "Parts of blocks committed; a part sent again counts again."),
            "slots": metrics.counter("slots", slots),
            "events": metrics.counter("events", "New events committed."),
            "dead_letters": metrics.counter("dead_letters", letters),
            "quarantined": metrics.counter("quarantined_dead_letters", waiting),
            "event_conflicts": metrics.counter("event_conflicts", "Events that contradict a stored event."),
        }
        for result in _RESULTS:
            self.messages.labels(result)
        for reason in _REASONS:
            self.refusals.labels(reason)

    def committed(self, counts: Committed) -> None:
        """Add the counts of a committed transaction."""
        for name, count in vars(counts).items():
            self._committed[name].inc(count)

    def watched(self) -> dict[tuple[str, str], int]:
        """Return the counters whose growth is an alarm, by name and label (``utility.alarms.past``)."""
        refused = {sample.labels["reason"] for family in self.refusals.collect() for sample in family.samples}
        counters = {
            ("dropped", ""): self.messages.labels("dropped"),
            ("store_errors", ""): self.store_errors,
            ("went_back", ""): self.went_back,
            ("dead_letters", ""): self._committed["dead_letters"],
            ("conflicts", ""): self._committed["event_conflicts"],
        } | {("refusals", reason): self.refusals.labels(reason) for reason in refused}
        return {name: int(value_of(counter)) for name, counter in counters.items()}


def gateways_said(
    silent_since: Mapping[str, float], said: Mapping[str, Heartbeat], over_quota: Collection[str], now: float
) -> Iterable[Metric]:
    """Yield the silence of every gateway, whether it is over its quota, and the values of its last heartbeat.

    Args:
        silent_since: When each registered gateway last sent, or since when it is awaited, clock seconds.
        over_quota: The gateways of which no more dead letters are kept today.
    """
    text = "Seconds since the gateway's last message; if there was none, since this service waits for it."
    family = _family("gateway_last_seen_seconds", text)
    for controller, time in sorted(silent_since.items()):
        family.add_metric([controller], max(0.0, now - time))
    yield family
    family = _family("gateway_over_quota", "1 while no more dead letters of the gateway are kept until tomorrow.")
    for controller in sorted(silent_since):
        family.add_metric([controller], int(controller in over_quota))
    yield family
    yield from _state(sorted(said.items()))
    yield from _lines(sorted(said.items()))


def _state(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    backlog = _family("gateway_backlog", "Data at the gateway that the utility has not acknowledged, by kind.", "kind")
    age = _family(
        "gateway_backlog_age_seconds",
        "Seconds since the end of the oldest quarter with unacknowledged data at the gateway; 0 without any.",
    )
    trusted = _family("gateway_clock_trusted", "1 while the gateway has its time from the network or a reliable clock.")
    fenced = _family("gateway_fenced_meters", "Meters that report another manager; the gateway does not command them.")
    text = "Seconds until the first certificate of the gateway ends, in whole days."
    certificate = _family("gateway_certificate_left_seconds", text)
    disk = _family("gateway_disk_left_seconds", "Seconds until the gateway's disk is full at its rate, in whole days.")
    starts = CounterMetricFamily(f"{PREFIX}_gateway_starts", "Starts of the gateway's program.", labels=["controller"])
    release = _family("gateway_release", "1 for the release of the gateway's program.", "release")
    refill = _family("gateway_refilling_parts", "Parts of blocks left to send again to a new database.", "microgrid")
    for controller, heartbeat in said:
        for microgrid, told in heartbeat.refilling.items():
            refill.add_metric([controller, microgrid], told.left)
        kinds = {
            "parts": heartbeat.backlog_parts,
            "events": heartbeat.backlog_events,
            "dead_letters": heartbeat.backlog_letters,
        }
        for kind, count in kinds.items():
            backlog.add_metric([controller, kind], count)
        if (program := heartbeat.program) is not None:
            release.add_metric([controller, program.release], 1)
            starts.add_metric([controller], program.starts)
            for family, days in ((certificate, program.cert_days), (disk, program.disk_days)):
                if days is not None:
                    family.add_metric([controller], days * 86_400)
        age.add_metric([controller], heartbeat.backlog_age_s)
        trusted.add_metric([controller], int(heartbeat.trust >= Trust.HARDWARE))
        fenced.add_metric([controller], heartbeat.fenced)
    yield from (backlog, age, trusted, fenced, refill, certificate, disk, starts, release)


def _lines(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    """Yield use, forecast and allowance of each line that was reported."""
    used = _family("lte_month_bytes", "IP bytes of the controller's LTE line since its month began.", "direction")
    text = "Forecast of these bytes for the month's end, from the use of the last seven days."
    expected = _family("lte_forecast_bytes", text, "direction")
    allowance = _family("lte_allowance_bytes", "Bytes that the line's plan allows in a month, each way.")
    for controller, heartbeat in said:
        if (month := heartbeat.lte) is None:
            continue
        for family, figures in ((used, month.used), (expected, month.expected or ())):
            for way, figure in zip(("up", "down"), figures, strict=False):
                family.add_metric([controller, way], figure)
        allowance.add_metric([controller], month.allowance)
    yield from (used, expected, allowance)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["controller", *labels])
