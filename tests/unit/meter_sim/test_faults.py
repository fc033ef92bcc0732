"""The faults of a fleet's world: read when they change; a wrong file stops no meter."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from meter_sim.cli import app
from meter_sim.faults import Faults, FaultsFile, load, path_of, save


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


def test_a_fault_for_ever_is_one_until_the_last_second_of_a_record(tmp_path: Path) -> None:
    config = tmp_path / "meters.toml"
    config.write_text('[meters]\nmicrogrid = "r"\ntown = "town.toml"\nbroker = "127.0.0.1:9"\n')
    done = CliRunner().invoke(app, ["feeder", "dead", "--for", "999999999999999", "--config", str(config)])
    assert done.output == "the feeder of r is dead until 2106-02-07 06:28:15Z\n"
    assert load(path_of(tmp_path / "meters.db")).feeder_dead_until == 2**32 - 1
