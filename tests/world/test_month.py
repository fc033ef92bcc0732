"""Bills are what was measured, and files show nothing else: seeded worlds at a month's end, and bugs they must find."""

import pytest

from harness.world.month.planted import MONTH_BUGS
from harness.world.run import attempt
from harness.world.story import Violation
from harness.world.world import Options

FOUND_AT = {"shared energy is credited": 1, "a quarter is billed in two months": 1}
"""A seed that finds the bug soon, by its name."""


@pytest.mark.parametrize("name", FOUND_AT)
def test_a_planted_bug_of_money_is_found(name: str) -> None:
    assert name in MONTH_BUGS
    result = attempt(FOUND_AT[name], Options(hours=1.0, kind="month", bug=name))
    assert isinstance(result, Violation)
    assert result.invariant == "M1"
