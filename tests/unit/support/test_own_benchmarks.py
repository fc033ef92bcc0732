"""A run of benchmarks changes no file of the project, unless its results are to be kept."""

from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from harness.docs.measured import RESULTS, kept


def test_results_of_an_own_run_stay_outside_the_project_unless_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, before = kept(["codec"])["codec"], {path: path.read_bytes() for path in RESULTS.iterdir()}
    folder = tmp_path / "kept"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "RESULTS", folder)
    monkeypatch.setattr(benchmarks, "measure", lambda _: result)
    benchmarks.main(["codec"])
    assert (tmp_path / "bench-results" / "codec.json").exists()
    assert not folder.exists()
    assert "results are in bench-results" in capsys.readouterr().err
    benchmarks.main(["--keep", "codec"])
    assert [path.name for path in folder.iterdir()] == ["codec.json"]
    assert "make docs" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in RESULTS.iterdir()} == before
