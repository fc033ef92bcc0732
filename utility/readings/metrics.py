"""What the utility counts of messages, readings and gaps, and the contents of gateways' heartbeats.

So gateways need not be scraped over LTE.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric

from commonwatt.model.time import Trust
from commonwatt.protocol.heartbeats import Heartbeat, LineMonth, Program
from commonwatt.runtime.metric_families import MetricRow, Value, counter, families, gauge
from utility.database.health import DISK_FULL, STORE_DAMAGED
from utility.database.metrics import PREFIX, Metrics, value_of
from utility.outbox.changes import CommittedCounts

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
        # By the names of ``CommittedCounts``.
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

    def committed(self, counts: CommittedCounts) -> None:
        """Add the counts of a committed transaction."""
        for name, count in vars(counts).items():
            self._committed[name].inc(count)

    def watched(self) -> dict[tuple[str, str], int]:
        """Return the counters whose growth is an alarm, by name and label (``utility.alarms.conditions``)."""
        refused = {sample.labels["reason"] for family in self.refusals.collect() for sample in family.samples}
        counters = {
            ("dropped", ""): self.messages.labels("dropped"),
            ("store_errors", ""): self.store_errors,
            ("went_back", ""): self.went_back,
            ("dead_letters", ""): self._committed["dead_letters"],
            ("conflicts", ""): self._committed["event_conflicts"],
        } | {("refusals", reason): self.refusals.labels(reason) for reason in refused}
        return {name: int(value_of(counter)) for name, counter in counters.items()}


class _Gateways(NamedTuple):
    silent_s: Mapping[str, float]  # by gateway
    over_quota: Collection[str]
    beats: Mapping[str, Heartbeat]
    programs: Mapping[str, Program]


def _beats(read: Callable[[Heartbeat], float]) -> Callable[[_Gateways], Value]:
    return lambda last: {name: read(beat) for name, beat in last.beats.items()}


def _days(read: Callable[[Program], int | None]) -> Callable[[_Gateways], Value]:
    """Return what reads a number of days in seconds, of the gateways that know it."""
    return lambda last: {name: days * 86_400 for name, p in last.programs.items() if (days := read(p)) is not None}


def _backlog(beat: Heartbeat) -> Sequence[tuple[str, int]]:
    return ("parts", beat.backlog_parts), ("events", beat.backlog_events), ("dead_letters", beat.backlog_letters)


def _by_way(read: Callable[[LineMonth], Sequence[int] | None]) -> Callable[[_Gateways], Value]:
    return lambda last: {
        (name, way): sent
        for name, beat in last.beats.items()
        if beat.lte is not None
        for way, sent in zip(("up", "down"), read(beat.lte) or (), strict=False)
    }


_OF_GATEWAYS: tuple[MetricRow[_Gateways], ...] = (
    gauge("gateway_last_seen_seconds",
          "Seconds since the gateway's last message; if there was none, since this service waits for it.",
          lambda last: last.silent_s, "controller"),
    gauge("gateway_over_quota", "1 while no more dead letters of the gateway are kept until tomorrow.",
          lambda last: {name: name in last.over_quota for name in last.silent_s}, "controller"),
    gauge("gateway_backlog", "Data at the gateway that the utility has not acknowledged, by kind.",
        lambda last: {(name, kind): count for name, beat in last.beats.items() for kind, count in _backlog(beat)},
          "controller kind"),
    gauge("gateway_backlog_age_seconds",
          "Seconds since the end of the oldest quarter with unacknowledged data at the gateway; 0 without any.",
          _beats(lambda beat: beat.backlog_age_s), "controller"),
    gauge("gateway_clock_trusted", "1 while the gateway has its time from the network or a reliable clock.",
          _beats(lambda beat: beat.trust >= Trust.HARDWARE), "controller"),
    gauge("gateway_fenced_meters", "Meters that report another manager; the gateway does not command them.",
          _beats(lambda beat: beat.fenced), "controller"),
    gauge("gateway_refilling_parts", "Parts of blocks left to send again to a new database.",
        lambda last: {(name, m): r.left for name, beat in last.beats.items() for m, r in beat.refilling.items()},
          "controller microgrid"),
    gauge("gateway_certificate_left_seconds", "Seconds until the first certificate of the gateway ends, in whole days.",
          _days(lambda program: program.cert_days), "controller"),
    gauge("gateway_disk_left_seconds", "Seconds until the gateway's disk is full at its rate, in whole days.",
          _days(lambda program: program.disk_days), "controller"),
    counter("gateway_starts", "Starts of the gateway's program.",
            lambda last: {name: program.starts for name, program in last.programs.items()}, "controller"),
    gauge("gateway_release", "1 for the release of the gateway's program.",
          lambda last: {(name, program.release): 1 for name, program in last.programs.items()}, "controller release"),
    gauge("lte_month_bytes", "IP bytes of the controller's LTE line since its month began.",
          _by_way(lambda month: month.used), "controller direction"),
    gauge("lte_forecast_bytes", "Forecast of these bytes for the month's end, from the use of the last seven days.",
          _by_way(lambda month: month.expected), "controller direction"),
    gauge("lte_allowance_bytes", "Bytes that the line's plan allows in a month, each way.",
          lambda last: {name: beat.lte.allowance for name, beat in last.beats.items() if beat.lte is not None},
          "controller"),
)  # fmt: skip


def gateways_said(
    silent_since: Mapping[str, float], heartbeats: Mapping[str, Heartbeat], over_quota: Collection[str], now: float
) -> Iterator[Metric]:
    """Yield the silence of every gateway, whether it is over its quota, and the values of its last heartbeat.

    Args:
        silent_since: When each registered gateway last sent, or since when it is awaited, clock seconds.
        over_quota: The gateways of which no more dead letters are kept today.
    """
    silent_s = {controller: max(0.0, now - time) for controller, time in sorted(silent_since.items())}
    beats = dict(sorted(heartbeats.items()))
    programs = {name: beat.program for name, beat in beats.items() if beat.program is not None}
    yield from families(PREFIX, _OF_GATEWAYS, _Gateways(silent_s, over_quota, beats, programs))
