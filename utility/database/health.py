"""Health of the database, as observed by the service; it decides which messages are still accepted."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from commonwatt.model.units import ENOUGH_BYTES, LOW_BYTES, EpochSeconds
from commonwatt.runtime.clock import machine_now
from utility.database.checks import is_away, is_damage, is_full

STORE_DAMAGED = "store_damaged"
DISK_FULL = "disk_full"
DATABASE_AWAY = "database_away"
NO_STANDBY = "no_standby"
ALARMS = (STORE_DAMAGED, DISK_FULL, DATABASE_AWAY, NO_STANDBY)

SAY_AGAIN_S = 60  # seconds between two log lines of a database that does not answer

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiskSpace:
    """A disk's space at its last check."""

    free_bytes: int  # free space
    size_bytes: int  # total size


class Health:
    """Damage, disk space, and a server that does not answer.

    Damage lasts until a restart, which checks everything; a full disk until space is free; an outage of the server
    until it answers. An outage is one log line at its begin, one a minute, and one at its end.

    Args:
        path: The SQLite file; ``None``: the database is on a server with its own disk.
        now: Returns the machine's epoch seconds.
    """

    def __init__(self, path: Path | None, now: Callable[[], float] = machine_now) -> None:
        # The file's disk at the last check; ``None`` before it, and for a server's database.
        self.disk: DiskSpace | None = None
        # Since when the database has not answered, by the machine's clock; ``None``: it answers.
        self.away_since: EpochSeconds | None = None
        # Whether commits wait for a synchronous standby.
        self.waits: Callable[[], bool] = lambda: False
        self._now = now
        self._lock = Lock()
        self._said: float = 0
        self._failures = self._messages = 0
        self._path = path
        self.damaged = False  # whether the database is damaged: nothing is accepted
        self.short = False  # whether too little space is free, in the file and on its disk: no batch is accepted
        self._failed_full = False

    def alarms(self) -> list[str]:
        """Return the alarms that need an operator."""
        standing = {
            STORE_DAMAGED: self.damaged,
            DISK_FULL: self.short or self._failed_full,
            DATABASE_AWAY: self.away_since is not None and not self.waits(),
            NO_STANDBY: self.waits(),
        }
        return [name for name in ALARMS if standing[name]]

    def failed(self, error: BaseException, work: str, messages: int = 0) -> None:
        """Update the health after a database error, and log it.

        Args:
            work: What failed, for the log.
            messages: Messages that are not acknowledged, and so sent again.
        """
        if is_away(error):
            self._away(error, messages)
            return
        log.error("%s failed: %s", work, error)
        if is_full(error):
            self._failed_full = True
        if is_damage(error) and not self.damaged:
            self.damaged = True
            log.error(
                "the database is damaged (%s): nothing is acknowledged any more; stop the service, then %s",
                error,
                "restore a backup of the server's" if self._path is None else "run: commonwatt utility recover",
            )

    def _away(self, error: BaseException, messages: int) -> None:
        with self._lock:
            now = self._now()
            self._failures += 1
            self._messages += messages
            if self.away_since is None:
                self.away_since, self._said = int(now), now
                why = " ".join(str(getattr(error, "orig", None) or error).split())
                log.error("the database does not answer, nothing is acknowledged until it does: %s", why)
            elif now - self._said >= SAY_AGAIN_S:
                self._said = now
                log.error("the database has not answered for %d s: %s", now - self.away_since, self._waiting())

    def _waiting(self) -> str:
        return f"{self._failures} attempts failed, {self._messages} messages were not acknowledged and are sent again"

    def answered(self) -> None:
        """Update the health after the database has answered."""
        if self.away_since is None or self.waits():
            return
        with self._lock:
            if self.away_since is not None:
                log.warning("the database answers again after %d s: %s", self._now() - self.away_since, self._waiting())
            self.away_since, self._failures, self._messages = None, 0, 0

    def committed(self) -> None:
        """Update the health after a successful commit."""
        self._failed_full = False
        self.answered()

    def look(self, within_bytes: int) -> None:
        """Check the free space.

        Args:
            within_bytes: Free space within the file, which is reused before the file grows.

        Raises:
            OSError: The disk's usage can't be read.
        """
        if self._path is None:
            return
        usage = shutil.disk_usage(self._path.absolute().parent)
        self.disk = DiskSpace(usage.free, usage.total)
        free = usage.free + within_bytes
        if free < LOW_BYTES and not self.short:
            log.error("only %d MiB are free in %s and on its disk: no data is accepted", free // 2**20, self._path)
            self.short = True
        elif free >= ENOUGH_BYTES and self.short:
            log.warning("space is free again in %s or on its disk: data is accepted", self._path)
            self.short = False
