"""The town's figures as metrics: the states of its microgrids, power, completeness (K4)."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from utility.database.checks import is_away
from utility.database.metrics import PREFIX

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TownFigures:
    """The town at one time."""

    states: Mapping[str, int]  # how many microgrids are in each state
    # Mean power of the newest quarter-hour by kind: used, generated, taken; ``None``: no reading of the day.
    watts: Mapping[str, float] | None
    expected: Mapping[str, int]  # slots by period that meters that were on should have; of periods whose days are over
    missing: Mapping[str, int]  # those of them that are not there


class TownMetrics(Collector):
    """Collector of the town's figures; read at each scrape. Without figures there are no values.

    Args:
        figures: Returns the figures; ``None``: they are not known.
    """

    def __init__(self, figures: Callable[[], TownFigures | None]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[Metric]:
        """Yield the figures."""
        figures = self._read() or TownFigures(states={}, watts=None, expected={}, missing={})
        text = "Microgrids by state, the gravest that applies: alarm, islanded, late or fresh."
        yield _family("microgrids", text, "state", figures.states)
        text = "Mean power of the town in its newest quarter-hour, by kind: used, generated, taken from the grid."
        yield _family("town_watts", text, "kind", figures.watts or {})
        text = "Slots that meters should have, without those that were off, of yesterday (UTC) and the month's days."
        yield _family("expected_slots", text, "period", figures.expected)
        text = "Those of the expected slots that are not there."
        yield _family("missing_slots", text, "period", figures.missing)

    def _read(self) -> TownFigures | None:
        try:
            return self._figures()
        # All other metrics are served also when the database can't be read; one of them says so.
        except Exception as error:
            if not is_away(error):
                log.warning("the town's figures are not known: %s", error)
            return None


def _family(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
