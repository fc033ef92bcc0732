"""Weigh tests: the processor seconds of each, with those of its fixtures and of the processes that it started.

``python -m pytest -p harness.weigh -m "smoke or not real"`` weighs them, and ``python -m harness.weigh`` prints
what is heaviest, by file; ``python -m harness.weigh tests`` by test. Processor seconds, unlike ``--durations``,
do not depend on what else the machine does.
"""

import json
import resource
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

KEPT = Path(".venv/weights.jsonl")
_SHOWN = 60  # heaviest files or tests that are printed


def _spent_s() -> float:
    """Return the processor seconds of this process and of its children that have ended."""
    used = [resource.getrusage(which) for which in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def pytest_configure(config: pytest.Config) -> None:
    """Begin anew; processes of pytest-xdist add to one file."""
    if not hasattr(config, "workerinput"):
        KEPT.write_text("")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Weigh a test."""
    before = _spent_s()
    try:
        return (yield)
    finally:
        used, peak = _spent_s() - before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with KEPT.open("a") as file:
            file.write(json.dumps({"test": item.nodeid, "s": round(used, 3), "peak_mb": round(peak)}) + "\n")


def main() -> None:
    """Print the heaviest files, or tests."""
    weights = [json.loads(line) for line in KEPT.read_text().splitlines()]
    sums: dict[str, float] = defaultdict(float)
    for each in weights:
        sums[each["test"] if "tests" in sys.argv[1:] else each["test"].partition("::")[0]] += each["s"]
    for name, spent_s in sorted(sums.items(), key=lambda each: -each[1])[:_SHOWN]:
        print(f"{spent_s:8.2f} s  {name}")
    peak = max(each["peak_mb"] for each in weights)
    print(f"{sum(sums.values()):8.1f} s  {len(weights)} tests; the largest process has had {peak} MB")


if __name__ == "__main__":
    main()
