"""Each benchmark still runs, as small as it can be; what it finds then means nothing and is kept nowhere."""

import pytest

from benchmarks.__main__ import BENCHMARKS, benchmark


@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs(name: str) -> None:
    section = benchmark(name, smoke=True)()
    assert section.tables
    for table in section.tables:
        assert table.rows
        assert {len(row) for row in table.rows} == {len(table.columns)}, table.title
