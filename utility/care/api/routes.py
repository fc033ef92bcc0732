"""What answers at the care listener: controllers join, renew certificates, fetch releases and their own bundles.

A label's code itself is never sent: the request has a name derived from it, and is signed by a key derived from it, of
which the utility has the public half alone. A code is used once: its use is stored before the answer, and the same keys
may ask again within an hour, since the answer may be lost.

At a renewal, and for a bundle, the present key proves who asks. What is issued follows from the register and the
enrolment authority alone: the same name and purpose, and the addresses that the office stated.
"""

import base64
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from prometheus_client.metrics_core import Metric
from pydantic import Field

from commonwatt.care import joining, placed
from commonwatt.care.code import seal, signed_text
from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.identity import renewing
from commonwatt.identity.authority import DAYS, ENDED_DAYS, ENROLMENT_FILE, EnrolmentAuthority
from commonwatt.identity.certificates import Purpose, authoritys_list, check_signed, details_of, pem, revoked_serials
from commonwatt.identity.chains import check_issued, kind_of, permitted, requested
from commonwatt.identity.devices import DeviceRole, digest, load_devices
from commonwatt.identity.enrolment import DEVICES_FILE
from commonwatt.identity.guesses import Guesses, network_of
from commonwatt.identity.renewing import PURPOSE, signed_content
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.text import moment
from commonwatt.model.units import EpochSeconds
from commonwatt.network.tls import Stamp, stamp
from commonwatt.runtime.clock import machine_s
from commonwatt.runtime.fair_queue import Bucket
from commonwatt.runtime.files import read_object
from commonwatt.runtime.metric_families import MetricRow, counter, families
from commonwatt.site.bundle import BUNDLES, JOINS_FILE
from utility.care.api.listener import CareListener, CareRefusal, CareRequest, Handler
from utility.care.store import Use, routes_of, use_code
from utility.database.database import Database
from utility.database.metrics import PREFIX
from utility.settings import UtilitySettings

AGAIN_S = 3_600  # seconds in which the same keys may ask again
_KINDS = {"gateway": Purpose.DEVICE, "broker": Purpose.BROKER}


class _Open(Settings):
    """What the utility knows of a code."""

    place: str  # the controller that it is of
    public_key: str = Field(pattern="^[0-9a-f]{64}$")  # verifies the signature of a request
    ends: EpochSeconds  # when it ends, epoch seconds
    bundle: str  # the controller's bundle in base64, encrypted for the code; empty: the code has ended


@dataclass(eq=False)
class Joining:
    """Answers the requests of controllers that join."""

    folder: Path  # the folder with the enrolment authority and the codes, from the utility's bundle
    use: Callable[[Use], Use]  # stores the use of a code durably, unless there is one; returns its first use
    is_trusted: Callable[[], bool]  # returns whether the time is synchronized
    now: Callable[[], EpochSeconds]  # returns the machine's epoch seconds
    _guesses: Guesses = field(default_factory=Guesses)

    def answer(self, request: CareRequest) -> dict[str, object]:
        """Return certificates and bundle, sealed to the controller's key.

        Raises:
            Refused: The code is unknown, ended or used; its signature, or a request in it, is wrong; too many guesses.
        """
        asked, now = request.content, self.now()
        if wrong := [key for key in ("code", "signature", *_KINDS) if not isinstance(asked.get(key), str)]:
            raise CareRefusal(f"the request has no text {wrong[0]}", "malformed")
        if not self.is_trusted():
            raise CareRefusal("the utility's clock is not synchronized; ask again later", "clock")
        # A guess counts as wrong until its signature is right.
        if wait_s := self._guesses.guess(network_of(request.address), request.address, now):
            raise CareRefusal(f"too many wrong codes; try again in {wait_s:.0f} s", "guesses", of="")
        code = self._code(asked["code"])
        place, key = code.place, Ed25519PublicKey.from_public_bytes(bytes.fromhex(code.public_key))
        try:
            key.verify(bytes.fromhex(asked["signature"]), signed_text(asked))
        except (ValueError, InvalidSignature) as error:
            text = f"wrong signature: a machine that knows of the code of {place} does not have it"
            raise CareRefusal(text, "wrong_signature", of=place) from error
        self._guesses.give_back(network_of(request.address), request.address, now)
        if code.ends <= now:
            raise CareRefusal(f"the code of {place} ended {moment(code.ends)}; get a new label", "ended")
        return {"sealed": base64.b64encode(self._issued(code, request, now)).decode()}

    def _code(self, lookup: str) -> _Open:
        path = self.folder / JOINS_FILE
        if not path.exists():
            raise CareRefusal("the utility has no labels yet; unpack its newest bundle there", "unknown_code")
        known = read_object(path, "a file of codes", "unpack the utility's bundle again")
        if not isinstance(fields := known.get(lookup), dict):
            raise CareRefusal("unknown code: of an older label, or the utility lacks its newest bundle", "unknown_code")
        return check_model(path, _Open, fields)

    def _issued(self, code: _Open, request: CareRequest, now: EpochSeconds) -> bytes:
        place = code.place
        texts = {name: request.content[name].encode(errors="replace") for name in _KINDS}
        try:
            keys = {}
            for kind, text in texts.items():
                name, keys[kind] = requested(text)
                if name not in ("", place):
                    why = f"another's name: {name!r} was asked for with the code of {place}"
                    raise CareRefusal(why, "another_name", of=place)
            authority = EnrolmentAuthority.load(self.folder)
            addresses = permitted(authority.signer(place).certificate)[1]
            self._use_up(place, request, digest(f"{[key.public_numbers().x for key in keys.values()]}".encode()), now)
            got = {
                name: authority.issue(texts[name], kind, place, addresses * (kind is Purpose.BROKER), now, DAYS[kind])
                for name, kind in _KINDS.items()
            }
        except ConfigError as error:
            raise CareRefusal(f"no certificates for {place}: {error}", "not_issued") from error
        return seal(keys["gateway"], json.dumps({"bundle": code.bundle, **got}).encode())

    def _use_up(self, place: str, request: CareRequest, keys: str, now: EpochSeconds) -> None:
        """Store that a code is used; the keys that used it may ask again for a while."""
        asked = Use(lookup=request.content["code"], place=place, keys=keys, address=request.address, used=now)
        first = self.use(asked)
        if first.keys == keys and now - first.used <= AGAIN_S:
            return
        is_same = first.keys == keys
        other = "the same key, too late" if is_same else "another key: one of both may be a thief's"
        when = f"it was used {moment(first.used)} from {first.address}"
        raise CareRefusal(f"used code of {place}, by {other}; {when}", "used_code", of=None if is_same else place)


AT_ONCE, EACH_S = 4, 6 * 3_600  # renewals of one certificate without a wait, and seconds for one more
_FIELDS = ("name", "request", "certificate", "signature")

log = logging.getLogger(__name__)


@dataclass(eq=False)
class Renewals:
    """Decides renewals, and who gets a bundle, by files that are read at each request; usable from many threads."""

    settings: UtilitySettings  # where the files are
    is_trusted: Callable[[], bool]  # returns whether the time is synchronized
    now: Callable[[], EpochSeconds] = machine_s  # returns the time, epoch seconds
    _allowances: dict[tuple[Purpose, str], Bucket] = field(default_factory=dict)  # of registered names alone
    _lock: Lock = field(default_factory=Lock)

    def renew(self, request: CareRequest, purpose: str = PURPOSE) -> dict[str, Any]:
        """Answer ``/renew``, or with another purpose of the signature ``/bundle``.

        Raises:
            Refused: There is no certificate, or no bundle, for this request.
        """
        now, settings = self.now(), self.settings
        assert settings.head_end_ca is not None
        name, asked, certificate, signature = (str(request.content.get(field)) for field in _FIELDS)
        ca = settings.head_end_ca.read_bytes()
        try:
            chain = certificate.encode()
            check_signed(chain, purpose, signed_content(name, asked), bytes.fromhex(signature))
            own, *issuers = details_of(chain)
            check_issued(chain, ca, None, own.names[0])
            kind = kind_of(chain)
        except (ConfigError, ValueError, IndexError) as error:
            raise CareRefusal(f"no request of this town: {error}", "malformed") from error
        if not self.is_trusted():
            raise CareRefusal("the utility's clock is not synchronized; ask again later", "clock")
        who = f"{kind} {own.names[0]}"
        if own.names[0] != name:
            raise CareRefusal(f"{who} asks in the name of {name[:64]!r}", "name", of=own.names[0])
        try:
            revocations = None if settings.head_end_revoked is None else settings.head_end_revoked.read_bytes()
            revoked = frozenset() if revocations is None else revoked_serials(revocations, ca)
            if revoked & {one.serial for one in (own, *issuers)}:
                raise CareRefusal(f"{who}: its certificate was revoked", "revoked", of=name)
            self._check_registered(name, kind)
            if purpose == placed.PURPOSE:
                return self._bundle(name, chain, asked, is_valid=kind is Purpose.DEVICE and now < own.ends)
            if now - own.ends > ENDED_DAYS * 86_400:
                raise CareRefusal(f"{who}: its certificate ended {moment(own.ends)}, too long ago", "ended", of=name)
            self._take(name, kind, now)
            authority = EnrolmentAuthority.load(settings.tokens.parent, revoked)
            addresses = permitted(authority.signer(name).certificate)[1] if kind is Purpose.BROKER else ()
            issued = authority.issue(asked.encode(), kind, name, addresses, now, DAYS[kind])
        except (ConfigError, OSError, ValueError) as error:
            raise CareRefusal(f"{who} can't be issued: {error}", "authority", of=name) from error
        log.info("renewed: the certificate of %s, for %s", who, request.address)
        if revocations is None or not isinstance(wanted := request.content.get("lists"), list):
            return {"certificate": issued}
        names = {name, *map(str, wanted)}
        lists = authoritys_list(revocations) + authority.lists(names)
        return {"certificate": issued, "revoked": lists, "issuers": "".join(map(pem, authority.of(names)))}

    def _bundle(self, name: str, chain: bytes, sha256: str, *, is_valid: bool) -> dict[str, Any]:
        """Return a controller's own bundle, sealed to its key: a copy of its request gives nothing that can be read."""
        path = self.settings.tokens.parent / BUNDLES / f"{name}.bundle"
        content = path.read_bytes() if path.exists() else b""
        if not is_valid or digest(content) != sha256:
            raise CareRefusal(f"{name} has another bundle by now, or none, or no valid certificate", "bundle")
        key = x509.load_pem_x509_certificate(chain).public_key()
        assert isinstance(key, EllipticCurvePublicKey)
        return {"sealed": base64.b64encode(seal(key, content)).decode()}

    def _check_registered(self, name: str, kind: Purpose) -> None:
        """Refuse what is no registered controller, or is revoked."""
        assert self.settings.care_certificate is not None
        device = load_devices(self.settings.care_certificate.with_name(DEVICES_FILE)).get(name)
        if device is None or device.role is not DeviceRole.GATEWAY:
            raise CareRefusal(f"{kind} {name} is no registered controller", "unregistered", of=name)
        if device.revoked:
            raise CareRefusal(f"{kind} {name} was revoked: {device.revoked}", "revoked", of=name)

    def _take(self, name: str, kind: Purpose, now: EpochSeconds) -> None:
        """Refuse a name that asks too often."""
        with self._lock:
            bucket = self._allowances.setdefault((kind, name), Bucket(1 / EACH_S, AT_ONCE, AT_ONCE, now))
            if replace(bucket).take(1, now):
                raise CareRefusal(f"{kind} {name} asks more often than {AT_ONCE} times a day", "often")
            bucket.take(1, now)


def care_of(
    settings: UtilitySettings,
    database: Database,
    is_trusted: Callable[[], bool],
) -> CareListener | None:
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
    renewals = Renewals(settings, is_trusted)
    routes: Mapping[tuple[str, str], Handler] = {
        ("GET", "ca"): lambda _: ca,
        ("POST", joining.PATH): joins.answer,
        ("POST", renewing.PATH): renewals.renew,
        ("POST", placed.PATH): lambda request: renewals.renew(request, placed.PURPOSE),
        **routes_of(settings.packages),
    }
    return CareListener(settings.care, settings.care_certificate, routes)


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


_ROWS: tuple[MetricRow[Mapping[tuple[str, str], int]], ...] = (
    counter("care_requests", "Requests of controllers at the care listener, by the first part of the path, and result.",
            lambda counts: dict(sorted(counts.items())), "path result"),
)  # fmt: skip


def requests_of(counts: Mapping[tuple[str, str], int]) -> Iterator[Metric]:
    """Yield the counts of a listener's requests, by path and result."""
    yield from families(PREFIX, _ROWS, counts)
