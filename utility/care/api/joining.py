"""POST /join: a controller shows its label's one-time code, and gets certificates of its keys and its bundle.

The code itself is never sent: the request has a name derived from it, and is signed by a key derived from it, of which
the utility has the public half alone. A code is used once: its use is stored before the answer, and the same keys may
ask again within an hour, since the answer may be lost.
"""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field

from commonwatt.care.sealing import seal, signed_text
from commonwatt.config.files import check_model
from commonwatt.config.settings import Settings
from commonwatt.identity.certificates import Kind
from commonwatt.identity.chains import permitted, requested
from commonwatt.identity.devices import digest
from commonwatt.identity.enrolment_authority import DAYS, EnrolmentAuthority
from commonwatt.identity.guesses import Guesses, network_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.model.words import moment
from commonwatt.runtime.files import read_object
from commonwatt.site.bundle import JOINS_FILE
from utility.care.api.listener import CareRequest, Refused
from utility.care.store.codes import Use

AGAIN_S = 3_600  # seconds in which the same keys may ask again
_KINDS = {"gateway": Kind.DEVICE, "broker": Kind.BROKER}


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
            raise Refused(f"the request has no text {wrong[0]}", "malformed")
        if not self.is_trusted():
            raise Refused("the utility's clock is not synchronized; ask again later", "clock")
        # A guess counts as wrong until its signature is right.
        if wait_s := self._guesses.guess(network_of(request.address), request.address, now):
            raise Refused(f"too many wrong codes; try again in {wait_s:.0f} s", "guesses", of="")
        code = self._code(asked["code"])
        place, key = code.place, Ed25519PublicKey.from_public_bytes(bytes.fromhex(code.public_key))
        try:
            key.verify(bytes.fromhex(asked["signature"]), signed_text(asked))
        except (ValueError, InvalidSignature) as error:
            text = f"wrong signature: a machine that knows of the code of {place} does not have it"
            raise Refused(text, "wrong_signature", of=place) from error
        self._guesses.give_back(network_of(request.address), request.address, now)
        if code.ends <= now:
            raise Refused(f"the code of {place} ended {moment(code.ends)}; get a new label", "ended")
        return {"sealed": base64.b64encode(self._issued(code, request, now)).decode()}

    def _code(self, lookup: str) -> _Open:
        path = self.folder / JOINS_FILE
        if not path.exists():
            raise Refused("the utility has no labels yet; unpack its newest bundle there", "unknown_code")
        known = read_object(path, "a file of codes", "unpack the utility's bundle again")
        if not isinstance(fields := known.get(lookup), dict):
            raise Refused("unknown code: of an older label, or the utility lacks its newest bundle", "unknown_code")
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
                    raise Refused(why, "another_name", of=place)
            authority = EnrolmentAuthority.load(self.folder)
            addresses = permitted(authority.signer(place).certificate)[1]
            self._use_up(place, request, digest(f"{[key.public_numbers().x for key in keys.values()]}".encode()), now)
            got = {
                name: authority.issue(texts[name], kind, place, addresses * (kind is Kind.BROKER), now, DAYS[kind])
                for name, kind in _KINDS.items()
            }
        except ConfigError as error:
            raise Refused(f"no certificates for {place}: {error}", "not_issued") from error
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
        raise Refused(f"used code of {place}, by {other}; {when}", "used_code", of=None if is_same else place)
