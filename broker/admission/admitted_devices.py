"""The devices a broker admits, from a file that is read again when it changes: a new meter needs no restart."""

import logging
from collections.abc import Mapping
from pathlib import Path

from broker.metrics import BrokerMetrics
from commonwatt.identity.devices import Device, load_devices
from commonwatt.model.exceptions import ConfigError

_log = logging.getLogger(__name__)


class AdmittedDevices:
    """The devices of ``path``, as of the last time it could be read."""

    def __init__(self, path: Path, metrics: BrokerMetrics) -> None:
        self.path = path  # the devices file
        self.metrics = metrics  # where failures to read it are counted
        self.known: Mapping[str, Device] = {}  # the devices by identity, replaced whole when the file is read
        self._stamp: tuple[int, int, int] | None = None
        self._complaint = ""
        self._unreadable: tuple[int, int, int] | None = None

    def load(self) -> None:
        """Read the file for the first time.

        Raises:
            ConfigError: It can't be used.
        """
        self._read(self._stamp_now())

    def refreshed(self, *, anew: bool = False) -> Mapping[str, Device]:
        """Return the devices, read again if the file changed; an unreadable file leaves the old ones.

        Args:
            anew: Also retry an unchanged file that could not be read before: it may be readable now. Not for a CONNECT,
                as a client could then cause a read at each connection.
        """
        stamp = None
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp and (anew or stamp != self._unreadable):
                self._read(stamp)
                _log.info("devices file changed: %d devices", len(self.known))
        except (ConfigError, OSError) as error:
            self._unreadable = stamp
            self.metrics.devices_file_errors.inc()
            if str(error) != self._complaint:
                self._complaint = str(error)
                _log.error("keeping the %d devices known before: %s", len(self.known), error)
        return self.known

    def _stamp_now(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise ConfigError(f"{self.path}: {error.strerror}; make one with: commonwatt utility register") from error
        # The inode too: the file is replaced whole, perhaps twice within one tick of its clock and at one size.
        return stat.st_mtime_ns, stat.st_size, stat.st_ino

    def _read(self, stamp: tuple[int, int, int]) -> None:
        # Stamped before reading: what changes meanwhile is read the next time.
        self.known = load_devices(self.path)
        self._stamp = stamp
        self._complaint = ""
        self.metrics.devices.set(len(self.known))
