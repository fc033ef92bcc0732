"""What is acknowledged is never lost and never counted twice: seeded worlds of two hours, and bugs they must find.

A failing world prints its story and the command that replays it; that command also adds its seed to ``seeds.txt``,
whose worlds are always run. ``make soak`` runs ten thousand.
"""

import os
from collections import Counter
from collections.abc import Iterable
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
SAME_SEEDS = [5, 6, 7]
SAME = Options(hours=0.5)


def _hunt(name: str) -> tuple[int, Violation | None]:
    """Return after how many seeds a planted bug was found."""
    for seed in range(1, BITE_SEEDS + 1):
        result = campaign.attempt(seed, Options(hours=BITE_HOURS, bug=name))
        if isinstance(result, Violation):
            return seed, result
    return BITE_SEEDS, None


def _worlds(seeds: Iterable[int], options: Options) -> pytest.MarkDecorator:
    return pytest.mark.background(partial(campaign.attempt, options=options), seeds)


def _good(results: Iterable[Run | Violation]) -> list[Run]:
    """Return the runs; fail with the story of the first that is none."""
    runs = []
    for result in results:
        if isinstance(result, Violation):
            pytest.fail(str(result), pytrace=False)
        runs.append(result)
    return runs


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(some, marks=_worlds(some, Options()), id=f"{some[0]}-{some[-1]}")
        for some in (range(FIRST, FIRST + SEEDS)[at : at + CHUNK] for at in range(0, SEEDS, CHUNK))
    ],
)
def test_worlds_keep_every_promise(seeds: range, results: Iterable[Run | Violation]) -> None:
    runs = _good(results)
    assert len(runs) == len(seeds)
    assert sum(run.readings for run in runs) > 1_000 * len(runs)


@_worlds(campaign.kept(), Options())
def test_worlds_that_are_kept_keep_every_promise(results: Iterable[Run | Violation]) -> None:
    runs = _good(results)
    counts: Counter[str] = Counter()
    for run in runs:
        counts.update(run.counts)
    assert counts["crashes"] > len(runs)
    assert counts["utility stored"] > 10 * len(runs)
    for rare in ("failed commits", "stores lost", "letters", "excused"):
        assert counts[rare], f"no world had {rare}"


@_worlds(SAME_SEEDS, SAME)
def test_the_same_seed_is_the_same_world_in_every_process(results: Iterable[Run | Violation]) -> None:
    here = [campaign.attempt(seed, SAME) for seed in SAME_SEEDS]
    assert list(results) == here
    assert len({run.digest for run in here if isinstance(run, Run)}) == len(SAME_SEEDS)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.background(_hunt, [name])) for name in BUGS])
def test_a_planted_bug_is_found(name: str, results: Iterable[tuple[int, Violation | None]]) -> None:
    ((seeds, violation),) = results
    assert violation is not None, f"{name}: not found in {BITE_SEEDS} worlds"
    print(f"{name}: found after {seeds} worlds: {violation.what}")
    assert str(violation).endswith(f"replay: {Options(hours=BITE_HOURS, bug=name).command(violation.seed)}")
