"""Prometheus metrics as rows of a table; separate, since not every command has Prometheus's library."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.runtime.watchdog import Watchdog

Value: TypeAlias = float | Mapping[Any, float] | None
"""A metric's value; by its label, or by a tuple of its labels, if it has some; ``None``: it has none now."""

Tally: TypeAlias = Counter[tuple[str, str]]  # counts of events by kind and result

_S = TypeVar("_S")


class MetricRow(NamedTuple, Generic[_S]):
    """A metric that is read at each scrape."""

    kind: type[GaugeMetricFamily | CounterMetricFamily]
    name: str  # its name, without the prefix
    text: str  # what it says
    read: Callable[[_S], Value]  # reads it
    labels: str = ""  # the names of its labels, with a space between


def families(prefix: str, rows: Iterable[MetricRow[_S]], state: _S) -> Iterator[Metric]:
    """Yield the metrics of a table as they are now."""
    for kind, name, text, read, labels in rows:
        value = read(state)
        if labels:
            family = kind(f"{prefix}_{name}", text, labels=labels.split())
            for of, one in list(value.items()) if isinstance(value, Mapping) else ():
                family.add_metric([of] if isinstance(of, str) else of, one)
            yield family
        else:
            assert not isinstance(value, Mapping)
            yield kind(f"{prefix}_{name}", text, value=value)


def gauge(name: str, text: str, read: Callable[[_S], Value], labels: str = "") -> MetricRow[_S]:
    """Return a row of a gauge."""
    return MetricRow(GaugeMetricFamily, name, text, read, labels)


def counter(name: str, text: str, read: Callable[[_S], Value], labels: str = "") -> MetricRow[_S]:
    """Return a row of a counter, whose name gets ``_total``."""
    return MetricRow(CounterMetricFamily, name, text, read, labels)


def tallied(kind: str, name: str, text: str, label: str) -> MetricRow[Tally]:
    """Return a row of the counts of a kind of event."""
    return counter(
        name, text, lambda tally: {of: n for (one, of), n in sorted(tally.copy().items()) if one == kind}, label
    )


class AtEachScrape(Collector):
    """Collector of metrics that a function makes at each scrape."""

    def __init__(self, read: Callable[[], Iterable[Metric]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics."""
        return self._read()


def registry_of(*reads: Callable[[], Iterable[Metric]]) -> CollectorRegistry:
    """Return a registry of metrics that functions make at each scrape."""
    registry = CollectorRegistry()
    for read in reads:
        registry.register(AtEachScrape(read))
    return registry


WATCHDOG_ROWS: tuple[MetricRow[Watchdog], ...] = (
    counter("stuck", "Times something made no progress for 30 s, by what it is.", lambda dog: dog.stuck, "what"),
    counter("clock_jumps", "Times the machine's clock jumped.", lambda dog: dog.jumps),
    counter("unhandled_exceptions", "Exceptions in the loop's callbacks that only the loop has caught.",
            lambda dog: dog.failures),
)  # fmt: skip


def register_process(registry: CollectorRegistry, part: str, watchdog: Watchdog) -> None:
    """Register the metrics of every process: watchdog, memory, processor time and start time."""
    registry.register(AtEachScrape(lambda: families(f"commonwatt_{part}", WATCHDOG_ROWS, watchdog)))
    ProcessCollector(registry=registry)
