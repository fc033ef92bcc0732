"""How old the backups of pgBackRest are, and whether the server's log reaches them (docs/stores.md)."""

import json
import logging
import math
import subprocess

from sqlalchemy import Engine, text

from commonwatt.model.units import EpochSeconds
from utility.database.base import SQLAlchemyError
from utility.database.metrics import Metrics

LOOK_S = 60.0  # real seconds between two looks
ANSWER_S = 60  # longest wait for pgBackRest, seconds

_FAILS = text("SELECT coalesce(last_failed_time > last_archived_time, failed_count > 0) FROM pg_stat_archiver")

log = logging.getLogger(__name__)


class Backups:
    """Metrics of the backups; what can't be read counts as no backup, and as a log that is not archived.

    Args:
        stanza: The name of the server in pgBackRest's settings.
        reads: The engine of the server's database.
    """

    def __init__(self, stanza: str, reads: Engine, metrics: Metrics) -> None:
        self._stanza, self._reads = stanza, reads
        self._finished = metrics.gauge(
            "backup_finished_timestamp_seconds",
            "When the newest backup of pgBackRest in a repository was finished, UTC epoch seconds; 0: there is none.",
            "repository",
        )
        self._fails = metrics.gauge("archive_fails", "1 while the server's log is not archived to pgBackRest.")
        self._ends: dict[str, EpochSeconds] = {}
        self.fails = False  # whether the server's log is not archived, at the last look

    def look(self) -> None:
        """Read the state; a failure is logged."""
        found, fails = dict.fromkeys(self._ends or ("1",), 0), True
        try:
            found |= finished(self._info())
            with self._reads.begin() as connection:
                fails = bool(connection.execute(_FAILS).scalar_one())
        except (OSError, subprocess.SubprocessError, ValueError, LookupError, SQLAlchemyError) as error:
            log.warning("the state of the backups could not be read: %s", error)
        self._ends, self.fails = found, fails
        for repository, at in found.items():
            self._finished.labels(repository).set(at)
        self._fails.set(fails)

    def ages_s(self, now: float) -> dict[str, float]:
        """Return the age of the newest backup in each repository at the last look; infinite: there is none."""
        return {repository: now - at if at else math.inf for repository, at in self._ends.items()}

    def _info(self) -> str:
        command = ["pgbackrest", f"--stanza={self._stanza}", "--output=json", "info"]
        return subprocess.run(command, capture_output=True, text=True, timeout=ANSWER_S, check=True).stdout


def finished(info: str) -> dict[str, EpochSeconds]:
    """Return, by repository, when its newest backup without an error was finished; 0: it has none.

    Args:
        info: What ``pgbackrest --output=json info`` prints of one stanza.

    Raises:
        ValueError: It is no JSON.
        LookupError: It is another program's.
    """
    (stanza,) = json.loads(info)
    found = {str(repository["key"]): 0 for repository in stanza["repo"]}
    for backup in stanza["backup"]:
        if not backup["error"]:
            repository, stop = str(backup["database"]["repo-key"]), int(backup["timestamp"]["stop"])
            found[repository] = max(found[repository], stop)
    return found
