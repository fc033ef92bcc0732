"""What the utility counts of messages, readings and gaps, and the contents of gateways' heartbeats.

So gateways need not be scraped over LTE.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric

from commonwatt.model.time.now import Trust
from commonwatt.protocol.heartbeats import Heartbeat
from utility.database.health import DISK_FULL, STORE_DAMAGED
from utility.database.metrics import PREFIX, Count, Metrics, counters_by, gauges_by, value_of
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
) -> Iterator[Metric]:
    """Yield the silence of every gateway, whether it is over its quota, and the values of its last heartbeat.

    Args:
        silent_since: When each registered gateway last sent, or since when it is awaited, clock seconds.
        over_quota: The gateways of which no more dead letters are kept today.
    """
    text = "Seconds since the gateway's last message; if there was none, since this service waits for it."
    silent = {controller: max(0.0, now - time) for controller, time in sorted(silent_since.items())}
    yield gauges_by("gateway_last_seen_seconds", text, silent, "controller")
    text = "1 while no more dead letters of the gateway are kept until tomorrow."
    yield gauges_by("gateway_over_quota", text, {each: each in over_quota for each in silent}, "controller")
    yield from _state(sorted(said.items()))
    yield from _lines(sorted(said.items()))


def _state(said: Sequence[tuple[str, Heartbeat]]) -> Iterator[Metric]:
    programs = {name: beat.program for name, beat in said if beat.program is not None}
    text = "Data at the gateway that the utility has not acknowledged, by kind."
    waiting = {
        (name, kind): count
        for name, beat in said
        for kind, count in (
            ("parts", beat.backlog_parts),
            ("events", beat.backlog_events),
            ("dead_letters", beat.backlog_letters),
        )
    }
    yield gauges_by("gateway_backlog", text, waiting, "controller", "kind")
    text = "Seconds since the end of the oldest quarter with unacknowledged data at the gateway; 0 without any."
    yield _gauge("backlog_age_seconds", text, {name: beat.backlog_age_s for name, beat in said})
    text = "1 while the gateway has its time from the network or a reliable clock."
    yield _gauge("clock_trusted", text, {name: beat.trust >= Trust.HARDWARE for name, beat in said})
    text = "Meters that report another manager; the gateway does not command them."
    yield _gauge("fenced_meters", text, {name: beat.fenced for name, beat in said})
    text = "Parts of blocks left to send again to a new database."
    left = {(name, of): told.left for name, beat in said for of, told in beat.refilling.items()}
    yield gauges_by("gateway_refilling_parts", text, left, "controller", "microgrid")
    text = "Seconds until the first certificate of the gateway ends, in whole days."
    ends = {name: one.cert_days * 86_400 for name, one in programs.items() if one.cert_days is not None}
    yield _gauge("certificate_left_seconds", text, ends)
    text = "Seconds until the gateway's disk is full at its rate, in whole days."
    fills = {name: one.disk_days * 86_400 for name, one in programs.items() if one.disk_days is not None}
    yield _gauge("disk_left_seconds", text, fills)
    text = "Starts of the gateway's program."
    yield counters_by("gateway_starts", text, {name: one.starts for name, one in programs.items()}, "controller")
    text = "1 for the release of the gateway's program."
    releases = {(name, one.release): 1 for name, one in programs.items()}
    yield gauges_by("gateway_release", text, releases, "controller", "release")


def _lines(said: Sequence[tuple[str, Heartbeat]]) -> Iterator[Metric]:
    """Yield use, forecast and allowance of each line that was reported."""
    months = {name: beat.lte for name, beat in said if beat.lte is not None}
    text = "IP bytes of the controller's LTE line since its month began."
    used = {name: month.used for name, month in months.items()}
    yield gauges_by("lte_month_bytes", text, _by_way(used), "controller", "direction")
    text = "Forecast of these bytes for the month's end, from the use of the last seven days."
    expected = {name: month.expected for name, month in months.items() if month.expected is not None}
    yield gauges_by("lte_forecast_bytes", text, _by_way(expected), "controller", "direction")
    text = "Bytes that the line's plan allows in a month, each way."
    yield gauges_by(
        "lte_allowance_bytes", text, {name: month.allowance for name, month in months.items()}, "controller"
    )


def _by_way(figures: Mapping[str, Sequence[int]]) -> dict[tuple[str, str], int]:
    return {(name, way): one for name, of in figures.items() for way, one in zip(("up", "down"), of, strict=True)}


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    return gauges_by(f"gateway_{name}", text, values, "controller")
