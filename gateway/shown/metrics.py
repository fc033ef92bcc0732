"""The gateway's metrics for Prometheus, read from the core at each scrape; no label names a meter or customer.

A label names the microgrid of what a controller hosts besides its own.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.model.control.saving import REASONS
from commonwatt.model.records import RecordType, Rejection
from commonwatt.model.time.now import Trust
from commonwatt.model.units import MicrogridId
from commonwatt.protocol.dead_letters import DeadLetterSource
from commonwatt.protocol.heartbeats import Month
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.runtime.metric_families import Values, labelled
from gateway.alarms import KINDS
from gateway.control.plausibility import Doubt
from gateway.controller import Controller
from gateway.core import HostedMicrogrid
from gateway.line.line import Line
from gateway.store.tables import COLUMNS

_PREFIX = "commonwatt_gateway"

# Label values that exist at 0 from the start, so that an alert sees the first count, and a panel shows 0.
_RECORDS = dict.fromkeys([*(kind.name.lower() for kind in RecordType), "event"], 0)
_PUTS = dict.fromkeys(["accepted", *(why.name.lower() for why in Refusal if why is not Refusal.NONE)], 0)
_REJECTED = dict.fromkeys((why.name.lower() for why in Rejection), 0)
_BATCHES = dict.fromkeys(("sent", "acknowledged", "expired"), 0)
_RENEWALS = dict.fromkeys(("renewed", "refused", "unreachable", "failed", "went_back"), 0)
_TABLES = dict.fromkeys(("part", *COLUMNS), 0)
_MESSAGES = (
    DeadLetterSource.UNKNOWN,
    DeadLetterSource.PUT_HISTORY,
    DeadLetterSource.PUT_EVENT,
    DeadLetterSource.LEVEL,
    DeadLetterSource.OUTCOME,
    DeadLetterSource.BATCH_ACK,
    DeadLetterSource.COMMAND,
)
_SOURCES = dict.fromkeys((source.name.lower() for source in _MESSAGES), 0)


@dataclass
class StoreFigures:
    """The shell's counts of one microgrid's store."""

    commits: int = 0  # transactions committed
    committed: float | None = None  # when the last one was, ``time.monotonic``; ``None``: none was
    failures: int = 0  # times the store failed and was opened again
    quarantined: int = 0  # times the store was found damaged, quarantined and replaced
    kept_quarantined: int = 0  # damaged stores kept beside the one in use
    used_bytes: int = 0  # bytes of the store's file in use
    backlog: dict[str, int] = field(default_factory=dict)  # what the utility has not acknowledged, by kind
    backlog_age_s: int = 0  # seconds since the end of the oldest quarter with unacknowledged parts; 0: there is none


@dataclass
class Figures:
    """The shell's own counts."""

    stores: Mapping[MicrogridId, StoreFigures] = field(default_factory=dict)  # of each hosted microgrid
    disk_free_bytes: int = 0  # free bytes on the store's disk
    disk_bytes: int = 0  # size of that disk, bytes
    overflowed: int = 0  # messages dropped because the queue was full; their senders send them again
    connected: int = 0  # connections that are up, of two
    dropped: int = 0  # messages not sent because there was no connection
    oversize: int = 0  # messages that were too long to be read
    retained: int = 0  # retained messages ignored
    callback_failures: int = 0  # exceptions in listeners
    failures: int = 0  # events on which the core failed
    # Number of open connections closed to reconnect, by link and reason.
    link_restarts: dict[tuple[str, str], int] = field(default_factory=dict)
    month: Month | None = None  # the LTE line's month; ``None``: nothing was counted yet
    # Time of the next expiry of a certificate, epoch seconds; ``None``: it has none.
    certificate_expires: float | None = None
    renewals: dict[str, int] = field(default_factory=dict)  # renewals of certificates, by result
    alarms: frozenset[str] = frozenset()  # the names of its alarms


class _GatewayMetrics(Collector):
    def __init__(self, controller: Controller, figures: Callable[[], Figures]) -> None:
        self._controller = controller
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now; those of a microgrid that is not the controller's own name it."""
        controller, figures = self._controller, self._figures()
        own, *others = [
            (name, list(_microgrid(each, figures.stores.get(name, StoreFigures()))))
            for name, each in list(controller.hosted.items())
        ]
        for number, family in enumerate(own[1]):
            for name, families in others:
                labelled = [s._replace(labels={**s.labels, "microgrid": name}) for s in families[number].samples]
                family.samples += labelled
            yield family
        yield from _disk(figures)
        yield from _messages(figures)
        yield from _connections(figures)
        yield from _line(controller.line, figures.month)
        yield from _time(controller)
        yield _saves(controller)
        manages = {name: core.manager.epochs.commands for name, core in list(controller.hosted.items())}
        yield _gauges("manages", "1 while this controller manages the microgrid.", "microgrid", manages)
        yield _alarms(figures)


def _alarms(figures: Figures) -> Metric:
    """Return the alarms that only this controller sees, and whether each holds."""
    text = "1 while an alarm holds that only this controller sees, of a microgrid that it hosts or of itself."
    seen: dict[tuple[str, str], bool] = {
        (name, kind.severity): name in figures.alarms for name, kind in KINDS.items() if not kind.is_heard
    }
    return _gauges("alarms", text, "alarm severity", seen)


def _saves(controller: Controller) -> Metric:
    """Return how many measures are in force by reason, in the order of the reasons."""
    counts = {reason: len(controller.saving.wanted.get(reason, ())) for reason in REASONS}
    text = "Measures that save bytes, taken by the gateway itself, by reason."
    return _gauges("saving_measures", text, "reason", counts)


def _microgrid(gateway: HostedMicrogrid, figures: StoreFigures) -> Iterator[Metric]:
    """Yield the metrics of one microgrid."""
    yield from _delivery(gateway)
    yield from _set_apart(gateway)
    yield from _store(gateway, figures)
    yield _counter("commits", "Transactions committed.", figures.commits)
    yield from _backlog(figures.backlog, figures.backlog_age_s)
    yield _gauge("gone_ids", "Record ids neither at meters nor in this store.", sum(gateway.collector.gone.values()))
    yield from _control(gateway)


def _delivery(gateway: HostedMicrogrid) -> Iterator[Metric]:
    """Yield the counts of records, puts, commands and batches."""
    taken, told, relayed = gateway.collector.counts, gateway.manager.counts, gateway.relay.counts
    yield _counters("records", "Records accepted from meters, by type.", "type", _RECORDS | taken.records)
    yield _counters("puts", "Puts received, by result.", "result", _PUTS | taken.puts)
    rejected = _REJECTED | taken.rejected
    yield _counters("rejected_records", "Records rejected, by reason.", "reason", rejected)
    yield _counter(
        "dropped_rejected_records",
        "Rejected records that were not kept: their meter had reached its daily limit.",
        taken.rejected_dropped,
    )
    yield _counter(
        "other_account_records",
        "Records accepted whose account is not the one that the meter is registered with.",
        taken.other_accounts,
    )
    yield _counter(
        "puts_over_allowance",
        "Puts refused as BUSY because their meter exceeds its allowance of slots a minute.",
        taken.puts_over_allowance,
    )
    yield _counter(
        "unknown_states",
        "Events, levels and outcomes with state bits unknown to this version.",
        told.unknown_states,
    )
    yield _counters("commands", "Commands sent to meters, by command.", "command", told.commands)
    yield _counters("outcomes", "Outcomes received from meters, by result.", "result", told.outcomes)
    fenced = len(gateway.manager.epochs.fenced)
    yield _gauge("fenced_meters", "Meters not commanded because they report another manager's higher epoch.", fenced)
    batches = _BATCHES | relayed.batches
    yield _counters("batches", "Batches to the utility, by result.", "result", batches)
    yield _counter("relayed_blocks", "Blocks put into batches.", relayed.blocks)


def _set_apart(gateway: HostedMicrogrid) -> Iterator[Metric]:
    """Yield the counts of damaged rows, of deleted backup, and of messages that could not be accepted."""
    counts = gateway.collector.counts
    damaged = _TABLES | gateway.upkeep.damaged
    yield _counters("damaged_rows", "Stored rows found damaged and deleted, by table.", "table", damaged)
    yield _counter("dropped_backup_parts", "Acknowledged parts deleted to make room.", gateway.upkeep.dropped)
    unreadable = _SOURCES | counts.unreadable
    text = "Messages that could not be accepted, by source."
    yield _counters("unreadable_messages", text, "source", unreadable)
    yield _counter(
        "dropped_dead_letters",
        "Messages that could not be accepted and were not kept: daily limit of the sender, or full disk.",
        counts.dead_letters_dropped,
    )


def _store(gateway: HostedMicrogrid, figures: StoreFigures) -> Iterator[Metric]:
    """Yield the metrics of the store."""
    yield _counter("store_failures", "Times the store failed and was opened again.", figures.failures)
    yield _gauge("refusing_records", "1 while the disk is full and records are refused.", gateway.upkeep.short)
    yield _gauge("store_used_bytes", "Bytes of the store's file in use.", figures.used_bytes)
    yield _counter("store_quarantined", "Times the store was damaged, quarantined and replaced.", figures.quarantined)
    yield _gauge(
        "damaged_stores",
        "Damaged stores kept beside the one in use, until a person deletes them.",
        figures.kept_quarantined,
    )


def _disk(figures: Figures) -> Iterator[Metric]:
    """Yield the metrics of the disk."""
    yield _gauge("disk_free_bytes", "Free bytes on the store's disk.", figures.disk_free_bytes)
    yield _gauge("disk_size_bytes", "Size of the store's disk, bytes.", figures.disk_bytes)


def _messages(figures: Figures) -> Iterator[Metric]:
    """Yield the counts of dropped messages, failures and reconnections."""
    yield _counter("overflowed_messages", "Messages dropped by a full queue.", figures.overflowed)
    yield _counter("unsent_messages", "Messages not sent because there was no connection.", figures.dropped)
    yield _counter("oversize_messages", "Messages above 1 MiB, skipped.", figures.oversize)
    yield _counter("retained_messages", "Retained messages, ignored.", figures.retained)
    failures = figures.callback_failures + figures.failures
    yield _counter("callback_failures", "Exceptions while handling events.", failures)
    text = "Open connections closed to reconnect, by link and reason."
    yield _counters("link_restarts", text, "link reason", figures.link_restarts)


def _backlog(backlog: dict[str, int], age_s: int) -> Iterator[Metric]:
    yield _gauges("backlog", "What the utility has not acknowledged, by kind.", "kind", backlog)
    yield _gauge(
        "backlog_age_seconds",
        "Seconds since the end of the oldest quarter with parts that the utility has not acknowledged; else 0.",
        age_s,
    )


def _connections(figures: Figures) -> Iterator[Metric]:
    yield _gauge("connections", "Connections that are up, of two.", figures.connected)
    expires = figures.certificate_expires
    yield _gauges(
        "certificate_expiry_timestamp_seconds",
        "Time of the next expiry of a certificate, authorities' included, UTC epoch seconds.",
        "use",
        {} if expires is None else {"mqtt": expires},
    )
    text = "Renewals of the controller's certificates, and attempts, by result."
    yield _counters("renewals", text, "result", _RENEWALS | figures.renewals)


def _line(line: Line, month: Month | None) -> Iterator[Metric]:
    ways = ("up", "down")
    text = "IP bytes on the controller's LTE line, by side (meters, utility, or the whole interface) and direction."
    sides = list(line.counted.items())
    sums = {(side, way): n for side, both in sides for way, n in zip(ways, (both.sent, both.received), strict=True)}
    yield _counters("lte_bytes", text, "side direction", sums)
    used = {} if month is None else dict(zip(ways, month.used, strict=True))
    yield _gauges("lte_month_bytes", "IP bytes on the LTE line this month, also before restarts.", "direction", used)
    expected = {} if month is None or month.expected is None else dict(zip(ways, month.expected, strict=True))
    text = "Expected IP bytes at the month's end, at the rate of the last seven days."
    yield _gauges("lte_forecast_bytes", text, "direction", expected)
    allowance = line.allowance
    yield _gauge("lte_allowance_bytes", "Bytes that the line's plan allows in a month, in each direction.", allowance)


def _time(controller: Controller) -> Iterator[Metric]:
    """Yield the trust of the gateway's time, its offset, and how often it was set."""
    trusts = {each.name.lower(): int(each is controller.own.now.trust) for each in Trust}
    yield _gauges("time_trust", "1 for the present trust of the gateway's time, else 0.", "trust", trusts)
    text = "Seconds by which the gateway's time is ahead of the clock it started with."
    yield _gauge("clock_offset_seconds", text, int(controller.time.offset_s))
    yield _counter("time_steps", "Times the gateway's time was set.", controller.time.counts.steps)
    yield _counter(
        "time_contradictions",
        "Times the utility or NTP reported a different time that the gateway did not follow.",
        controller.time.counts.contradictions,
    )


def _control(gateway: HostedMicrogrid) -> Iterator[Metric]:
    """Yield which batteries share, which can't, whether the microgrid decides alone, and what its boundary lacks."""
    manager = gateway.manager
    roles = {"donor": len(manager.decision.donors), "receiver": len(manager.decision.receivers)}
    yield _gauges("batteries", "Batteries that share or receive, by role.", "role", roles)
    found = [recorded.doubt for recorded in manager.recorded.values()]
    doubts = {doubt.name.lower(): found.count(doubt) for doubt in Doubt}
    text = "Batteries that take no part because their stored levels can't be, by the reason."
    yield _gauges("doubted_batteries", text, "reason", doubts)
    yield _gauge("alone", "1 while the utility does not answer and the microgrid decides alone.", manager.alone)
    text = "Seconds since the start without a report of the boundary; 0 after a report, or without boundary meters."
    yield _gauge("boundary_unknown_seconds", text, gateway.modes.unknown_s(gateway.now))
    text = "1 while the boundary meters report different voltages or positions of the switch."
    yield _gauge("boundary_disagrees", text, gateway.modes.disagree)


def make_registry(controller: Controller, figures: Callable[[], Figures]) -> CollectorRegistry:
    """Make the registry of one gateway's metrics."""
    registry = CollectorRegistry()
    registry.register(_GatewayMetrics(controller, figures))
    return registry


def _counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _counters(name: str, text: str, labels: str, values: Values) -> Metric:
    return labelled(CounterMetricFamily, f"{_PREFIX}_{name}", text, labels, values)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, value=value)


def _gauges(name: str, text: str, labels: str, values: Values) -> Metric:
    return labelled(GaugeMetricFamily, f"{_PREFIX}_{name}", text, labels, values)
