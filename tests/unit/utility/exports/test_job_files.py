"""The jobs that write files: a backup of each night that can be restored, and each month's data once it is final."""

import asyncio
import json
import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest

from commonwatt.config.files import check_named_files
from commonwatt.config.utility import BackupSettings, ExportSettings, UtilitySettings
from commonwatt.model.exceptions import ConfigError, StoreError
from harness.docs.marked import DOCS
from utility.assembly.backup.restore import restore
from utility.database.database import Database, open_database
from utility.exports.jobs import back_up, backup_plan, export_month
from utility.jobs.calendar_periods import LocalDay, LocalMonth, Period
from utility.jobs.catalogue import catalogue
from utility.jobs.store.job_leases import NotYetError, Turn
from utility.jobs.tables import settled_day, usage_due
from utility.readings.store import reads

NOW = 1_800_000_000


def turn(job: str, period: Period) -> Turn:
    return Turn(job=job, period=period, attempt=1, now=NOW)


def settings(url: str, folder: Path) -> UtilitySettings:
    folder.mkdir(exist_ok=True)
    return UtilitySettings(
        database=url,
        exports=ExportSettings(folder=folder, what=("settled", "usage", "events"), format="csv"),
        backup=BackupSettings(folder=folder, keep=2),
    )


def test_every_job_is_on_the_page(url: str, tmp_path: Path) -> None:
    page = (DOCS / "operations.md").read_text()
    for plan in catalogue(settings(url, tmp_path / "files")):
        assert f"| `{plan.name}` |" in page, "describe it in docs/operations.md"
        assert all(name in page for name in plan.also)


def test_jobs_of_files_are_there_only_with_a_folder(url: str, tmp_path: Path) -> None:
    names = {plan.name for plan in catalogue(settings(url, tmp_path / "files"))}
    assert names - {plan.name for plan in catalogue(UtilitySettings())} == {"exports", "backup"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            '[utility.exports]\nwhat = ["bills"]',
            "line 3: utility.exports.what.*'settled', 'usage', 'readings' or 'events'",
        ),
        (
            '[utility.backup]\nfolder = "nowhere"',
            "line 3: utility.backup.folder: .*nowhere: No such file or directory; The folder",
        ),
        (
            'database = "postgresql+psycopg:///town"\n[utility.backup]\nfolder = "."',
            "remove backup.folder, which is for an SQLite file; a PostgreSQL database is backed up by pgBackRest, see ",
        ),
    ],
)
def test_wrong_setting_is_told_with_its_line(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "utility.toml"
    file.write_text(f"[utility]\n{text}\n")
    with pytest.raises(ConfigError, match=why):
        check_named_files(file, "utility")


def test_the_newest_backups_are_kept_and_can_be_restored(url: str, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    made = settings(url, folder)
    for name in ("2026-12-30.db", "2027-01-12.db", "2027-01-13.db", "2027-01-10.db.part"):
        (folder / f"utility-{name}").touch()
    (folder / "notes.db").touch()
    night = turn("backup", LocalDay().period_at(NOW))
    asyncio.run(back_up(made, night))
    left = sorted(path.name for path in folder.iterdir())
    assert left == ["notes.db", "utility-2027-01-13.db", "utility-2027-01-15.db"]
    target = folder / "utility-2027-01-15.db"
    was = target.stat().st_mtime_ns
    asyncio.run(back_up(made, night))
    assert target.stat().st_mtime_ns == was, "after a kill between the backup and its mark it is not made again"
    other = tmp_path / "other.db"
    restore(other, target, NOW, Path("utility.toml"), replace=False, tell=lambda *_: None)
    with closing(open_database(f"sqlite:///{other}", create=False)) as restored, restored.reads.begin() as connection:
        assert len(reads.meters(connection, None, 0, 100, 0)) > 0


def test_a_backup_is_never_deleted_for_ones_of_a_clock_that_was_ahead(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    made = settings("sqlite:///town.db", folder)
    for day in ("2027-01-12", "2027-01-13", "2031-01-01", "2031-01-02"):
        (folder / f"utility-{day}.db").touch()
    plan = backup_plan(made, "2027-01-14")
    assert [path.name[8:-3] for path in plan.old] == ["2031-01-01", "2031-01-02", "2027-01-12"]
    assert plan.target not in backup_plan(made, "2026-12-31").old


def test_backup_that_cannot_be_made_says_why_and_deletes_nothing(
    url: str, database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del database
    folder = tmp_path / "backups"
    made = settings(url, folder)
    old = [folder / f"utility-2026-12-{n}.db" for n in (10, 11, 12)]
    for path in old:
        path.touch()
    night = turn("backup", LocalDay().period_at(NOW))
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
        with pytest.raises(StoreError, match=r"1 MB are free, and it may need 6[78] MB"):
            asyncio.run(back_up(made, night))
    assert all(path.exists() for path in old)
    shutil.rmtree(folder)
    with pytest.raises(StoreError, match=r"No such file or directory; see backup\.folder"):
        asyncio.run(back_up(made, night))


def test_a_month_is_exported_once_when_its_days_are_final(url: str, database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "exports"
    made = settings(url, folder)
    month = LocalMonth().period_at(NOW)
    day = {"owner_no": 1, "convention": "pro_rata", "computed": 0, "missing": 1, "residual": "{}"}
    with database.writes.begin() as connection:
        days = range(month.start // 86_400, -(-month.end // 86_400))
        connection.execute(settled_day.insert(), [day | {"day": n, "final": n > days.start} for n in days])
    asyncio.run(export_month(made, database, turn("exports", LocalMonth().period_at(month.start - 90 * 86_400))))
    assert not list(folder.iterdir()), "that was before the town's first day"
    with pytest.raises(NotYetError, match="readings missing in 1 settled day") as waiting:
        asyncio.run(export_month(made, database, turn("exports", month)))
    assert waiting.value.until > NOW
    assert not list(folder.iterdir())
    with database.writes.begin() as connection:
        connection.execute(settled_day.update().values(final=True))
        connection.execute(usage_due.insert().values(day=days.start, owner_no=1, marks=1))
    with pytest.raises(NotYetError, match="not in the months' usage yet"):
        asyncio.run(export_month(made, database, turn("exports", month)))
    with database.writes.begin() as connection:
        connection.execute(usage_due.delete())
    asyncio.run(export_month(made, database, turn("exports", month)))
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.csv")}
    assert [name for name in sorted(files) if not name.startswith("usage")] == [
        "events-2027-01/events-2027-01.csv",
        "settled-2027-01/settled-15min-2027-01.csv",
    ]
    usage = files["usage-2027-01/account-five_years.csv"].read_text()
    assert usage.startswith("scope,name,period,imported_kwh")
    manifest = json.loads((folder / "settled-2027-01" / "export.json").read_text())
    assert manifest["complete"] is True
    assert (manifest["export"]["start"], manifest["export"]["end"]) == (month.start, month.end)
