"""The renewal of one certificate file (docs/security.md): each step is durable, and a power cut leaves a working pair.

The file has the key, its certificate and perhaps the enrolment certificate (PEM). Beside it are, meanwhile:

``NAME.new-key``  the new key, until its certificate came; a repeated request has the same one
``NAME.next``     the new key and certificate, until they are put in the file's place
``NAME.before``   the old ones, until a connection was made with the new ones

A request has no time: again, it gives another certificate of the same new key, which only its owner can use.
"""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.identity.certificates import Signer, details_of
from commonwatt.identity.chains import chain_of, check_issued, enrolled, merged, new_key_pem, request_of
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import replace_file, sync_folder

PATH = "renew"  # of the request at the care listener
PURPOSE = "renewal"  # of the old key's signature
DUE = 2 / 3  # share of a certificate's life from which on it is renewed
SPREAD = 1 / 15  # share of its life over which the renewals of many are spread

log = logging.getLogger(__name__)


def signed_content(name: str, request: str) -> bytes:
    """Return what the old key signs: the name, and the new key's request for a certificate (PEM)."""
    return f"{name}\n{request}".encode()


@dataclass(frozen=True)
class CertificateFile:
    """A file with a key and its certificate; methods raise ConfigError or OSError if a file can't be used."""

    path: Path  # the file
    ca: Path  # the town's authority
    name: str  # the identity of a device, or a broker's name
    revoked: Path | None = None  # the revocation lists of this machine, renewed with it; ``None``: no lists

    def due(self) -> EpochSeconds:
        """Return when it is to be renewed, epoch seconds."""
        own, *_ = details_of(self.path.read_bytes())
        share = int.from_bytes(hashlib.sha256(f"{self.path.name} {self.name}".encode()).digest()[:4]) / 2**32
        return own.begins + int((DUE + SPREAD * share) * (own.ends - own.begins))

    def request(self) -> dict[str, object]:
        """Return the request for its renewal, with a new key that is stored first."""
        new, pair = self._beside("new-key"), self.path.read_bytes()
        if not new.exists():
            replace_file(new, new_key_pem().encode())
        request = request_of(new.read_text())
        signature = Signer.load(pair, pair).signature(PURPOSE, signed_content(self.name, request)).hex()
        asked: dict[str, object] = {"name": self.name, "request": request, "certificate": chain_of(pair)}
        lists = {} if self.revoked is None else {"lists": enrolled(self.revoked.read_bytes())}
        return {**asked, "signature": signature, **lists}

    def take(self, answer: Mapping[str, Any]) -> None:
        """Put the answered certificate in place, and keep the old one beside it.

        Raises:
            ConfigError: It is none of this town for this name and the new key, or it is revoked.
        """
        chain, key = str(answer.get("certificate")).encode(), self._beside("new-key").read_bytes()
        # Nothing of the answer is kept before this town's authority stands behind it.
        check_issued(chain, self.ca.read_bytes(), None, self.name)
        Signer.load(chain, key)  # Refuses another key.
        # Before the certificate: its issuer may be newer than the lists, and refused without a list of its own.
        if self.revoked is not None and "revoked" in answer:
            self._take_lists(self.revoked, answer)
        revocations = None if self.revoked is None else self.revoked.read_bytes()
        check_issued(chain, self.ca.read_bytes(), revocations, self.name)
        replace_file(self._beside("next"), key + chain)
        self.settle()

    def _take_lists(self, path: Path, answer: Mapping[str, Any]) -> None:
        """Take newer revocation lists; what is wrong with these hinders no renewal."""
        lists, issuers = (str(answer.get(one)).encode() for one in ("revoked", "issuers"))
        try:
            before = path.read_bytes()
            if (content := merged(lists, issuers, self.ca.read_bytes(), before)) != before:
                replace_file(path, content)
        except ConfigError as error:
            log.warning("%s: the utility's lists are not taken: %s", path, error)

    def settle(self) -> None:
        """Finish what a power cut interrupted: put a new certificate in place that came before it."""
        new, before = self._beside("next"), self._beside("before")
        if not new.exists():
            return
        self._beside("new-key").unlink(missing_ok=True)
        before.unlink(missing_ok=True)
        before.hardlink_to(self.path)
        sync_folder(self.path.parent)  # Otherwise the next renewal could find this key and use it again.
        new.replace(self.path)
        sync_folder(self.path.parent)

    @property
    def is_on_trial(self) -> bool:
        """Whether no connection was made with the present certificate yet."""
        return self._beside("before").exists()

    def confirm(self) -> None:
        """Delete the old certificate: a connection was made with the new one."""
        self._beside("before").unlink(missing_ok=True)
        sync_folder(self.path.parent)

    def go_back(self, now: EpochSeconds) -> bool:
        """Put the old certificate in place again if it is valid; return whether it was."""
        before = self._beside("before")
        if now >= details_of(before.read_bytes())[0].ends:
            return False
        before.replace(self.path)
        sync_folder(self.path.parent)
        return True

    def forget(self) -> None:
        """Delete what a renewal left beside it, since a person brings another certificate."""
        for end in ("new-key", "next", "before"):
            self._beside(end).unlink(missing_ok=True)

    def _beside(self, end: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{end}")
