"""The utility's own alarms as a metric, from which Prometheus raises its alerts."""

import math
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from commonwatt.runtime.metric_families import MetricRow, families, gauge
from utility.alarms.alarm import KINDS
from utility.database.metrics import PREFIX

_ROWS: tuple[MetricRow[Mapping[str, int] | None], ...] = (
    gauge("alarms", "Alarms that wait for a person, by name: neither acknowledged nor silenced.",
        lambda counts: {
              (name, kind.severity.value): math.nan if counts is None else counts.get(name, 0)
              for name, kind in KINDS.items()
          },
          "alarm severity"),
)  # fmt: skip


def own_alarms(counts: Mapping[str, int] | None) -> Iterator[Metric]:
    """Yield how many alarms of each kind wait for a person; every kind from the start.

    Args:
        counts: These alarms by kind; ``None``: they are not known yet. 0 would look like a recovery.
    """
    yield from families(PREFIX, _ROWS, counts)
