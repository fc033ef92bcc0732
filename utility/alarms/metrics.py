"""The utility's own alarms as a metric, from which Prometheus raises its alerts."""

import math
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from utility.alarms.kinds import KINDS
from utility.database.metrics import PREFIX


def own_alarms(waiting: Callable[[], Mapping[str, int] | None]) -> Iterable[Metric]:
    """Yield how many alarms of each kind wait for a person; every kind from the start.

    Args:
        waiting: Returns these alarms by kind; ``None``: they are not known yet. 0 would look like a recovery.
    """
    text = "Alarms that wait for a person, by name: neither acknowledged nor silenced."
    family = GaugeMetricFamily(f"{PREFIX}_alarms", text, labels=["alarm", "severity"])
    counts = waiting()
    for name, kind in KINDS.items():
        family.add_metric([name, kind.severity.value], math.nan if counts is None else counts.get(name, 0))
    yield family
