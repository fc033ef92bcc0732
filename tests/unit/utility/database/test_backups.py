"""The age of pgBackRest's backups is shown, and what can't be read is shown as bad."""

import json
import os
from pathlib import Path

import pytest
from sqlalchemy import create_engine

from utility.database.metrics import Metrics
from utility.database.postgres.backups import Backups, finished


def backup(repository: int, stop: int, *, error: bool = False) -> dict[str, object]:
    return {"database": {"id": 1, "repo-key": repository}, "error": error, "timestamp": {"start": 1, "stop": stop}}


def info(*backups: dict[str, object]) -> str:
    return json.dumps([{"name": "commonwatt", "repo": [{"key": 1}, {"key": 2}], "backup": backups}])


def test_the_newest_good_backup_of_each_place_counts() -> None:
    assert finished(info(backup(1, 50), backup(1, 90), backup(1, 99, error=True))) == {"1": 90, "2": 0}
    assert finished(info(backup(2, 70), backup(1, 50))) == {"1": 50, "2": 70}


@pytest.mark.parametrize("said", ["", "[]", "{}", "no pgbackrest", '[{"name": "other"}]'])
def test_what_cannot_be_read_counts_as_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    program = tmp_path / "pgbackrest"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    metrics = Metrics()
    backups = Backups("commonwatt", create_engine("sqlite://"), metrics)
    backups.look()
    name = "commonwatt_utility_backup_finished_timestamp_seconds"
    assert metrics.registry.get_sample_value(name, {"repository": "1"}) == 0
    assert metrics.registry.get_sample_value("commonwatt_utility_archive_fails") == 1
    assert "the state of the backups could not be read" in caplog.text
