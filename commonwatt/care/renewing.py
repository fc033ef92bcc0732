"""The renewal of one certificate file (docs/security.md): each step is durable, and a power cut leaves a working pair.

The file has the key, its certificate and perhaps that of the enrolment authority (PEM). Beside it are, meanwhile:

``NAME.new-key``  the new key, until its certificate came; a repeated request has the same one
``NAME.next``     the new key and certificate, until they are put in the file's place
``NAME.before``   the old ones, until a connection was made with the new ones
"""

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from commonwatt.identity.certificates import Kind
from commonwatt.identity.renewal_requests import Known, RenewalRequest, new_key, public_key
from commonwatt.model.exceptions import ConfigError
from commonwatt.model.units import EpochSeconds
from commonwatt.runtime.files import replace_file, sync_folder

DUE = 2 / 3  # share of a certificate's life from which on it is renewed
SPREAD = 1 / 15  # share of its life over which the renewals of many are spread


@dataclass(frozen=True)
class CertificateFile:
    """A file with a key and its certificate that renews itself."""

    path: Path  # the file
    ca: Path  # the town's authority
    kind: Kind  # its purpose
    name: str  # the identity of a device, or a broker's name

    def known(self) -> Known:
        """Return the present certificate.

        Raises:
            ConfigError: The file is missing, or has no certificate of this town.
        """
        return self._read(self.path)

    def due(self) -> EpochSeconds:
        """Return when it is to be renewed, epoch seconds.

        Raises:
            ConfigError: As ``known``.
        """
        known = self.known()
        spread = int.from_bytes(hashlib.sha256(f"{self.kind} {self.name}".encode()).digest()[:4]) / 2**32
        return known.begins + int((DUE + SPREAD * spread) * (known.ends - known.begins))

    def request(self) -> RenewalRequest:
        """Return the request for its renewal, with a new key that is stored first.

        Raises:
            ConfigError: A file can't be used.
        """
        pair, new = _content(self.path), self._beside("new-key")
        if not self._has_new_key(pair):
            replace_file(new, new_key())
        return RenewalRequest.make(self.name, self.kind, pair, new.read_bytes())

    def take(self, answer: Mapping[str, Any]) -> None:
        """Put the answered certificate in place, and keep the old one beside it.

        Raises:
            ConfigError: The answer is no certificate of this town for this name and the new key.
        """
        chain, key = str(answer.get("certificate")).encode(), _content(self._beside("new-key"))
        known = Known.read(chain, self.ca.read_bytes())
        if (known.name, known.kind, known.key) != (self.name, self.kind, public_key(key)):
            raise ConfigError(f"the utility answered a certificate of {known.kind} {known.name}, or of another key")
        replace_file(self._beside("next"), key + chain)
        self.settle()

    def settle(self) -> None:
        """Finish what a power cut interrupted: put a new certificate in place that came before it."""
        new = self._beside("next")
        if not new.exists():
            return
        self._beside("new-key").unlink(missing_ok=True)
        before = self._beside("before")
        before.unlink(missing_ok=True)
        before.hardlink_to(self.path)
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
        with suppress(ConfigError):
            if now < self._read(before).ends:
                before.replace(self.path)
                sync_folder(self.path.parent)
                return True
        return False

    def _has_new_key(self, pair: bytes) -> bool:
        try:
            return public_key(_content(self._beside("new-key"))) != public_key(pair)
        except ConfigError:
            return False

    def _beside(self, end: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{end}")

    def _read(self, path: Path) -> Known:
        try:
            return Known.read(_content(path), _content(self.ca))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
