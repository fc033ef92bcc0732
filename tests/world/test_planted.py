"""Planted bugs: each is found, by the invariant that it breaks, in the world that is known to show it.

``make test`` plants the one of each invariant that is found soonest; all take minutes, so ``make test-real`` plants
every one. ``make soak`` searches for other worlds.
"""

import pytest

from harness.world.energy.planted import ENERGY_BUGS
from harness.world.found import FOUND, FOUND_IN_CLIQUE, SOONEST, options_of, violation_of
from harness.world.month.planted import MONTH_BUGS
from harness.world.planted import BUGS


def test_every_planted_bug_has_a_world_and_every_invariant_one_that_is_found_soon() -> None:
    assert FOUND.keys() == {*BUGS, *ENERGY_BUGS, *FOUND_IN_CLIQUE, *MONTH_BUGS}
    assert SOONEST.keys() == {invariant for invariant, _ in FOUND.values()}


@pytest.mark.parametrize("invariant", SOONEST)
def test_planted_bug_of_each_invariant_is_found(invariant: str) -> None:
    assert found(SOONEST[invariant]) == invariant


@pytest.mark.real  # minutes of a core, no programs of others
@pytest.mark.parametrize("name", FOUND)
def test_every_planted_bug_is_found(name: str) -> None:
    assert found(name) == FOUND[name][0]


def found(name: str) -> str:
    """Return the invariant that a world with a planted bug violates."""
    seed = FOUND[name][1]
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
    return result.invariant
