"""An adapter's metrics for Prometheus; no metric has a meter or a topic as its label."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.core import Metric

from commonwatt.runtime.metric_families import TallyCollector, counters, gauges, tally_counters


@dataclass(frozen=True, kw_only=True)
class Figures:
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


_TALLIED = (
    ("value", "values", "Values of foreign meters, by what became of them.", "outcome"),
    ("message", "messages_not_used", "Messages without a value: retained, unreadable, or sent again.", "reason"),
    ("device_command", "device_commands", "Commands published to devices, by state.", "state"),
    ("obedience", "obedience", "States not obeyed after three commands, and states that ended by themselves.", "event"),
    ("put", "puts", "Batches sent, for the first time or again.", "try"),
    ("ack", "acks", "Acknowledgements, by result.", "result"),
    ("command", "commands", "Commands from the gateway, by result.", "result"),
    ("commit", "commits", "Commits tried again because the store could not be written.", "result"),
)


class AdapterMetrics(TallyCollector[Figures]):
    """An adapter's figures and event counts as metrics."""

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        now = self.figures()
        yield from gauges(
            "commonwatt_adapter",
            (
                ("source_connected", "Whether each foreign meters' broker is connected.", now.source_connected),
                ("meters", "Foreign meters.", now.meters),
                ("meters_connected", "Foreign meters with a connection to the microgrid's broker.", now.connected),
                ("devices_disobeying", "Devices that do not obey a command.", now.disobeying),
                ("devices_unsafe", "Devices with a state that nothing ends without the adapter.", now.unsafe),
                ("devices_unconfirmed", "Devices told something that can't show whether they obey.", now.unconfirmed),
                ("readings_held", "Readings recorded and not acknowledged yet.", now.made - now.acknowledged),
            ),
        )
        yield from counters(
            "commonwatt_adapter",
            (
                ("readings_made", "Readings recorded, one for each slot and type.", now.made),
                ("readings_acknowledged", "Readings the gateway acknowledged.", now.acknowledged),
                ("slots_not_recorded", "Slots not recorded because a log was full.", now.gaps),
                ("source_messages_dropped", "Messages of QoS 0 dropped by a full queue.", now.source_dropped),
                ("source_messages_oversize", "Messages above 1 MiB, skipped.", now.source_oversize),
                ("messages_dropped", "Messages to and from the gateway dropped; they are sent again.", now.dropped),
            ),
        )
        yield from tally_counters("commonwatt_adapter", self.tally, _TALLIED)
