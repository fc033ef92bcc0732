"""Renewals of the certificates of controllers, their brokers and meters, without a person (docs/security.md).

The old key proves who asks. What is issued follows from the register and the enrolment authority alone: the same name
and purpose, and the addresses that the office stated.
"""

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

from commonwatt.identity.authority import BROKER_DAYS, DEVICE_DAYS
from commonwatt.identity.certificates import Kind, revoked_serials
from commonwatt.identity.chains import permitted
from commonwatt.identity.devices import Role, load_devices
from commonwatt.identity.enrolment_authority import EnrolmentAuthority
from commonwatt.identity.renewal_requests import ENDED_DAYS, Known, RenewalRequest
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.runtime.bucket import Bucket
from utility.care.api.listener import CareRequest, Refused
from utility.registry.snapshot import RegistrySnapshot

AT_ONCE, EACH_S = 4, 6 * 3_600  # renewals of one certificate without a wait, and seconds for one more
SHOWN_S = 86_400  # seconds for which a refusal is an alarm
_MOST_SHOWN = 20
# The results of requests.
RESULTS = ("renewed", "malformed", "clock", "name", "revoked", "unregistered", "ended", "often", "authority")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RenewalFiles:
    """The files from which renewals are decided; read at each request."""

    ca: Path  # the town's authority
    revoked: Path | None  # the lists of revoked certificates; ``None``: there is none
    devices: Path  # the head-end broker's devices, with the revoked controllers
    authority: Path  # the folder of the enrolment authority


class _Refusal(Exception):  # noqa: N818 - a decision
    """A request is refused, for ``result``, a label of the counter."""

    def __init__(self, result: str, text: str) -> None:
        super().__init__(text)
        self.result = result


class Renewals:
    """Decides renewals; usable from many threads.

    Args:
        registry: Returns the town's present register.
        now: Returns the time, epoch seconds.
        is_trusted: Whether that time is synchronized.
    """

    def __init__(
        self,
        files: RenewalFiles,
        registry: Callable[[], RegistrySnapshot],
        now: Callable[[], EpochSeconds],
        is_trusted: Callable[[], bool],
    ) -> None:
        self.results: Counter[str] = Counter()  # requests by result
        self._files = files
        self._registry = registry
        self._now = now
        self._is_trusted = is_trusted
        self._refused: deque[tuple[EpochSeconds, str]] = deque(maxlen=_MOST_SHOWN)
        self._allowances: dict[tuple[Kind, str], Bucket] = {}  # of registered names alone
        self._lock = Lock()

    def renew(self, request: CareRequest) -> dict[str, Any]:
        """Answer ``/renew``.

        Raises:
            Refused: There is no certificate for this request.
        """
        now = self._now()
        try:
            chain = self._renewed(request, now)
        except _Refusal as refusal:
            self.results[refusal.result] += 1
            raise Refused(str(refusal)) from refusal
        self.results["renewed"] += 1
        return {"certificate": chain}

    def refused(self) -> tuple[str, ...]:
        """Return the refusals of the last day of certificates of this town, the oldest first."""
        since = self._now() - SHOWN_S
        return tuple(text for at, text in self._refused.copy() if at > since)

    def _renewed(self, request: CareRequest, now: EpochSeconds) -> str:
        try:
            wanted = RenewalRequest.read(request.content)
            known = Known.read(wanted.certificate.encode(), self._files.ca.read_bytes())
        except ConfigError as error:
            raise _Refusal("malformed", str(error)) from error
        if not self._is_trusted():
            raise _Refusal("clock", "the utility's clock is not synchronized; ask again later")
        try:
            chain = self._decided(wanted, known, now)
        except _Refusal as refusal:
            text = f"{known.kind} {known.name} from {request.address}: {refusal} ({moment(now)})"
            self._refused.append((now, text))
            raise
        log.info("renewed: the certificate of %s %s, for %s", wanted.kind, wanted.name, request.address)
        return chain

    def _decided(self, wanted: RenewalRequest, known: Known, now: EpochSeconds) -> str:
        try:
            self._check(wanted, known, now)
            self._allow(wanted, now)
            return self._issue(wanted, now)
        except (ConfigError, OSError) as error:
            raise _Refusal("authority", f"the utility can't issue it: {error}") from error

    def _check(self, wanted: RenewalRequest, known: Known, now: EpochSeconds) -> None:
        """Refuse a request that has no certificate of a registered and unrevoked device for itself."""
        if (known.name, known.kind) != (wanted.name, wanted.kind):
            raise _Refusal("name", f"asks for the certificate of {wanted.kind} {wanted.name[:64]!r}")
        if self._files.revoked is not None:
            listed = revoked_serials(self._files.revoked.read_bytes(), self._files.ca.read_bytes())
            if known.serials & listed:
                raise _Refusal("revoked", "its certificate was revoked")
        meter = None
        if known.kind is Kind.DEVICE and known.name.isdecimal():
            meter = self._registry().meters.get(int(known.name))
        name = known.name if meter is None else meter.microgrid
        device = load_devices(self._files.devices).get(name)
        if device is None or device.role is not Role.GATEWAY:
            raise _Refusal("unregistered", "it is no registered controller, and no meter")
        if device.revoked:
            raise _Refusal("revoked", f"{name} was revoked: {device.revoked}")
        if now - known.ends > ENDED_DAYS * 86_400:
            raise _Refusal("ended", f"its certificate ended {moment(known.ends)}, too long ago")

    def _allow(self, wanted: RenewalRequest, now: EpochSeconds) -> None:
        with self._lock:
            full = Bucket(1 / EACH_S, AT_ONCE, AT_ONCE, now)
            bucket = self._allowances.setdefault((wanted.kind, wanted.name), full)
            if replace(bucket).take(1, now):
                raise _Refusal("often", f"asks more often than {AT_ONCE} times a day")
            bucket.take(1, now)

    def _issue(self, wanted: RenewalRequest, now: EpochSeconds) -> str:
        authority = EnrolmentAuthority.load(self._files.authority)
        is_broker = wanted.kind is Kind.BROKER
        addresses = permitted(authority.signer(wanted.name).certificate)[1] if is_broker else ()
        days = BROKER_DAYS if is_broker else DEVICE_DAYS
        return authority.issue(wanted.request.encode(), wanted.kind, wanted.name, addresses, now, days)
