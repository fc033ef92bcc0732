"""The page of benchmarks shows the results that are kept, and each benchmark is one that can be run."""

from benchmarks.__main__ import BENCHMARKS
from benchmarks.report import RESULTS
from harness.docs.generate import DOCS, benchmarks_page


def test_benchmarks_page_shows_the_results_that_are_kept() -> None:
    assert (DOCS / "benchmarks.md").read_text() == benchmarks_page(), "docs/benchmarks.md is out of date: run make docs"


def test_every_result_is_of_a_benchmark() -> None:
    assert {path.stem for path in RESULTS.glob("*.json")} <= BENCHMARKS.keys()
