"""Prometheus metrics from tables of names and values; separate, since not every command has Prometheus's library."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Values = Mapping[str, float] | Mapping[tuple[str, str], float]  # a metric's values by its label, or by its two

_F = TypeVar("_F")


class TallyCollector(Collector, Generic[_F]):
    """A part's figures at each scrape, and its counts of events; a subclass makes metrics of both in ``collect``."""

    def __init__(self, figures: Callable[[], _F], tally: Counter[tuple[str, str]]) -> None:
        self.figures = figures  # returns the present figures
        self.tally = tally  # counts of events by kind and result
        self.registry = CollectorRegistry()  # the registry behind /metrics
        self.registry.register(self)


def labelled(
    kind: type[CounterMetricFamily | GaugeMetricFamily], name: str, text: str, labels: str, values: Values
) -> Metric:
    """Return a metric with a sample for each of ``values``; ``labels`` names the label, or two with a space between."""
    family = kind(name, text, labels=labels.split())
    for of, value in list(values.items()):
        family.add_metric([of] if isinstance(of, str) else of, value)
    return family


def gauges(prefix: str, rows: Iterable[tuple[str, str, float]]) -> Iterator[Metric]:
    """Yield a gauge for each (name, help text, value)."""
    for name, text, value in rows:
        yield GaugeMetricFamily(f"{prefix}_{name}", text, value=value)


def counters(prefix: str, rows: Iterable[tuple[str, str, float]]) -> Iterator[Metric]:
    """Yield a counter for each (name, help text, value)."""
    for name, text, value in rows:
        yield CounterMetricFamily(f"{prefix}_{name}", text, value=value)


def tally_counters(
    prefix: str, tally: Counter[tuple[str, str]], rows: Iterable[tuple[str, str, str, str]]
) -> Iterator[Metric]:
    """Yield a counter with one label for each row.

    Args:
        prefix: The beginning of each name.
        tally: Counts by (kind, value of the label).
        rows: (kind, name, help text, name of the label).
    """
    counts = tally.copy()
    for kind, name, text, label in rows:
        found = {value: count for (counted, value), count in sorted(counts.items()) if counted == kind}
        yield labelled(CounterMetricFamily, f"{prefix}_{name}", text, label, found)
