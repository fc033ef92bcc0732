"""The faults of a fleet's world: read when they change; a wrong file stops no meter."""

from pathlib import Path

import pytest

from meter_sim.faults import Faults, FaultsFile, path_of, save


def test_faults_are_read_when_they_change_and_a_wrong_file_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = path_of(tmp_path / "meters.db")
    file = FaultsFile(path)
    assert file.read() == Faults()
    save(path, Faults(feeder_dead_until=900))
    assert file.read().feeder_dead_until == 900
    path.write_text("{")
    assert [file.read().feeder_dead_until for _ in range(3)] == [900] * 3
    assert len(caplog.records) == 1
    assert "the faults stay as they were" in caplog.text
    path.unlink()
    assert file.read() == Faults()
