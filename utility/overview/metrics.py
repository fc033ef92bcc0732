"""The town's figures as metrics: the states of its microgrids, power, completeness (K4)."""

import logging
from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import Metric

from utility.database.checks import is_away
from utility.database.metrics import gauges_by

log = logging.getLogger(__name__)

Figures = Mapping[str, Mapping[str, float]]  # by a metric's name, its values by the label's value

_TEXTS = {
    "microgrids": ("state", "Microgrids by state, the gravest that applies: alarm, islanded, late or fresh."),
    "town_watts": (
        "kind",
        "Mean power of the town in its newest quarter-hour, by kind: used, generated, taken from the grid.",
    ),
    "expected_slots": (
        "period",
        "Slots that meters should have, without those that were off, of yesterday (UTC) and the month's days.",
    ),
    "missing_slots": ("period", "Those of the expected slots that are not there."),
}


def town_metrics(read: Callable[[], Figures]) -> Iterator[Metric]:
    """Yield the town's figures; without values if they can't be read."""
    figures: Figures = {}
    try:
        figures = read()
    # All other metrics are served also when the database can't be read; one of them says so.
    except Exception as error:
        if not is_away(error):
            log.warning("the town's figures are not known: %s", error)
    for name, (label, text) in _TEXTS.items():
        yield gauges_by(name, text, figures.get(name, {}), label)
