"""What the metrics of all rooms share: one registry, one prefix, and gauges of what is counted in the database."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.metrics_core import Metric
from sqlalchemy import Connection

from commonwatt.runtime.metric_families import AtEachScrape, MetricRow, families

PREFIX = "commonwatt_utility"

# A `_created` series for every counter would double the page without any use.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The registry of one service, and the metric of its database; rooms add theirs."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.store_errors = self.counter("store_errors", "Failed transactions; nothing in them was acknowledged.")

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """Make a counter."""
        return Counter(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """Make a gauge."""
        return Gauge(f"{PREFIX}_{name}", text, labels, registry=self.registry)

    def watch(self, read: Callable[[], Iterable[Metric]]) -> None:
        """Show the metrics that a function makes at each scrape."""
        self.registry.register(AtEachScrape(read))

    def show(self, *rows: MetricRow[None]) -> None:
        """Show the rows of a table that need no state."""
        self.watch(lambda: families(PREFIX, rows, None))

    def counted(self, name: str, text: str) -> Gauge:
        """Make a gauge for a count in the database: NaN until its first count, since 0 would be wrong."""
        gauge = self.gauge(name, text)
        gauge.set(math.nan)
        return gauge


def value_of(metric: Counter | Gauge) -> float:
    """Return the present value of a metric without labels, or with its labels' values."""
    return float(next(iter(metric.collect())).samples[0].value)


class Count(NamedTuple):
    """A gauge of what is counted in the database every few minutes."""

    name: str  # its name, without the prefix
    text: str  # what it counts
    of: Callable[[Connection], float | Mapping[str, float]]  # counts; by the label's value, if there is a label
    label: str = ""  # the label; empty: it has none
    values: tuple[str, ...] = ()  # the label's values


class CountGauges:
    """The gauges of some counts: NaN until their first count."""

    def __init__(self, metrics: Metrics, counts: Iterable[Count]) -> None:
        self._gauges = [(each, self._made(metrics, each)) for each in counts]

    def count(self, connection: Connection) -> None:
        """Count them."""
        for each, gauge in self._gauges:
            found = each.of(connection)
            if isinstance(found, Mapping):
                for value in each.values:
                    gauge.labels(value).set(found.get(value, 0))
            else:
                gauge.set(found)

    def value(self, name: str) -> float:
        """Return the last count of one without a label; NaN: it was not counted yet."""
        return next(value_of(gauge) for each, gauge in self._gauges if each.name == name)

    @staticmethod
    def _made(metrics: Metrics, each: Count) -> Gauge:
        if not each.label:
            return metrics.counted(each.name, each.text)
        gauge = metrics.gauge(each.name, each.text, each.label)
        for value in each.values:
            gauge.labels(value).set(math.nan)
        return gauge
