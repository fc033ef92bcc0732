"""An adapter's metrics for Prometheus; no metric has a meter or a topic as its label."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.metrics_core import Metric

from commonwatt.runtime.metric_families import MetricRow, Tally, counter, families, gauge, tallied


@dataclass(frozen=True, kw_only=True)
class AdapterFigures:
    """An adapter's figures at one moment."""

    source_connected: bool  # whether every foreign meters' broker is connected
    source_dropped: int  # messages of QoS 0 dropped because the queue was full
    source_oversize: int  # messages that were too long to be read
    meters: int  # foreign meters
    connected: int  # of these, with a connection to the microgrid's broker
    made: int  # readings recorded, one for each slot and type
    acknowledged: int  # of these, readings that the gateway has acknowledged
    gaps: int  # slots not recorded because a log was full
    disobeying: int  # devices that do not obey
    unsafe: int  # devices that can be told something that nothing would end without the adapter
    unconfirmed: int  # devices that were told something, and can't show whether they obey
    dropped: int  # messages to and from the gateway dropped; their senders send them again


ROWS: tuple[MetricRow[AdapterFigures], ...] = (
    gauge("source_connected", "Whether each foreign meters' broker is connected.", lambda f: f.source_connected),
    gauge("meters", "Foreign meters.", lambda f: f.meters),
    gauge("meters_connected", "Foreign meters with a connection to the microgrid's broker.", lambda f: f.connected),
    gauge("devices_disobeying", "Devices that do not obey a command.", lambda f: f.disobeying),
    gauge("devices_unsafe", "Devices with a state that nothing ends without the adapter.", lambda f: f.unsafe),
    gauge("devices_unconfirmed", "Devices told something that can't show whether they obey.", lambda f: f.unconfirmed),
    gauge("readings_held", "Readings recorded and not acknowledged yet.", lambda f: f.made - f.acknowledged),
    counter("readings_made", "Readings recorded, one for each slot and type.", lambda f: f.made),
    counter("readings_acknowledged", "Readings the gateway acknowledged.", lambda f: f.acknowledged),
    counter("slots_not_recorded", "Slots not recorded because a log was full.", lambda f: f.gaps),
    counter("source_messages_dropped", "Messages of QoS 0 dropped by a full queue.", lambda f: f.source_dropped),
    counter("source_messages_oversize", "Messages above 1 MiB, skipped.", lambda f: f.source_oversize),
    counter("messages_dropped", "Messages to and from the gateway dropped; they are sent again.", lambda f: f.dropped),
)  # fmt: skip

TALLIED = (
    tallied("value", "values", "Values of foreign meters, by what became of them.", "outcome"),
    tallied("message", "messages_not_used", "Messages without a value: retained, unreadable, or sent again.", "reason"),
    tallied("device_command", "device_commands", "Commands published to devices, by state.", "state"),
    tallied("obedience", "obedience", "States not obeyed after three commands, and states that ended by themselves.",
            "event"),
    tallied("put", "puts", "Batches sent, for the first time or again.", "try"),
    tallied("ack", "acks", "Acknowledgements, by result.", "result"),
    tallied("command", "commands", "Commands from the gateway, by result.", "result"),
    tallied("commit", "commits", "Commits tried again because the store could not be written.", "result"),
)  # fmt: skip


def adapter_metrics(figures: AdapterFigures, tally: Tally) -> Iterator[Metric]:
    """Yield the metrics of an adapter."""
    yield from families("commonwatt_adapter", ROWS, figures)
    yield from families("commonwatt_adapter", TALLIED, tally)
