"""What answers at the care listener, by method and first part of the path."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from commonwatt.config.utility import UtilitySettings
from commonwatt.identity.enrolment import DEVICES_FILE
from commonwatt.runtime.clock import machine_s
from utility.care.api.listener import Handler, Listener
from utility.care.renewing import RESULTS, RenewalFiles, Renewals
from utility.database.metrics import PREFIX
from utility.registry.snapshot import RegistrySnapshot


@dataclass(frozen=True)
class Care:
    """The care of controllers."""

    listener: Listener  # not yet started
    renewals: Renewals  # decides ``/renew``


def care_of(
    settings: UtilitySettings, registry: Callable[[], RegistrySnapshot], is_trusted: Callable[[], bool]
) -> Care | None:
    """Return the care that the settings ask for; ``None``: the town has none.

    Args:
        registry: Returns the town's present register.
        is_trusted: Whether the machine's clock is synchronized.

    Raises:
        ConfigError: A file that it needs can't be used.
    """
    if settings.care is None or settings.care_certificate is None or settings.head_end_ca is None:
        return None
    ca = settings.head_end_ca.read_bytes()
    files = RenewalFiles(
        ca=settings.head_end_ca,
        revoked=settings.head_end_revoked,
        devices=settings.care_certificate.with_name(DEVICES_FILE),
        authority=settings.head_end_ca.parent,
    )
    renewals = Renewals(files, registry, machine_s, is_trusted)
    routes: Mapping[tuple[str, str], Handler] = {
        ("GET", "ca"): lambda _: ca,
        ("POST", "renew"): renewals.renew,
    }
    return Care(Listener(settings.care, settings.care_certificate, routes), renewals)


def requests_of(care: Care) -> Iterator[Metric]:
    """Yield the counts of requests, and of renewals by result."""
    text = "Requests of controllers at the care listener, by the first part of the path, and result."
    family = CounterMetricFamily(f"{PREFIX}_care_requests", text, labels=["path", "result"])
    for (path, result), count in sorted(care.listener.counts.items()):
        family.add_metric([path, result], count)
    yield family
    text = "Requests for the renewal of a certificate, by result: renewed, or why not."
    family = CounterMetricFamily(f"{PREFIX}_renewals", text, labels=["result"])
    for result in RESULTS:
        family.add_metric([result], care.renewals.results[result])
    yield family
