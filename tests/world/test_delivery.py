"""What is acknowledged is never lost and never counted twice: seeded worlds.

A failing world prints its story and the command that replays it; that command also adds its seed to ``seeds.txt``,
whose worlds ``make test-real`` runs for an hour each. ``make soak`` runs ten thousand of two hours.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import pytest

from harness.world import campaign
from harness.world.campaign import attempt
from harness.world.found import HOURS
from harness.world.story import Violation
from harness.world.world import Options, Run

# Worlds of half an hour that show every count together: a store that is lost, commits that fail, dead letters.
SOME, SOME_HOURS = (34, 67), 0.5


def test_some_worlds_keep_every_promise() -> None:
    keep_every_promise(SOME, SOME_HOURS)


@pytest.mark.real  # half a minute of a core, no programs of others
def test_worlds_that_failed_once_keep_every_promise() -> None:
    keep_every_promise(campaign.kept(), HOURS["readings"])


def keep_every_promise(seeds: Sequence[int], hours: float) -> None:
    """Run worlds; what is rare must be in one of them."""
    runs, counts = [], Counter[str]()
    for seed in seeds:
        run = attempt(seed, Options(hours=hours))
        if isinstance(run, Violation):
            pytest.fail(str(run), pytrace=False)
        runs.append(run)
        counts.update(run.counts)
    assert sum(run.readings for run in runs) > 1_000 * len(runs)
    assert counts["crashes"] > len(runs)
    assert counts["utility stored"] > 10 * len(runs)
    for rare in ("failed commits", "stores lost", "letters", "excused"):
        assert counts[rare], f"no world had {rare}"


def test_the_same_seed_is_the_same_world_in_every_process(
    monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    # New processes begin where this one stands; some test may have left a folder that is gone.
    monkeypatch.chdir(pytestconfig.rootpath)
    seeds = [5, 6]
    # No fault happens in the last ten minutes of measuring: in a shorter world there is none.
    short = partial(attempt, options=Options(hours=0.25))
    here = [short(seed) for seed in seeds]
    with campaign.pool() as pool:
        # Another process, not two: to import all takes longer than the worlds.
        assert list(pool.map(short, seeds, chunksize=len(seeds))) == here
    assert len({run.digest for run in here if isinstance(run, Run)}) == len(seeds)
