"""Prometheus metrics of a watchdog; a separate module, since not every command has Prometheus's library."""

from prometheus_client import CollectorRegistry, ProcessCollector

from commonwatt.runtime.metric_families import AtEachScrape, Row, counter, families
from commonwatt.runtime.watchdog import Watchdog

ROWS: tuple[Row[Watchdog], ...] = (
    counter("stuck", "Times something made no progress for 30 s, by what it is.", lambda dog: dog.stuck, "what"),
    counter("clock_jumps", "Times the machine's clock jumped.", lambda dog: dog.jumps),
    counter("unhandled_exceptions", "Exceptions in the loop's callbacks that only the loop has caught.",
            lambda dog: dog.failures),
)  # fmt: skip


def register_process(registry: CollectorRegistry, part: str, watchdog: Watchdog) -> None:
    """Register the metrics of every process: watchdog, memory, processor time and start time."""
    registry.register(AtEachScrape(lambda: families(f"commonwatt_{part}", ROWS, watchdog)))
    ProcessCollector(registry=registry)
