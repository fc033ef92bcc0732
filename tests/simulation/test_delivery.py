"""What is acknowledged is never lost and never counted twice: seeded worlds of two hours, and bugs they must find.

A failing world prints its story and the command that replays it; that command also adds its seed to ``seeds.txt``,
whose worlds are always run. ``make soak`` runs ten thousand.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial

import pytest

from tests.support.simulation import campaign
from tests.support.simulation.planted import BUGS
from tests.support.simulation.story import Violation
from tests.support.simulation.world import Options, Run

SEEDS = int(os.environ.get("SIMULATION_SEEDS", "200"))
CHUNK = 20
FIRST = 1_000
BITE_SEEDS = 100
BITE_HOURS = 1.0


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """One process a core, for all worlds."""
    with campaign.pool() as executor:
        yield executor


@pytest.fixture(scope="module")
def hunts(pool: ProcessPoolExecutor) -> dict[str, "Future[tuple[int, Violation | None]]"]:
    """Look for every planted bug, behind the worlds that are run before them."""
    return {name: pool.submit(_hunt, name) for name in BUGS}


def _run(pool: ProcessPoolExecutor, seeds: list[int]) -> list[Run]:
    """Run worlds on all cores; fail with the story of the first that does."""
    begin = time.perf_counter()
    runs = []
    for result in pool.map(partial(campaign.attempt, options=Options()), seeds):
        if isinstance(result, Violation):
            pytest.fail(str(result), pytrace=False)
        runs.append(result)
    print(f"{len(runs)} worlds, {len(runs) / (time.perf_counter() - begin):.2f} a second")
    return runs


def _hunt(name: str) -> tuple[int, Violation | None]:
    """Return after how many seeds a planted bug was found."""
    for seed in range(1, BITE_SEEDS + 1):
        result = campaign.attempt(seed, Options(hours=BITE_HOURS, bug=name))
        if isinstance(result, Violation):
            return seed, result
    return BITE_SEEDS, None


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_worlds_keep_every_promise(pool: ProcessPoolExecutor, first: int) -> None:
    runs = _run(pool, list(range(first, min(first + CHUNK, FIRST + SEEDS))))
    assert sum(run.readings for run in runs) > 1_000 * len(runs)


def test_worlds_that_are_kept_keep_every_promise(pool: ProcessPoolExecutor) -> None:
    runs = _run(pool, campaign.kept())
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run.counts)
    assert counts["crashes"] > len(runs)
    assert counts["utility stored"] > 10 * len(runs)
    for rare in ("failed commits", "stores lost", "letters", "excused"):
        assert counts[rare], f"no world had {rare}"


def test_the_same_seed_is_the_same_world_in_every_process(pool: ProcessPoolExecutor) -> None:
    seeds = [5, 6, 7]
    options = Options(hours=0.5)
    here = [campaign.attempt(seed, options) for seed in seeds]
    assert list(pool.map(partial(campaign.attempt, options=options), seeds)) == here
    assert len({run.digest for run in here if isinstance(run, Run)}) == len(seeds)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(hunts: dict[str, "Future[tuple[int, Violation | None]]"], name: str) -> None:
    seeds, violation = hunts[name].result()
    assert violation is not None, f"{name}: not found in {BITE_SEEDS} worlds"
    print(f"{name}: found after {seeds} worlds: {violation.what}")
    assert str(violation).endswith(f"replay: {Options(hours=BITE_HOURS, bug=name).command(violation.seed)}")
