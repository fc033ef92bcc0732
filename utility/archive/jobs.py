"""The job of the archive: it works in a process of its own, since a month of a town takes minutes."""

import logging

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.units import EpochSeconds, Quarter
from commonwatt.runtime.child import in_child
from utility.archive.store.months import months_to_file
from utility.database.database import Database
from utility.jobs.store.job_leases import Turn
from utility.readings.store.retention import Retention

_PROGRAM = "utility.archive.store.archive"

log = logging.getLogger(__name__)


async def file_months(settings: UtilitySettings, database: Database, turn: Turn) -> None:
    """Bring months older than ``archive_after_months`` to files, and delete files of months no longer kept.

    Raises:
        StoreError: A month can't be written; it stays in the database.
    """
    before = files_before(database, settings, turn.now)
    task = {"url": settings.database, "folder": str(settings.archive), "now": turn.now}
    task["held"] = database.held()
    if said := await in_child(_PROGRAM, task | {"before": before or 0}):
        log.info("archive: %s", said)


def files_before(database: Database, settings: UtilitySettings, now: EpochSeconds) -> Quarter | None:
    """Return the quarter before which whole settled months go to files; ``None``: there are no readings."""
    assert settings.archive_after_months is not None, "without it there is no such job"
    return Retention(database, settings.archive_after_months).plan(now)


def months_due(database: Database, settings: UtilitySettings, now: EpochSeconds) -> list[Quarter]:
    """Return the first quarters of the months that would go to files now."""
    before = files_before(database, settings, now)
    if before is None:
        return []
    return database.read(months_to_file, before)
