"""The contents of gateways' heartbeats as metrics, so that gateways need not be scraped over LTE."""

from collections.abc import Callable, Collection, Iterable, Mapping

from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from commonwatt.model.now import Trust
from commonwatt.protocol.heartbeats import Heartbeat
from utility.database.metrics import PREFIX


class GatewayMetrics(Collector):
    """Collector of the gateways' last heartbeats; reads them at each scrape.

    Args:
        silent_since: When each registered gateway last sent, or since when it is awaited, clock seconds.
        said: The last heartbeat of each gateway.
        over_quota: The gateways of which no more dead letters are kept today.
        now: The service's clock.
    """

    def __init__(
        self,
        silent_since: Mapping[str, float],
        said: Mapping[str, Heartbeat],
        over_quota: Collection[str],
        now: Callable[[], float],
    ) -> None:
        self._silent_since = silent_since
        self._said = said
        self._over_quota = over_quota
        self._now = now

    def collect(self) -> Iterable[Metric]:
        """Yield the silence of every gateway, and the values of its last heartbeat if there is one."""
        text = "Seconds since the gateway's last message; if there was none, since this service waits for it."
        family = _family("gateway_last_seen_seconds", text)
        now = self._now()
        for controller, time in sorted(self._silent_since.items()):
            family.add_metric([controller], max(0.0, now - time))
        yield family
        family = _family("gateway_over_quota", "1 while no more dead letters of the gateway are kept until tomorrow.")
        for controller in sorted(self._silent_since):
            family.add_metric([controller], int(controller in self._over_quota))
        yield family
        said = sorted(self._said.items())
        yield from _state(said)
        yield from _lines(said)


def _state(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    backlog = _family("gateway_backlog", "Data at the gateway that the utility has not acknowledged, by kind.", "kind")
    age = _family(
        "gateway_backlog_age_seconds",
        "Seconds since the end of the oldest quarter with unacknowledged data at the gateway; 0 without any.",
    )
    trusted = _family("gateway_clock_trusted", "1 while the gateway has its time from the network or a reliable clock.")
    fenced = _family("gateway_fenced_meters", "Meters that report another manager; the gateway does not command them.")
    left = _family("gateway_batteries_left_seconds", "Seconds that batteries of an island or public ones last.")
    for controller, heartbeat in said:
        if heartbeat.lasts_until is not None:
            left.add_metric([controller], heartbeat.lasts_until - heartbeat.time)
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
    yield from (backlog, age, trusted, fenced, left)


def _lines(said: Iterable[tuple[str, Heartbeat]]) -> Iterable[Metric]:
    """Yield use, forecast and allowance of each line that was reported."""
    used = _family("lte_month_bytes", "IP bytes of the controller's LTE line since its month began.", "direction")
    text = "Forecast of these bytes for the month's end, from the use of the last seven days."
    expected = _family("lte_forecast_bytes", text, "direction")
    allowance = _family("lte_allowance_bytes", "Bytes that the line's plan allows in a month, each way.")
    for controller, heartbeat in said:
        if (month := heartbeat.lte) is None:
            continue
        for family, figures in ((used, month.used), (expected, month.expected or ())):
            for way, figure in zip(("up", "down"), figures, strict=False):
                family.add_metric([controller, way], figure)
        allowance.add_metric([controller], month.allowance)
    yield from (used, expected, allowance)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["controller", *labels])
