"""The town's figures as metrics: the states of its microgrids, power, completeness (K4)."""

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import Metric

from commonwatt.runtime.metric_families import MetricRow, families, gauge
from utility.database.checks import is_away
from utility.database.metrics import PREFIX

log = logging.getLogger(__name__)

Figures = Mapping[str, Mapping[str, float]]  # by a metric's name, its values by the label's value

_ROWS: tuple[MetricRow[Figures], ...] = (
    gauge("microgrids", "Microgrids by state, the gravest that applies: alarm, islanded, late or fresh.",
          lambda figures: figures.get("microgrids"), "state"),
    gauge("town_watts",
          "Mean power of the town in its newest quarter-hour, by kind: used, generated, taken from the grid.",
          lambda figures: figures.get("town_watts"), "kind"),
    gauge("expected_slots",
          "Slots that meters should have, without those that were off, of yesterday (UTC) and the month's days.",
          lambda figures: figures.get("expected_slots"), "period"),
    gauge("missing_slots", "Those of the expected slots that are not there.",
          lambda figures: figures.get("missing_slots"), "period"),
)  # fmt: skip


def town_metrics(read: Callable[[], Figures]) -> Iterator[Metric]:
    """Yield the town's figures; without values if they can't be read."""
    figures: Figures = {}
    try:
        figures = read()
    # All other metrics are served also when the database can't be read; one of them says so.
    except Exception as error:
        if not is_away(error):
            log.warning("the town's figures are not known: %s", error)
    yield from families(PREFIX, _ROWS, figures)
