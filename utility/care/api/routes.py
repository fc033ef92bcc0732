"""What answers at the care listener, by method and first part of the path."""

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from prometheus_client.metrics_core import Metric

from commonwatt.care import joining
from commonwatt.config.utility import UtilitySettings
from commonwatt.identity import renewing
from commonwatt.identity.enrolment_authority import ENROLMENT_FILE, EnrolmentAuthority
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.network.tls import Stamp, stamp
from commonwatt.runtime.clock import machine_s
from commonwatt.runtime.metric_families import Row, counter, families
from utility.care.api.joining import Joining
from utility.care.api.listener import Handler, Listener
from utility.care.api.renewing import Renewals
from utility.care.store.codes import use_code
from utility.care.store.packages import routes_of
from utility.database.database import Database
from utility.database.metrics import PREFIX


def care_of(
    settings: UtilitySettings,
    database: Database,
    is_trusted: Callable[[], bool],
) -> Listener | None:
    """Return the listener of the settings, not yet started; ``None``: the town has none.

    Args:
        is_trusted: Whether the time is synchronized.

    Raises:
        ConfigError: A file that it needs can't be used.
    """
    if settings.care is None or settings.care_certificate is None or settings.head_end_ca is None:
        return None
    ca = settings.head_end_ca.read_bytes()
    joins = Joining(settings.tokens.parent, lambda use: database.write(use_code, use), is_trusted, machine_s)
    routes: Mapping[tuple[str, str], Handler] = {
        ("GET", "ca"): lambda _: ca,
        ("POST", joining.PATH): joins.answer,
        ("POST", renewing.PATH): Renewals(settings, is_trusted).renew,
        **routes_of(settings.packages),
    }
    return Listener(settings.care, settings.care_certificate, routes)


def enrolment_ends(settings: UtilitySettings) -> EpochSeconds | None:
    """Return when the enrolment authority ends; ``None``: there is none, and each request for it says so."""
    try:
        return _ends(settings.tokens.parent, stamp(settings.tokens.with_name(ENROLMENT_FILE)))
    except ConfigError:
        return None


@lru_cache(maxsize=1)
def _ends(folder: Path, seen: Stamp) -> EpochSeconds:
    del seen  # It is read again when it changes.
    return EnrolmentAuthority.load(folder).ends


_ROWS: tuple[Row[Mapping[tuple[str, str], int]], ...] = (
    counter("care_requests", "Requests of controllers at the care listener, by the first part of the path, and result.",
            lambda counts: dict(sorted(counts.items())), "path result"),
)  # fmt: skip


def requests_of(counts: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """Yield the counts of a listener's requests, by path and result."""
    yield from families(PREFIX, _ROWS, counts)
