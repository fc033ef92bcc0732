"""The plant's last report as metrics (T5, K4)."""

from collections.abc import Iterator

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from commonwatt.model.control.supply import SupplyState
from commonwatt.model.units import EpochSeconds
from commonwatt.protocol.plant_messages import PlantReport
from utility.database.metrics import PREFIX, Metrics, gauges_by
from utility.supply.deciding import plant_lasts_until, price_at

_JOULES = 3.6  # a milliwatt-hour: the base unit of Prometheus is the joule

_TEXTS = {
    "plant_battery_joules": "Level of the plant's battery.",
    "plant_capacity_joules": "Capacity of the plant's battery.",
    "plant_kept_joules": "Level of the plant's battery that is kept for outages and the public microgrid.",
    "plant_left_seconds": "Seconds until the plant's battery is at its reserve (below: empty) at the last hour's mean.",
    "plant_battery_watts": "Power into the plant's battery; negative: out of it.",
    "plant_bought_watts": "Power from the regional grid; negative: to it.",
    "plant_line_limit_watts": "Limit of the line to the regional grid; 0 without voltage.",
    "regional_price_ratio": "Price of regional energy, as a multiple of the price outside peak hours.",
}


class SupplyMetrics:
    """The metrics of the town's supply."""

    def __init__(self, metrics: Metrics) -> None:
        self.purchases = metrics.counter("purchases", "Purchases planned for the town's plant, by policy.", "policy")
        text = "Microgrids with an import limit, since power is short."
        self.limited = metrics.counted("limited_microgrids", text)


def plant_metrics(seen: tuple[EpochSeconds, PlantReport] | None, now: float) -> Iterator[Metric]:
    """Yield the age and the values of the plant's last report; without a report there are no values.

    Args:
        seen: The time of receipt and the last report; ``None``: there was none.
        now: The time of the service's clock.
    """
    text = "Seconds since the plant's last report."
    yield _gauge("plant_last_seen_seconds", text, None if seen is None else max(0.0, now - seen[0]))
    values = {} if seen is None else _values(seen[1], int(now))
    for name, text in _TEXTS.items():
        yield _gauge(name, text, values.get(name))
    text = "1 for the state of the regional supply, 0 for the others."
    states = {} if seen is None else {state.value: seen[1].supply is state for state in SupplyState}
    yield gauges_by("supply_state", text, states, "state")
    text = "Energy in the plant's last finished quarter-hour, by kind: bought by order or for need, sold, net use."
    last = {} if seen is None or not seen[1].quarters else seen[1].quarters[-1]._asdict()
    kinds = {kind: last[kind] * _JOULES for kind in ("ordered", "needed", "sold", "net") if last}
    yield gauges_by("plant_quarter_joules", text, kinds, "kind")


def _values(report: PlantReport, now: EpochSeconds) -> dict[str, float]:
    until = plant_lasts_until(report)
    figures = (
        report.level_mwh * _JOULES,
        report.capacity_mwh * _JOULES,
        report.keep_mwh * _JOULES,
        float("nan") if until is None else until - report.time,
        report.battery_w,
        report.bought_w,
        report.line_w,
        price_at(report, now) / 1000,
    )
    return dict(zip(_TEXTS, figures, strict=True))


def _gauge(name: str, text: str, value: float | None) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, value=value)
