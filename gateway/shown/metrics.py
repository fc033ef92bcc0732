"""The gateway's metrics for Prometheus, read from the core at each scrape; no label names a meter or customer.

A label names the microgrid of what a controller hosts besides its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from commonwatt.model.control import REASONS
from commonwatt.model.records import RecordType, Rejection
from commonwatt.model.time import Trust
from commonwatt.model.units import MicrogridId
from commonwatt.protocol.dead_letters import DeadLetterSource
from commonwatt.protocol.heartbeats import LineMonth
from commonwatt.protocol.meter_messages import Refusal
from commonwatt.runtime.metric_families import MetricRow, counter, families, gauge
from gateway.alarms import KINDS
from gateway.control.plausibility import Doubt
from gateway.controller import Controller
from gateway.core import HostedMicrogrid
from gateway.line.line import LineCounter
from gateway.store.tables import COLUMNS

_PREFIX = "commonwatt_gateway"
_WAYS = ("up", "down")

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
class ShellFigures:
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
    month: LineMonth | None = None  # the LTE line's month; ``None``: nothing was counted yet
    # Time of the next expiry of a certificate, epoch seconds; ``None``: it has none.
    certificate_expires: float | None = None
    renewals: dict[str, int] = field(default_factory=dict)  # renewals of certificates, by result
    alarms: frozenset[str] = frozenset()  # the names of its alarms


class _Microgrid(NamedTuple):
    """What the metrics of a hosted microgrid are read from."""

    core: HostedMicrogrid
    store: StoreFigures


class _Gateway(NamedTuple):
    """What the other metrics are read from."""

    controller: Controller
    figures: ShellFigures


_OF_MICROGRIDS: tuple[MetricRow[_Microgrid], ...] = (
    counter("records", "Records accepted from meters, by type.", lambda m: _RECORDS | m.core.collector.counts.records,
            "type"),
    counter("puts", "Puts received, by result.", lambda m: _PUTS | m.core.collector.counts.puts, "result"),
    counter("rejected_records", "Records rejected, by reason.", lambda m: _REJECTED | m.core.collector.counts.rejected,
            "reason"),
    counter("dropped_rejected_records", "Rejected records that were not kept: their meter had reached its daily limit.",
            lambda m: m.core.collector.counts.rejected_dropped),
    counter("other_account_records", "Records accepted whose account is not the one that the meter is registered with.",
            lambda m: m.core.collector.counts.other_accounts),
    counter("puts_over_allowance", "Puts refused as BUSY because their meter exceeds its allowance of slots a minute.",
            lambda m: m.core.collector.counts.puts_over_allowance),
    counter("unknown_states", "Events, levels and outcomes with state bits unknown to this version.",
            lambda m: m.core.manager.counts.unknown_states),
    counter("commands", "Commands sent to meters, by command.", lambda m: m.core.manager.counts.commands, "command"),
    counter("outcomes", "Outcomes received from meters, by result.", lambda m: m.core.manager.counts.outcomes,
            "result"),
    gauge("fenced_meters", "Meters not commanded because they report another manager's higher epoch.",
          lambda m: len(m.core.manager.epochs.fenced)),
    counter("batches", "Batches to the utility, by result.", lambda m: _BATCHES | m.core.relay.counts.batches,
            "result"),
    counter("relayed_blocks", "Blocks put into batches.", lambda m: m.core.relay.counts.blocks),
    counter("damaged_rows", "Stored rows found damaged and deleted, by table.",
            lambda m: _TABLES | m.core.upkeep.damaged, "table"),
    counter("dropped_backup_parts", "Acknowledged parts deleted to make room.", lambda m: m.core.upkeep.dropped),
    counter("unreadable_messages", "Messages that could not be accepted, by source.",
            lambda m: _SOURCES | m.core.collector.counts.unreadable, "source"),
    counter("dropped_dead_letters",
            "Messages that could not be accepted and were not kept: daily limit of the sender, or full disk.",
            lambda m: m.core.collector.counts.dead_letters_dropped),
    counter("store_failures", "Times the store failed and was opened again.", lambda m: m.store.failures),
    gauge("refusing_records", "1 while the disk is full and records are refused.", lambda m: m.core.upkeep.short),
    gauge("store_used_bytes", "Bytes of the store's file in use.", lambda m: m.store.used_bytes),
    counter("store_quarantined", "Times the store was damaged, quarantined and replaced.",
            lambda m: m.store.quarantined),
    gauge("damaged_stores", "Damaged stores kept beside the one in use, until a person deletes them.",
          lambda m: m.store.kept_quarantined),
    counter("commits", "Transactions committed.", lambda m: m.store.commits),
    gauge("backlog", "What the utility has not acknowledged, by kind.", lambda m: m.store.backlog, "kind"),
    gauge("backlog_age_seconds",
          "Seconds since the end of the oldest quarter with parts that the utility has not acknowledged; else 0.",
          lambda m: m.store.backlog_age_s),
    gauge("gone_ids", "Record ids neither at meters nor in this store.", lambda m: sum(m.core.collector.gone.values())),
    gauge("batteries", "Batteries that share or receive, by role.", lambda m: _roles(m.core), "role"),
    gauge("doubted_batteries", "Batteries that take no part because their stored levels can't be, by the reason.",
          lambda m: _doubts(m.core), "reason"),
    gauge("alone", "1 while the utility does not answer and the microgrid decides alone.",
          lambda m: m.core.manager.alone),
    gauge("boundary_unknown_seconds",
          "Seconds since the start without a report of the boundary; 0 after a report, or without boundary meters.",
          lambda m: m.core.modes.unknown_s(m.core.now)),
    gauge("boundary_disagrees", "1 while the boundary meters report different voltages or positions of the switch.",
          lambda m: m.core.modes.disagree),
)  # fmt: skip

_OF_GATEWAY: tuple[MetricRow[_Gateway], ...] = (
    gauge("disk_free_bytes", "Free bytes on the store's disk.", lambda g: g.figures.disk_free_bytes),
    gauge("disk_size_bytes", "Size of the store's disk, bytes.", lambda g: g.figures.disk_bytes),
    counter("overflowed_messages", "Messages dropped by a full queue.", lambda g: g.figures.overflowed),
    counter("unsent_messages", "Messages not sent because there was no connection.", lambda g: g.figures.dropped),
    counter("oversize_messages", "Messages above 1 MiB, skipped.", lambda g: g.figures.oversize),
    counter("retained_messages", "Retained messages, ignored.", lambda g: g.figures.retained),
    counter("callback_failures", "Exceptions while handling events.",
            lambda g: g.figures.callback_failures + g.figures.failures),
    counter("link_restarts", "Open connections closed to reconnect, by link and reason.",
            lambda g: g.figures.link_restarts, "link reason"),
    gauge("connections", "Connections that are up, of two.", lambda g: g.figures.connected),
    gauge("certificate_expiry_timestamp_seconds",
          "Time of the next expiry of a certificate, authorities' included, UTC epoch seconds.",
          lambda g: None if (expires := g.figures.certificate_expires) is None else {"mqtt": expires}, "use"),
    counter("renewals", "Renewals of the controller's certificates, and attempts, by result.",
            lambda g: _RENEWALS | g.figures.renewals, "result"),
    counter("lte_bytes",
            "IP bytes on the controller's LTE line, by side (meters, utility, or the whole interface) and direction.",
        lambda g: _by_side(g.controller.line),
            "side direction"),
    gauge("lte_month_bytes", "IP bytes on the LTE line this month, also before restarts.",
          lambda g: _by_way(None if (month := g.figures.month) is None else month.used), "direction"),
    gauge("lte_forecast_bytes", "Expected IP bytes at the month's end, at the rate of the last seven days.",
          lambda g: _by_way(None if (month := g.figures.month) is None else month.expected), "direction"),
    gauge("lte_allowance_bytes", "Bytes that the line's plan allows in a month, in each direction.",
          lambda g: g.controller.line.allowance),
    gauge("time_trust", "1 for the present trust of the gateway's time, else 0.",
          lambda g: {each.name.lower(): each is g.controller.own.now.trust for each in Trust}, "trust"),
    gauge("clock_offset_seconds", "Seconds by which the gateway's time is ahead of the clock it started with.",
          lambda g: int(g.controller.time.offset_s)),
    counter("time_steps", "Times the gateway's time was set.", lambda g: g.controller.time.counts.steps),
    counter("time_contradictions",
            "Times the utility or NTP reported a different time that the gateway did not follow.",
            lambda g: g.controller.time.counts.contradictions),
    gauge("saving_measures", "Measures that save bytes, taken by the gateway itself, by reason.",
          lambda g: {reason: len(g.controller.saving.wanted.get(reason, ())) for reason in REASONS}, "reason"),
    gauge("manages", "1 while this controller manages the microgrid.",
          lambda g: {name: core.manager.epochs.commands for name, core in list(g.controller.hosted.items())},
          "microgrid"),
    gauge("alarms", "1 while an alarm holds that only this controller sees, of a microgrid that it hosts or of itself.",
          lambda g: {(n, kind.severity): n in g.figures.alarms for n, kind in KINDS.items() if not kind.is_heard},
          "alarm severity"),
)  # fmt: skip


def _by_side(line: LineCounter) -> dict[tuple[str, str], int]:
    sides = list(line.counted.items())
    return {(side, way): n for side, both in sides for way, n in zip(_WAYS, (both.sent, both.received), strict=True)}


def _by_way(figures: Sequence[int] | None) -> Mapping[str, int] | None:
    return None if figures is None else dict(zip(_WAYS, figures, strict=True))


def _roles(core: HostedMicrogrid) -> dict[str, int]:
    decision = core.manager.decision
    return {"donor": len(decision.donors), "receiver": len(decision.receivers)}


def _doubts(core: HostedMicrogrid) -> dict[str, int]:
    found = [recorded.doubt for recorded in core.manager.recorded.values()]
    return {doubt.name.lower(): found.count(doubt) for doubt in Doubt}


def gateway_metrics(controller: Controller, figures: ShellFigures) -> Iterator[Metric]:
    """Yield the metrics as they are now; those of a microgrid that is not the controller's own name it."""
    own, *others = [
        (name, families(_PREFIX, _OF_MICROGRIDS, _Microgrid(core, figures.stores.get(name, StoreFigures()))))
        for name, core in list(controller.hosted.items())
    ]
    for family in own[1]:
        for name, further in others:
            family.samples += [s._replace(labels={**s.labels, "microgrid": name}) for s in next(further).samples]
        yield family
    yield from families(_PREFIX, _OF_GATEWAY, _Gateway(controller, figures))
