"""What is acknowledged is never lost and never counted twice: seeded worlds of two hours, and bugs they must find.

A failing world prints its story and the command that replays it. ``SIMULATION_SEEDS=10000 pytest tests/simulation``
runs more of them.
"""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from tests.support.simulation.planted import BUGS, Bug
from tests.support.simulation.story import Violation
from tests.support.simulation.world import Options, Run, simulate

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "24"))
CHUNK = 12
FIRST = 1_000
BITE_SEEDS = 100
BITE_HOURS = 1.0

KEPT = [
    int(line.split()[0])
    for line in (Path(__file__).parent / "seeds.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """One process a core, for all chunks."""
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as executor:
        yield executor


def _try(seed: int) -> Run | str:
    try:
        return simulate(seed)
    except Violation as violation:
        return str(violation)


def _run(pool: ProcessPoolExecutor, seeds: Sequence[int]) -> list[Run]:
    """Run worlds on all cores; fail with the story of the first that does."""
    results = list(pool.map(_try, seeds))
    for result in results:
        if isinstance(result, str):
            pytest.fail(result, pytrace=False)
    return [result for result in results if isinstance(result, Run)]


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_worlds_keep_every_promise(pool: ProcessPoolExecutor, first: int) -> None:
    runs = _run(pool, range(first, min(first + CHUNK, FIRST + SEEDS)))
    assert sum(run.readings for run in runs) > 1_000 * len(runs)


def test_worlds_that_are_kept_keep_every_promise(pool: ProcessPoolExecutor) -> None:
    runs = _run(pool, KEPT)
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run.counts)
    assert counts["crashes"] > len(runs)
    assert counts["utility stored"] > 10 * len(runs)


def test_the_same_seed_is_the_same_world() -> None:
    options = Options(hours=0.5)
    assert simulate(5, options) == simulate(5, options)
    assert simulate(5, options).digest != simulate(6, options).digest


def _find(bug: Bug) -> Violation | None:
    for seed in range(1, BITE_SEEDS + 1):
        try:
            with bug.plant():
                simulate(seed, Options(hours=BITE_HOURS, unsynced=bug.unsynced))
        except Violation as violation:
            return violation
    return None


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    violation = _find(BUGS[name])
    assert violation is not None
    assert f"replay: python -m tests.support.simulation --seed {violation.seed}" in str(violation)
