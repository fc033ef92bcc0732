"""No island closes on a dead line, nothing is shared below a floor: seeded worlds of energy, and bugs they must find.

A failing world prints its story and the command that replays it.
"""

import os
from collections import Counter
from time import process_time

import pytest

from harness.world.energy.planted import ENERGY_BUGS
from harness.world.found import FOUND_IN_ENERGY, HOURS, options_of, violation_of
from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options, Run

SEEDS = int(os.environ.get("ENERGY_SEEDS", "4"))
FIRST = 1_000
SEEN = (
    "dead feeders",
    "islands",
    "returns",
    "slots of sharing",
    "slots of buying",
    "slots of a limit",
    "broadband cuts",
    "crashes",
)


def test_worlds_of_energy_keep_every_promise() -> None:
    """# req: C5, C2, A8, U4"""
    counts: Counter[str] = Counter()
    for seed in range(FIRST, FIRST + SEEDS):
        result = attempt(seed, Options(hours=HOURS, kind="energy"))
        if isinstance(result, Violation):
            pytest.fail(str(result), pytrace=False)
        counts.update(result.counts)
    for seen in SEEN:
        assert counts[seen], f"no world had {seen}"


def test_the_same_seed_is_the_same_world_of_energy() -> None:
    one, other = (attempt(7, Options(hours=0.1, kind="energy")) for _ in range(2))
    assert isinstance(one, Run)
    assert one == other


@pytest.mark.parametrize("name", ENERGY_BUGS)
def test_a_planted_bug_of_energy_is_found(name: str) -> None:
    """It must bite in the world that is known to show it, by the invariant that it breaks."""
    began = process_time()
    invariant, seed = FOUND_IN_ENERGY[name]
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    print(f"{name} | {result.what.splitlines()[0]} | seed {seed} | {process_time() - began:.1f} core-seconds")
    assert result.what.startswith(invariant)
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
