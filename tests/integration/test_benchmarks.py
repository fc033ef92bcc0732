"""Each benchmark runs at its smallest size; the results are meaningless and not stored."""

import pytest

from benchmarks.__main__ import benchmark
from harness.docs.measured import BENCHMARKS


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs(name: str) -> None:
    section = benchmark(name, smoke=True)()
    assert section.tables
    for table in section.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
