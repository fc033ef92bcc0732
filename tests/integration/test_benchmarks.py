"""Each benchmark runs at its smallest size; the results are meaningless and not stored."""

import os

import pytest

from benchmarks.__main__ import benchmark
from harness.docs.measured import BENCHMARKS

# Those that start towns, which tests of the same parts start as well; ``make soak`` runs them too.
LONG = {"backlog", "console"}
CHOSEN = [name for name in BENCHMARKS if name not in LONG or os.environ.get("BENCHMARKS") == "all"]


@pytest.mark.parametrize("name", CHOSEN)
def test_benchmark_runs(name: str) -> None:
    section = benchmark(name, smoke=True)()
    assert section.tables
    for table in section.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
