"""What answers at the care listener, by method and first part of the path."""

from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from commonwatt.config.utility import UtilitySettings
from utility.care.api.listener import Handler, Listener
from utility.care.store.packages import routes_of
from utility.database.metrics import PREFIX


def care_of(settings: UtilitySettings) -> Listener | None:
    """Return the listener of the settings, not yet started; ``None``: the town has none.

    Raises:
        ConfigError: A file that it needs can't be used.
    """
    if settings.care is None or settings.care_certificate is None or settings.head_end_ca is None:
        return None
    ca = settings.head_end_ca.read_bytes()
    routes: Mapping[tuple[str, str], Handler] = {
        ("GET", "ca"): lambda _: ca,
        **routes_of(settings.packages),
    }
    return Listener(settings.care, settings.care_certificate, routes)


def requests_of(listener: Listener) -> Iterator[Metric]:
    """Yield the counts of a listener's requests."""
    text = "Requests of controllers at the care listener, by the first part of the path, and result."
    family = CounterMetricFamily(f"{PREFIX}_care_requests", text, labels=["path", "result"])
    for (path, result), count in sorted(listener.counts.items()):
        family.add_metric([path, result], count)
    yield family
