"""Prometheus metrics of a watchdog; a separate module, since not every command has Prometheus's library."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.runtime.watchdog import Watchdog


class WatchdogMetrics(Collector):
    """A collector of a part's watchdog metrics."""

    def __init__(self, part: str, watchdog: Watchdog) -> None:
        self._prefix = f"commonwatt_{part}"
        self._watchdog = watchdog

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics as they are now."""
        stuck = CounterMetricFamily(
            f"{self._prefix}_stuck", "Times something made no progress for 30 s, by what it is.", labels=["what"]
        )
        for name, times in self._watchdog.stuck.copy().items():
            stuck.add_metric([name], times)
        yield stuck
        yield CounterMetricFamily(
            f"{self._prefix}_clock_jumps", "Times the machine's clock jumped.", value=self._watchdog.jumps
        )
        yield CounterMetricFamily(
            f"{self._prefix}_unhandled_exceptions",
            "Exceptions in the loop's callbacks that only the loop has caught.",
            value=self._watchdog.failures,
        )


def register_process(registry: CollectorRegistry, part: str, watchdog: Watchdog) -> None:
    """Register the metrics of every process: watchdog, memory, processor time and start time."""
    registry.register(WatchdogMetrics(part, watchdog))
    ProcessCollector(registry=registry)
