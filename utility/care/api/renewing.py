"""Renewals of the certificates of controllers and their brokers, without a person (docs/security.md).

The old key proves who asks. What is issued follows from the register and the enrolment authority alone: the same name
and purpose, and the addresses that the office stated.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Any

from commonwatt.config.utility import UtilitySettings
from commonwatt.identity.authority import ENDED_DAYS
from commonwatt.identity.certificates import Kind, authoritys_list, check_signed, details_of, pem, revoked_serials
from commonwatt.identity.chains import check_issued, kind_of, permitted
from commonwatt.identity.devices import Role, load_devices
from commonwatt.identity.enrolment import DEVICES_FILE
from commonwatt.identity.enrolment_authority import DAYS, EnrolmentAuthority
from commonwatt.identity.renewing import PURPOSE, signed_content
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.runtime.bucket import Bucket
from commonwatt.runtime.clock import machine_s
from utility.care.api.listener import CareRequest, Refused

AT_ONCE, EACH_S = 4, 6 * 3_600  # renewals of one certificate without a wait, and seconds for one more
_FIELDS = ("name", "request", "certificate", "signature")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Renewals:
    """Decides renewals, by files that are read at each request; usable from many threads."""

    settings: UtilitySettings  # where the files are
    is_trusted: Callable[[], bool]  # returns whether the time is synchronized
    now: Callable[[], EpochSeconds] = machine_s  # returns the time, epoch seconds
    _allowances: dict[tuple[Kind, str], Bucket] = field(default_factory=dict)  # of registered names alone
    _lock: Lock = field(default_factory=Lock)

    def renew(self, request: CareRequest) -> dict[str, Any]:
        """Answer ``/renew``.

        Raises:
            Refused: There is no certificate for this request.
        """
        now, settings = self.now(), self.settings
        assert settings.head_end_ca is not None
        name, asked, certificate, signature = (str(request.content.get(field)) for field in _FIELDS)
        ca = settings.head_end_ca.read_bytes()
        try:
            chain = certificate.encode()
            check_signed(chain, PURPOSE, signed_content(name, asked), bytes.fromhex(signature))
            own, *issuers = details_of(chain)
            check_issued(chain, ca, None, own.names[0])
            kind = kind_of(chain)
        except (ConfigError, ValueError, IndexError) as error:
            raise Refused(f"no request of this town: {error}", "malformed") from error
        if not self.is_trusted():
            raise Refused("the utility's clock is not synchronized; ask again later", "clock")
        who = f"{kind} {own.names[0]}"
        if own.names[0] != name:
            raise Refused(f"{who} asks in the name of {name[:64]!r}", "name", of=own.names[0])
        try:
            revocations = None if settings.head_end_revoked is None else settings.head_end_revoked.read_bytes()
            revoked = frozenset() if revocations is None else revoked_serials(revocations, ca)
            if revoked & {one.serial for one in (own, *issuers)}:
                raise Refused(f"{who}: its certificate was revoked", "revoked", of=name)
            self._check_registered(name, kind)
            if now - own.ends > ENDED_DAYS * 86_400:
                raise Refused(f"{who}: its certificate ended {moment(own.ends)}, too long ago", "ended", of=name)
            self._take(name, kind, now)
            authority = EnrolmentAuthority.load(settings.tokens.parent, revoked)
            addresses = permitted(authority.signer(name).certificate)[1] if kind is Kind.BROKER else ()
            issued = authority.issue(asked.encode(), kind, name, addresses, now, DAYS[kind])
        except (ConfigError, OSError, ValueError) as error:
            raise Refused(f"{who} can't be issued: {error}", "authority", of=name) from error
        log.info("renewed: the certificate of %s, for %s", who, request.address)
        if revocations is None or not isinstance(wanted := request.content.get("lists"), list):
            return {"certificate": issued}
        names = {name, *map(str, wanted)}
        lists = authoritys_list(revocations) + authority.lists(names)
        return {"certificate": issued, "revoked": lists, "issuers": "".join(map(pem, authority.of(names)))}

    def _check_registered(self, name: str, kind: Kind) -> None:
        """Refuse what is no registered controller, or is revoked."""
        assert self.settings.care_certificate is not None
        device = load_devices(self.settings.care_certificate.with_name(DEVICES_FILE)).get(name)
        if device is None or device.role is not Role.GATEWAY:
            raise Refused(f"{kind} {name} is no registered controller", "unregistered", of=name)
        if device.revoked:
            raise Refused(f"{kind} {name} was revoked: {device.revoked}", "revoked", of=name)

    def _take(self, name: str, kind: Kind, now: EpochSeconds) -> None:
        """Refuse a name that asks too often."""
        with self._lock:
            bucket = self._allowances.setdefault((kind, name), Bucket(1 / EACH_S, AT_ONCE, AT_ONCE, now))
            if replace(bucket).take(1, now):
                raise Refused(f"{kind} {name} asks more often than {AT_ONCE} times a day", "often")
            bucket.take(1, now)
