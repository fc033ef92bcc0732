"""The jobs that write files: the monthly exports, and the nightly backup. Each works in a process of its own."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from commonwatt.model.exceptions import StoreError
from commonwatt.runtime.child import in_child
from utility.database.database import Database, sqlite_path
from utility.exports.store.files import USAGE
from utility.jobs.plans import Period
from utility.jobs.store import NotYetError, Turn
from utility.settings import UtilitySettings
from utility.settlement.store.settled import days_between, first_settled_day, not_final
from utility.statistics.store.usage import oldest_due

LOOK_AGAIN_S = 3_600  # seconds until a month whose data is not final is looked at again
SPARE_BYTES = 64 * 2**20  # space that a backup leaves on its disk

_BACKUP, _EXPORT = "utility.assembly.backup.program", "utility.exports.store.files"

log = logging.getLogger(__name__)


async def export_month(settings: UtilitySettings, database: Database, turn: Turn) -> None:
    """Write what is lacking of a month once its days are final, a folder for each kind of data; finished files stay.

    Raises:
        NotYetError: Readings of the month may still come.
        StoreError: The files can't be written.
    """
    if not has_begun(database, turn.period):
        return
    if (waits_for := exports_wait_for(database, settings, turn.period)) is not None:
        raise NotYetError(waits_for, turn.now + LOOK_AGAIN_S)
    for kind, out in export_folders(settings, turn.period.name).items():
        task = {"url": settings.database, "kind": kind, "out": str(out), "now": turn.now}
        task |= {
            "start": turn.period.start,
            "end": turn.period.end,
            "month": turn.period.name,
            "format": settings.exports.format,
        }
        log.info("export of %s, %s: %s", turn.period.name, kind, await in_child(_EXPORT, task))


def has_begun(database: Database, month: Period) -> bool:
    """Return whether a day was settled before a month's end; else there is nothing to export."""
    begun = database.read(first_settled_day)
    return begun is not None and begun < days_between(month.start, month.end).stop


def exports_wait_for(database: Database, settings: UtilitySettings, month: Period) -> str | None:
    """Return what the export of a month waits for; ``None``: for nothing."""
    days = days_between(month.start, month.end)
    with database.reads.begin() as connection:
        waits_for = not_final(connection, days)
        oldest = oldest_due(connection) if USAGE in settings.exports.what else None
    if waits_for is None and oldest is not None and oldest < days.stop:
        return "settled days that are not in the months' usage yet; the job statistics takes them in"
    return waits_for


def export_folders(settings: UtilitySettings, month: str) -> dict[str, Path]:
    """Return the folder of each kind of data of a month's export."""
    folder = settings.exports.folder
    assert folder is not None, "without a folder there is no such job"
    return {kind: folder / f"{kind}-{month}" for kind in settings.exports.what}


async def back_up(settings: UtilitySettings, turn: Turn) -> None:
    """Make the backup of an SQLite database of a day, if it is not there, and delete the oldest ones, if it is sound.

    Raises:
        StoreError: It can't be made.
    """
    plan = backup_plan(settings, turn.period.name)
    if plan.target.exists():
        return
    path = sqlite_path(settings.database)
    assert path is not None, "the settings refuse a folder for a server's database"
    _require_space(path, plan.target)
    damaged = await in_child(_BACKUP, {"path": str(path), "target": str(plan.target)})
    if damaged != "0":
        log.error("%s: %s of its parts are damaged; no older backup is deleted", plan.target, damaged)
        return
    for old in plan.old:
        old.unlink(missing_ok=True)


@dataclass(frozen=True, kw_only=True)
class BackupPlan:
    """A backup to make."""

    target: Path  # its file
    old: list[Path]  # the files that are deleted after it: older backups, and parts of ones that were stopped


def backup_plan(settings: UtilitySettings, day: str) -> BackupPlan:
    """Return the file of a day's backup, and the files that are deleted after it."""
    folder = settings.backup.folder
    assert folder is not None, "without a folder there is no such job"
    target = folder / f"utility-{day}.db"
    names = "utility-[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9].db"
    others = {*folder.glob(names)} - {target}
    # A later date is of a clock that was ahead: it goes before the oldest.
    by_age = sorted(others, key=lambda path: (path.name < target.name, path.name))
    excess = by_age[: max(0, len(by_age) + 1 - settings.backup.keep)]
    return BackupPlan(target=target, old=[*excess, *folder.glob(f"{names}.part*")])


def _require_space(path: Path, target: Path) -> None:
    """Refuse a backup that would fill the disk."""
    try:
        free = shutil.disk_usage(target.parent).free
        needed = SPARE_BYTES + path.stat().st_size
    except OSError as error:
        raise StoreError(f"{target}: no backup: {error.strerror}; see backup.folder in the settings") from error
    if free < needed:
        raise StoreError(
            f"{target}: no backup: {free / 1e6:,.0f} MB are free, and it may need {needed / 1e6:,.0f} MB; make room, "
            "or keep fewer (backup.keep)"
        )
