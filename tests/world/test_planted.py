"""Planted bugs: each is found in the world that is known to show it, and where it is known, by its invariant.

``make test`` plants the one of each invariant that is found soonest; all take minutes, so ``make test-real`` plants
every one. ``make soak`` searches for other worlds.
"""

import pytest

from harness.world.energy.planted import ENERGY_BUGS
from harness.world.found import FOUND_BY_INVARIANT, FOUND_IN_CLIQUE, SOONEST, options_of, seed_of, violation_of
from harness.world.month.planted import MONTH_BUGS
from harness.world.planted import BUGS


@pytest.mark.parametrize("invariant", SOONEST)
def test_planted_bug_of_each_invariant_is_found(invariant: str) -> None:
    assert found(SOONEST[invariant]).startswith(invariant)


@pytest.mark.real  # minutes of a core, no programs of others
@pytest.mark.parametrize("name", [*BUGS, *ENERGY_BUGS, *FOUND_IN_CLIQUE, *MONTH_BUGS])
def test_every_planted_bug_is_found(name: str) -> None:
    assert found(name).startswith(FOUND_BY_INVARIANT.get(name, ("", 0))[0])


def found(name: str) -> str:
    """Return what a world with a planted bug violates."""
    seed = seed_of(name)
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
    return result.what
