"""The contents of gateways' heartbeats as metrics, so that gateways need not be scraped over LTE."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.model.trust import Trust
from commonwatt.protocol.heartbeats import Heartbeat

_PREFIX = "commonwatt_utility"


class GatewayMetrics(Collector):
    """Reads what was heard when it is asked for.

    Args:
        silent_since: When each registered gateway was last heard, or since when it is awaited, clock seconds.
        said: The last heartbeat of each.
        now: The service's clock.
    """

    def __init__(
        self, silent_since: Mapping[str, float], said: Mapping[str, Heartbeat], now: Callable[[], float]
    ) -> None:
        self._silent_since = silent_since
        self._said = said
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """Yield a row for each gateway: how long it is silent of all, what it said of those that were ever heard."""
        text = "Seconds since the gateway was last heard; of one never heard, since this service waits for it."
        family = _family("gateway_last_seen_seconds", text)
        now = self._now()
        for controller, time in sorted(self._silent_since.items()):
            family.add_metric([controller], max(0.0, now - time))
        yield family
        said = sorted(self._said.items())
        yield from _state(said)
        yield from _lines(said)


def _state(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    backlog = _family("gateway_backlog", "What the gateway has that the utility has not acknowledged, by kind.", "kind")
    age = _family(
        "gateway_backlog_age_seconds",
        "Seconds since the oldest quarter ended of which the gateway has something not acknowledged; else 0.",
    )
    trusted = _family("gateway_clock_trusted", "1 while the gateway has its time from a network, or a good clock.")
    fenced = _family("gateway_fenced_meters", "Meters that report another manager, and that the gateway leaves alone.")
    for controller, heartbeat in said:
        kinds = {
            "parts": heartbeat.backlog_parts,
            "events": heartbeat.backlog_events,
            "dead_letters": heartbeat.backlog_letters,
        }
        for kind, count in kinds.items():
            backlog.add_metric([controller, kind], count)
        age.add_metric([controller], heartbeat.backlog_age_s)
        trusted.add_metric([controller], int(heartbeat.trust >= Trust.HARDWARE))
        fenced.add_metric([controller], heartbeat.fenced)
    yield from (backlog, age, trusted, fenced)


def _lines(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    """Yield use, forecast and allowance of each line that is known."""
    used = _family("lte_month_bytes", "IP bytes of the controller's LTE line since its month began.", "direction")
    text = "What they will be at the month's end if it goes on as in the last seven days."
    expected = _family("lte_forecast_bytes", text, "direction")
    allowance = _family("lte_allowance_bytes", "What the line's plan allows in a month, each way.")
    for controller, heartbeat in said:
        if (month := heartbeat.lte) is None:
            continue
        for family, figures in ((used, month.used), (expected, month.expected or ())):
            for way, figure in zip(("up", "down"), figures, strict=False):
                family.add_metric([controller, way], figure)
        allowance.add_metric([controller], month.allowance)
    yield from (used, expected, allowance)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=["controller", *labels])
