"""How benchmarks' results are kept and shown."""

from functools import partial
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks
from harness.docs.measured import BEGIN, END, RESULTS, Goal, Section, Table, keep, kept, made_page, measure

SECTION = Section(
    title="Readings made durable",
    about="By one utility.",
    tables=(Table(title="Readings a second", columns=("store", "rate"), rows=(("a|b", "5"),)),),
    goals=(
        Goal(what="whole", value=5_230_000, unit="a second", at_least=5_000_000, limited_by="Never shown."),
        Goal(what="memory", value=120, unit="MB", at_most=100, limited_by="numpy alone takes 30."),
    ),
)


@pytest.mark.real
def test_result_is_kept_and_shown_with_its_machine_and_what_was_missed(tmp_path: Path) -> None:
    result = measure(lambda: SECTION)
    keep("store", result, tmp_path)
    found = kept(["codec", "store"], tmp_path)
    assert found == {"store": result}
    page = made_page(f"# By hand\n\n{BEGIN}\nold\n{END}\nby hand too\n", found)
    assert page == made_page(page, found)
    assert page.startswith("# By hand\n")
    assert page.endswith("by hand too\n")
    assert "old" not in page
    assert "| a\\|b | 5 |" in page
    assert "- whole: 5,230,000 a second; goal at least 5,000,000: met." in page
    assert "- memory: 120 MB; goal at most 100: **missed**. numpy alone takes 30." in page
    assert f"{result.machine.cores} cores of" in page
    assert "`make bench BENCH=store`" in page


def test_results_of_an_own_run_stay_outside_the_project_unless_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result, before = kept(["codec"])["codec"], {path: path.read_bytes() for path in RESULTS.iterdir()}
    folder = tmp_path / "kept"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(benchmarks, "RESULTS", folder)
    # Another process calls it, with the benchmark as the last argument: it returns the result.
    monkeypatch.setattr(benchmarks, "measure", partial(dict.get, {"codec": result}, "codec"))
    benchmarks.main(["codec"])
    assert (tmp_path / "bench-results" / "codec.json").exists()
    assert not folder.exists()
    assert "results are in bench-results" in capsys.readouterr().err
    benchmarks.main(["--keep", "codec"])
    assert [path.name for path in folder.iterdir()] == ["codec.json"]
    assert "make docs" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in RESULTS.iterdir()} == before
