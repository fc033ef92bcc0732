"""What is acknowledged is never lost and never counted twice: seeded worlds of an hour, and bugs they must find.

A failing world prints its story and the command that replays it; that command also adds its seed to ``seeds.txt``,
whose worlds are always run. ``make soak`` runs ten thousand of two hours.
"""

from collections import Counter
from functools import partial

import pytest

from harness.world import campaign
from harness.world.found import HOURS, options_of, seed_of, violation_of
from harness.world.planted import BUGS
from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options, Run


def test_worlds_keep_every_promise() -> None:
    runs, counts = [], Counter[str]()
    for seed in campaign.kept():
        run = attempt(seed, Options(hours=HOURS))
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
    seeds = [5, 6, 7]
    short = partial(attempt, options=Options(hours=0.25))
    here = [short(seed) for seed in seeds]
    with campaign.pool() as pool:
        assert list(pool.map(short, seeds)) == here
    assert len({run.digest for run in here if isinstance(run, Run)}) == len(seeds)


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found(name: str) -> None:
    """It must bite in the world that is known to show it; ``make soak`` searches for another one."""
    seed = seed_of(name)
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    print(f"{name}: found in world {seed}: {result.what}")
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
