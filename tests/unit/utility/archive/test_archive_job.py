"""The job of the archive and its commands."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError

from commonwatt.config.utility import UtilitySettings
from commonwatt.model.blocks import concatenate, join
from commonwatt.model.exceptions import StoreError
from commonwatt.model.units import QUARTER_S
from harness.real.jobs import compact
from harness.worlds.sent import append, blocks
from utility.alarms.conditions import Facts, conditions
from utility.alarms.store import counted
from utility.archive.jobs import file_months
from utility.archive.metrics import COUNTS
from utility.archive.store.months import months
from utility.database.database import Database
from utility.database.postgres.partitions import first_quarter
from utility.jobs.calendar_periods import Seconds
from utility.jobs.catalogue import catalogue
from utility.jobs.store.job_leases import Turn
from utility.jobs.tables import settlement_due
from utility.overview.store.job_previews import preview
from utility.readings.store import reads
from utility.readings.store.writer import Writer

OLD, NEW = first_quarter((2026, 10)), first_quarter((2026, 12)) + 9
NOW = (NEW + 9) * QUARTER_S


@pytest.fixture
def filed(database: Database, tmp_path: Path) -> Database:
    (tmp_path / "archive").mkdir()
    Writer(database).commit([append(blocks({0: 5, 9: 7}, quarter=quarter)) for quarter in (OLD, OLD + 96, NEW)])
    compact(database, NOW)
    with database.writes.begin() as connection:
        connection.execute(settlement_due.delete())
    return database


def readings(database: Database) -> object:
    return join([concatenate([*reads.all_blocks(database, 0, 2**31 - 1)])]).values.tolist()


def test_the_job_brings_old_months_to_files_in_a_process_of_its_own(filed: Database, url: str, tmp_path: Path) -> None:
    settings = UtilitySettings(database=url, archive=tmp_path / "archive", archive_after_months=1)
    assert "archive" in {plan.name for plan in catalogue(settings)}
    assert "archive" not in {plan.name for plan in catalogue(UtilitySettings())}
    before = readings(filed)
    assert preview(filed, settings, "archive", NOW) == ["would bring 2026-10 to a file"]
    turn = Turn(job="archive", period=Seconds(3600).period_at(NOW), attempt=1, now=NOW)
    asyncio.run(file_months(settings, filed, turn))
    assert preview(filed, settings, "archive", NOW) == ["every month that is old enough is in a file"]
    with filed.reads.begin() as connection:
        (month,) = months(connection)
        figures = {count.name: count.of(connection) for count in COUNTS}
        assert counted(connection, NOW).archive == ()
    assert (month.state, month.rows, month.total) == ("archived", 2, 24)
    assert figures == {
        "archive_bytes": month.file.stat().st_size,
        "archive_until_timestamp_seconds": first_quarter((2026, 11)) * QUARTER_S,
        "archive_damaged_files": 0,
    }
    assert readings(filed) == before
    month.file.unlink()
    with pytest.raises(StoreError, match="mount it"):
        asyncio.run(file_months(settings, filed, turn))
    with filed.reads.begin() as connection:
        (alarm,) = conditions(Facts(counted=counted(connection, NOW)))
    assert alarm.alarm.name == "CommonwattArchiveDamaged"
    assert f"{month.path}: is missing" in alarm.alarm.description


def test_a_person_writes_lists_checks_and_restores_a_month(
    filed: Database, command: Callable[..., str], tmp_path: Path
) -> None:
    before = readings(filed)
    assert "no folder of the archive" in command("archive", "write", "2026-10", code=2)
    with (tmp_path / "utility.toml").open("a") as config:
        config.write('archive = "archive"\n')
    assert "is not over" in command("archive", "write", "2026-12", code=2)
    assert "is no month" in command("archive", "write", "October", code=2)
    assert "2026-10: 2 blocks in blocks-2026-10.parquet" in command("archive", "write", "2026-10")
    assert "archived" in command("archive", "list")
    assert command("archive", "check") == "2026-10: all blocks are sound"
    assert readings(filed) == before
    assert command("archive", "restore", "2026-10") == "2026-10: 2 blocks back in the database"
    assert "is in no file" in command("archive", "restore", "2026-10", code=2)
    assert readings(filed) == before


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"archive_after_months": 2}, "needs a folder"),
        ({"archive_after_months": 6, "archive": "a"}, "less than"),
        ({"archive_after_months": 3, "archive": "a", "archive_keep_months": 3}, "less than"),
    ],
)
def test_settings_that_do_not_fit_are_refused(given: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        UtilitySettings.model_validate(given)
