"""Each planted bug is found, by the invariant that it breaks, in the world that is known to show it."""

import pytest

from harness.world.energy.planted import ENERGY_BUGS
from harness.world.found import FOUND_BY_INVARIANT, FOUND_IN_CLIQUE, options_of, violation_of
from harness.world.month.planted import MONTH_BUGS


@pytest.mark.parametrize("name", [*ENERGY_BUGS, *FOUND_IN_CLIQUE, *MONTH_BUGS])
def test_a_planted_bug_is_found_by_its_invariant(name: str) -> None:
    invariant, seed = FOUND_BY_INVARIANT[name]
    result = violation_of(name, seed)
    assert result is not None, f"seed {seed} no longer finds it: python -m harness.world.found"
    assert result.what.startswith(invariant)
    assert str(result).endswith(f"replay: {options_of(name).command(seed)}")
