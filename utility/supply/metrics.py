"""The plant's last report as metrics (T5, K4)."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from commonwatt.model.control import SupplyState
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.plant_messages import PlantReport
from commonwatt.runtime.metric_families import MetricRow, Value, families, gauge
from utility.database.metrics import PREFIX, Metrics
from utility.supply.deciding import plant_lasts_until, price_at

_JOULES = 3.6  # a milliwatt-hour: the base unit of Prometheus is the joule


class SupplyMetrics:
    """The metrics of the town's supply."""

    def __init__(self, metrics: Metrics) -> None:
        self.purchases = metrics.counter("purchases", "Purchases planned for the town's plant, by policy.", "policy")
        text = "Microgrids with an import limit, since power is short."
        self.limited = metrics.counted("limited_microgrids", text)


class _Seen(NamedTuple):
    report: PlantReport
    at: EpochSeconds  # when it came
    now: float


def _from(read: Callable[[_Seen], Value]) -> Callable[[_Seen | None], Value]:
    """Return what reads a report; without one there is no value."""
    return lambda seen: None if seen is None else read(seen)


_ROWS: tuple[MetricRow[_Seen | None], ...] = (
    gauge("plant_last_seen_seconds", "Seconds since the plant's last report.", _from(lambda p: max(0.0, p.now - p.at))),
    gauge("plant_battery_joules", "Level of the plant's battery.", _from(lambda p: p.report.level_mwh * _JOULES)),
    gauge("plant_capacity_joules", "Capacity of the plant's battery.",
          _from(lambda p: p.report.capacity_mwh * _JOULES)),
    gauge("plant_kept_joules", "Level of the plant's battery that is kept for outages and the public microgrid.",
          _from(lambda p: p.report.keep_mwh * _JOULES)),
    gauge("plant_left_seconds",
          "Seconds until the plant's battery is at its reserve (below: empty) at the last hour's mean.",
          _from(lambda p: math.nan if (until := plant_lasts_until(p.report)) is None else until - p.report.time)),
    gauge("plant_battery_watts", "Power into the plant's battery; negative: out of it.",
          _from(lambda p: p.report.battery_w)),
    gauge("plant_bought_watts", "Power from the regional grid; negative: to it.", _from(lambda p: p.report.bought_w)),
    gauge("plant_line_limit_watts", "Limit of the line to the regional grid; 0 without voltage.",
          _from(lambda p: p.report.line_w)),
    gauge("regional_price_ratio", "Price of regional energy, as a multiple of the price outside peak hours.",
          _from(lambda p: price_at(p.report, int(p.now)) / 1000)),
    gauge("supply_state", "1 for the state of the regional supply, 0 for the others.",
          _from(lambda p: {state.value: p.report.supply is state for state in SupplyState}), "state"),
    gauge("plant_quarter_joules",
          "Energy in the plant's last finished quarter-hour, by kind: bought by order or for need, sold, net use.",
          _from(lambda p: _quarter(p.report)), "kind"),
)  # fmt: skip


def _quarter(report: PlantReport) -> dict[str, float]:
    last = report.quarters[-1]._asdict() if report.quarters else {}
    return {kind: last[kind] * _JOULES for kind in ("ordered", "needed", "sold", "net") if last}


def plant_metrics(seen: tuple[EpochSeconds, PlantReport] | None, now: float) -> Iterator[Metric]:
    """Yield the age and the values of the plant's last report; without a report there are no values.

    Args:
        seen: The time of receipt and the last report; ``None``: there was none.
        now: The time of the service's clock.
    """
    yield from families(PREFIX, _ROWS, None if seen is None else _Seen(seen[1], seen[0], now))
