"""Prometheus metrics of a watchdog; a separate module, since not every command has Prometheus's library."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.runtime.metric_families import counters, labelled
from commonwatt.runtime.watchdog import Watchdog


class WatchdogMetrics(Collector):
    """A collector of a part's watchdog metrics."""

    def __init__(self, part: str, watchdog: Watchdog) -> None:
        self._prefix = f"commonwatt_{part}"
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        text = "Times something made no progress for 30 s, by what it is."
        yield labelled(CounterMetricFamily, f"{self._prefix}_stuck", text, "what", self._watchdog.stuck)
        text = "Exceptions in the loop's callbacks that only the loop has caught."
        yield from counters(
            self._prefix,
            (
                ("clock_jumps", "Times the machine's clock jumped.", self._watchdog.jumps),
                ("unhandled_exceptions", text, self._watchdog.failures),
            ),
        )


def register_process(registry: CollectorRegistry, part: str, watchdog: Watchdog) -> None:
    """Register the metrics of every process: watchdog, memory, processor time and start time."""
    registry.register(WatchdogMetrics(part, watchdog))
    ProcessCollector(registry=registry)
